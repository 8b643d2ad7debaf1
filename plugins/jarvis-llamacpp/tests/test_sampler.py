"""Choosing tokens, against a plain definition over the whole vocabulary."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from jarvis_core import EngineError, SamplingParams
from jarvis_llamacpp.filters import Row, top_ids
from jarvis_llamacpp.sampler import Sampler

VOCABULARY = 5000


def logits(seed: int = 0, *, spread: float = 4.0) -> Row:
    rng = np.random.default_rng(seed)
    return rng.normal(0, spread, VOCABULARY).astype(np.float32)


def sampler(
    *, prompt: tuple[int, ...] = (), end_ids: tuple[int, ...] = (), **params: Any
) -> Sampler:
    return Sampler(SamplingParams(**params), prompt=prompt, end_ids=end_ids)


def probabilities(
    row: Row, *, temperature: float, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> npt.NDArray[np.float64]:
    """What each token's probability is, by the definition of each filter in turn."""
    values = row.astype(np.float64) / temperature
    shares: npt.NDArray[np.float64] = np.exp(values - values.max())
    shares[shares < min_p] = 0
    if top_k:
        shares[shares < np.sort(shares)[-top_k]] = 0
    shares /= shares.sum()
    order = np.argsort(-shares, kind="stable")
    before = np.concatenate([[0.0], shares[order].cumsum()[:-1]])
    shares[order[before >= top_p]] = 0
    shares /= shares.sum()
    return shares


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 1.0},
        {"temperature": 0.4},
        {"temperature": 3.0},
        {"temperature": 1.0, "top_k": 5},
        {"temperature": 1.0, "top_k": 400},
        {"temperature": 1.0, "top_p": 0.7},
        {"temperature": 2.0, "top_p": 0.999},
        {"temperature": 1.0, "min_p": 0.1},
        {"temperature": 1.5, "top_k": 20, "top_p": 0.8, "min_p": 0.02},
        {"temperature": 1.0, "min_p": 0.01, "top_p": 0.5},
    ],
)
def test_tokens_come_as_often_as_their_probability_says(params: dict[str, Any]) -> None:
    row = logits()
    expected = probabilities(row, **params)
    choose = sampler(seed=1, **params).choose
    draws = 3000
    found = Counter(choose(row.copy()) for _ in range(draws))

    assert all(expected[token] > 0 for token in found)
    for token in np.argsort(-expected)[:8]:
        share = expected[token]
        slack = 5 * math.sqrt(draws * share * (1 - share)) + 1
        assert abs(found[int(token)] - draws * share) <= slack


def test_unlikely_tokens_are_drawn_too() -> None:
    row = np.zeros(VOCABULARY, np.float32)
    row[0] = 5.0  # a thousandth each for the others, together 97 %
    found = Counter(sampler(seed=i).choose(row.copy()) for i in range(400))

    assert found[0] < 40
    assert len(found) > 300


def test_greedy_takes_the_likeliest() -> None:
    row = logits()
    greedy = sampler(temperature=0.0)

    assert greedy.plain
    assert greedy.choose(row) == row.argmax()


def test_a_temperature_next_to_nothing_is_greedy() -> None:
    assert sampler(temperature=1e-6).plain


def test_a_seed_repeats_and_another_one_differs() -> None:
    row = logits(spread=1.0)
    runs = [
        [choose(row.copy()) for _ in range(20)]
        for choose in (sampler(seed=s).choose for s in (3, 3, 4, 2**63))
    ]

    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_continuations_of_one_request_draw_differently() -> None:
    row = logits(spread=1.0)
    params = SamplingParams(seed=3)
    runs = []
    for index in (0, 1, 1):
        each = Sampler(params, prompt=(), end_ids=(), index=index)
        runs.append([each.choose(row.copy()) for _ in range(20)])

    assert runs[0] != runs[1]
    assert runs[1] == runs[2]


def test_a_continuation_draws_as_one_alone_with_the_next_seed() -> None:
    row = logits(spread=1.0)
    third = Sampler(SamplingParams(seed=2**63 - 1), prompt=(), end_ids=(), index=2)
    alone = Sampler(SamplingParams(seed=1), prompt=(), end_ids=())

    runs = [[each.choose(row.copy()) for _ in range(20)] for each in (third, alone)]
    assert runs[0] == runs[1]


def test_a_bias_changes_the_choice() -> None:
    row = logits()
    biased = sampler(temperature=0.0, logit_bias={17: 100.0, int(row.argmax()): -100.0})

    assert not biased.plain
    assert biased.choose(row) == 17


def test_ends_are_impossible_before_min_tokens() -> None:
    row = logits()
    end = int(row.argmax())
    held = sampler(temperature=0.0, min_tokens=2, end_ids=(end,))

    assert [held.choose(row.copy()) == end for _ in range(4)] == [False, False, True, True]


def test_presence_is_taken_off_once_and_frequency_each_time() -> None:
    row = np.zeros(10, np.float32)
    row[4], row[5] = 3.0, 1.5
    presence = sampler(temperature=0.0, presence_penalty=2.0)
    frequency = sampler(temperature=0.0, frequency_penalty=1.0)

    assert [presence.choose(row.copy()) for _ in range(4)] == [4, 5, 4, 4]
    assert [frequency.choose(row.copy()) for _ in range(5)] == [4, 4, 5, 4, 5]


def test_presence_and_frequency_do_not_look_at_the_prompt() -> None:
    row = np.zeros(10, np.float32)
    row[4] = 1.0
    chosen = sampler(
        temperature=0.0, presence_penalty=2.0, frequency_penalty=2.0, prompt=(4, 4)
    ).choose(row)

    assert chosen == 4


def test_repetition_shrinks_tokens_of_prompt_and_output() -> None:
    row = np.array([-1.0, 4.0, 3.0, 2.5], np.float32)
    repeating = sampler(temperature=0.0, repetition_penalty=2.0, prompt=(1,))

    assert [repeating.choose(row.copy()) for _ in range(3)] == [2, 3, 1]


def test_repetition_makes_negative_logits_more_negative() -> None:
    row = np.array([-1.0, -1.5], np.float32)

    assert sampler(temperature=0.0, repetition_penalty=2.0, prompt=(0,)).choose(row) == 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_logits_that_are_no_numbers_are_an_error(value: float, temperature: float) -> None:
    row = np.full(VOCABULARY, value, np.float32)

    with pytest.raises(EngineError, match="no valid probabilities"):
        sampler(temperature=temperature).choose(row)


def test_impossible_tokens_are_never_drawn() -> None:
    row = np.full(VOCABULARY, -np.inf, np.float32)
    row[[3, 9]] = 0.0
    for params in ({}, {"top_k": 50}, {"top_p": 0.99}, {"min_p": 0.01}):
        choose = sampler(seed=1, **params).choose
        assert {choose(row.copy()) for _ in range(40)} == {3, 9}


@pytest.mark.parametrize("count", [1, 2, 40, 1000, VOCABULARY - 1, VOCABULARY, VOCABULARY + 1])
def test_top_ids_are_the_largest(count: int) -> None:
    row = logits()
    expected = set(np.argsort(-row)[:count].tolist())

    assert set(top_ids(row, float(row.max()), count).tolist()) == expected


def test_top_ids_keep_all_that_are_equal_to_the_last() -> None:
    row = np.array([5, 3, 3, 3, 1], np.float32)

    assert set(top_ids(row, 5.0, 2).tolist()) == {0, 1, 2, 3}

"""DRY, against its definition."""

from __future__ import annotations

import random

import numpy as np
import pytest

from jarvis_llamacpp.dry import DryPenalty
from jarvis_llamacpp.params import DryParams

PIECES = tuple(bytes([i]) for i in range(128))


def penalties(params: DryParams, text: str, prompt: int | None = None) -> dict[str, float]:
    """What each letter costs after a text, its first letters being the prompt."""
    ids = list(text.encode())
    prompt = len(ids) if prompt is None else prompt
    dry = DryPenalty(params, ids[:prompt], PIECES)
    for token in ids[prompt:]:
        dry.add(token)
    row = np.zeros(len(PIECES), np.float32)
    dry.apply(row)
    return {chr(i): -float(row[i]) for i in np.flatnonzero(row)}


def by_definition(params: DryParams, text: str) -> dict[str, float]:
    start = 0 if params.penalty_last_n < 0 else max(0, len(text) - params.penalty_last_n)
    window = text[start:]
    since = len(text)
    for breaker in params.sequence_breakers:
        if breaker in text:
            since = min(since, len(text) - text.rindex(breaker) - len(breaker))
    found: dict[str, float] = {}
    for at in range(len(window) - 1):
        length = 0
        while length < min(at + 1, since) and window[at - length] == window[-1 - length]:
            length += 1
        if length >= max(1, params.allowed_length):
            cost = params.multiplier * params.base ** (length - params.allowed_length)
            found[window[at + 1]] = max(found.get(window[at + 1], 0.0), cost)
    return found


@pytest.mark.parametrize(
    "params",
    [
        DryParams(multiplier=0.8),
        DryParams(multiplier=1.0, base=2.0, allowed_length=1),
        DryParams(multiplier=1.0, allowed_length=0, sequence_breakers=()),
        DryParams(multiplier=1.0, allowed_length=3, penalty_last_n=12),
        DryParams(multiplier=1.0, allowed_length=1, sequence_breakers=("b", "ca")),
        DryParams(multiplier=0.5, base=1.0, allowed_length=1),
    ],
)
def test_costs_are_those_of_the_definition(params: DryParams) -> None:
    rng = random.Random(7)
    for _ in range(200):
        text = "".join(rng.choice("abc") for _ in range(rng.randint(1, 40)))
        expected = by_definition(params, text)
        assert penalties(params, text) == pytest.approx(expected, rel=1e-5), text
        assert penalties(params, text, len(text) // 2) == pytest.approx(expected, rel=1e-5), text


def test_breakers_end_repetitions() -> None:
    params = DryParams(multiplier=1.0, base=2.0)

    assert penalties(params, "abcd abc") == {"d": 2.0}
    assert penalties(params, "a*cd a*c") == {}
    assert penalties(params, "a*bcd a*bc") == {"d": 1.0}


def test_a_breaker_may_span_tokens() -> None:
    params = DryParams(multiplier=1.0, allowed_length=1, sequence_breakers=("xyz",))

    assert penalties(params, "abxyz.abxyz") == {}
    assert penalties(params, "abxy.abxy") != {}


def test_a_long_repetition_costs_no_more_than_can_be_counted() -> None:
    costs = penalties(DryParams(multiplier=1e6, base=1e6), "a" * 3000)

    assert costs == {"a": pytest.approx(1e9)}

from __future__ import annotations

import math
from typing import Any

import pytest

from jarvis_core import RequestError, SamplingParams, check_sampling


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"temperature": math.nan},
        {"top_p": 1.1},
        {"top_p": math.nan},
        {"min_p": -0.1},
        {"typical_p": 1.1},
        {"top_k": -2},
        {"repetition_penalty": 0.0},
        {"presence_penalty": 3.0},
        {"frequency_penalty": -3.0},
        {"frequency_penalty": math.nan},
        {"min_tokens": -1},
        {"max_tokens": -1},
        {"seed": 2**63},
        {"logit_bias": {100: 1.0}},
        {"logit_bias": {-1: 1.0}},
        {"logit_bias": {1: math.inf}},
        {"stop_token_ids": (1, 100)},
        {"stop_token_ids": (-1,)},
    ],
)
def test_values_that_cannot_be_are_refused_by_name(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        check_sampling(SamplingParams(**changes), 100)

    assert caught.value.param == next(iter(changes))


def test_neutral_and_extreme_values_are_allowed() -> None:
    check_sampling(SamplingParams(), 100)
    check_sampling(
        SamplingParams(
            temperature=2.0,
            top_p=0.0,
            top_k=-1,
            min_p=1.0,
            max_tokens=0,
            seed=-(2**63),
            logit_bias={99: -100.0},
            stop_token_ids=(0, 99),
        ),
        100,
    )

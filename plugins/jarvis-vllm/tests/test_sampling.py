from __future__ import annotations

from typing import Any

from jarvis_core import Constraint, GenerationRequest, Prompt, SamplingParams
from jarvis_vllm.sampling import sampling_values

NEUTRAL = {
    "temperature": 1.0,
    "max_tokens": 9,
    "detokenize": False,
    "skip_special_tokens": False,
}


def values(index: int = 0, **changes: Any) -> dict[str, Any]:
    others = {
        name: changes.pop(name)
        for name in ("n", "logprobs", "prompt_logprobs", "constraint")
        if name in changes
    }
    request = GenerationRequest(
        id="r", prompt=Prompt(), sampling=SamplingParams(**changes), **others
    )
    return sampling_values(request, index=index, max_tokens=9, controls={"<end>": 7})


def test_what_is_neutral_stays_out() -> None:
    assert values() == NEUTRAL


def test_names_are_vllms() -> None:
    found = values(
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        min_p=0.1,
        repetition_penalty=1.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        logit_bias={3: 1.0},
        stop_token_ids=(4, 4),
        bad_words=("no",),
        min_tokens=2,
        ignore_eos=True,
        seed=1,
        logprobs=0,
        prompt_logprobs=2,
    )

    assert found == {
        **NEUTRAL,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "logit_bias": {3: 1.0},
        "stop_token_ids": [4],
        "bad_words": ["no"],
        "min_tokens": 2,
        "ignore_eos": True,
        "seed": 1,
        "logprobs": 0,
        "prompt_logprobs": 2,
    }


def test_each_continuation_has_a_seed_of_its_own_and_the_first_the_prompt_logprobs() -> None:
    found = [values(index, seed=2**63 - 1, prompt_logprobs=1) for index in range(2)]

    assert [v["seed"] for v in found] == [2**63 - 1, 0]
    assert [v.get("prompt_logprobs") for v in found] == [1, None]
    assert values(seed=-1)["seed"] >= 0, "-1 means no seed to vLLM"


def test_stop_strings_are_looked_for_here_and_control_tokens_by_vllm_too() -> None:
    found = values(stop=("END", "<end>"))

    assert "stop" not in found
    assert found["stop_token_ids"] == [7]


def test_a_constraint_alone_decides_when_its_text_is_complete() -> None:
    constraint = Constraint(kind="regex", value="a")

    assert values(constraint=constraint, min_tokens=5, ignore_eos=True) == NEUTRAL


def test_the_least_top_p_is_above_zero() -> None:
    assert values(top_p=0.0)["top_p"] == 1e-6

"""Sampling params as vLLM wants them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jarvis_core import GenerationRequest


def sampling_values(
    request: GenerationRequest, *, index: int, max_tokens: int, controls: Mapping[str, int]
) -> dict[str, Any]:
    """Arguments of vLLM's ``SamplingParams`` for one continuation; what is neutral stays out.

    Stop strings are looked for by Jarvis. Those that are control tokens are given to vLLM as token
    ids too, so that it ends by itself.

    Args:
        request: The request.
        index: Which of its continuations; each has random numbers of its own.
        max_tokens: Tokens that it may generate.
        controls: Ids of control tokens by their text.
    """
    params = request.sampling
    ends = [*params.stop_token_ids, *(controls[s] for s in params.stop if s in controls)]
    values: dict[str, Any] = {
        "temperature": params.temperature,
        "max_tokens": max_tokens,
        "detokenize": False,
        "skip_special_tokens": False,
    }
    # Zero is what a client means that sends the least there is; vLLM allows what is above it.
    optional: dict[str, tuple[Any, Any]] = {
        "top_p": (max(params.top_p, 1e-6), 1.0),
        "top_k": (params.top_k, 0),
        "min_p": (params.min_p, 0.0),
        "repetition_penalty": (params.repetition_penalty, 1.0),
        "presence_penalty": (params.presence_penalty, 0.0),
        "frequency_penalty": (params.frequency_penalty, 0.0),
        "logit_bias": (dict(params.logit_bias), {}),
        "stop_token_ids": (list(dict.fromkeys(ends)), []),
        "bad_words": (list(params.bad_words), []),
        "logprobs": (request.logprobs, None),
        "prompt_logprobs": (request.prompt_logprobs if index == 0 else None, None),
    }
    if params.seed is not None:
        optional["seed"] = (_seed(params.seed, index), None)
    if request.constraint is None:
        # Otherwise the constraint decides when the text is complete.
        optional["min_tokens"] = (min(params.min_tokens, max_tokens), 0)
        optional["ignore_eos"] = (params.ignore_eos, False)
    values |= {name: value for name, (value, neutral) in optional.items() if value != neutral}
    return values


def _seed(seed: int, index: int) -> int:
    """The seed of a continuation; -1 means none to vLLM and 64 bits are all it takes."""
    return (seed + index) % 2**63

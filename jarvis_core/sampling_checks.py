"""What every engine refuses in sampling params: values out of bounds, tokens that there are not."""

from __future__ import annotations

import math
from collections.abc import Mapping

from jarvis_core.errors import RequestError
from jarvis_core.structs import SamplingParams

BOUNDS: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "top_k": (-1, 2**31 - 1),
    "repetition_penalty": (1e-6, 1e6),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "min_tokens": (0, math.inf),
    "max_tokens": (0, math.inf),
    "seed": (-(2**63), 2**63 - 1),
}
"""From where to where each number goes."""


def check_sampling(params: SamplingParams, vocab_size: int) -> None:
    """Refuse values that no engine can work with; ``extra`` is each engine's own.

    Args:
        params: Sampling params.
        vocab_size: Token ids are below this.

    Raises:
        RequestError: It names the parameter.
    """
    for name, (least, most) in BOUNDS.items():
        value = getattr(params, name)
        if value is not None and not least <= value <= most:
            raise RequestError(f"{name} is {value}, it must be from {least} to {most}", param=name)
    for name, ids in (
        ("logit_bias", params.logit_bias.keys()),
        ("stop_token_ids", params.stop_token_ids),
    ):
        for token_id in ids:
            if not 0 <= token_id < vocab_size:
                raise RequestError(
                    f"token id {token_id} is not in the vocabulary of {vocab_size:,} tokens",
                    param=name,
                )
    if not all(math.isfinite(bias) for bias in params.logit_bias.values()):
        raise RequestError("a logit bias must be a finite number", param="logit_bias")

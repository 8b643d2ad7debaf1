"""Settings of sampling: what counts for one model where a request does not say."""

from __future__ import annotations

import math
from typing import Any

from attrs import asdict, frozen

from jarvis_core.sampling_checks import BOUNDS
from jarvis_core.settings.fields import setting

SAMPLING_PREFIX = "JARVIS_SAMPLING_"


def _default(name: str, help: str) -> Any:  # noqa: A002  # as in ``setting``
    least, most = BOUNDS[name]
    return setting(default=None, ge=least, le=None if most == math.inf else most, help=help)


@frozen(kw_only=True)
class SamplingSettings:
    """``JARVIS_SAMPLING_<FIELD>``, or the section ``[models.<name>.sampling]``."""

    temperature: float | None = _default(
        "temperature", "Scale of randomness; 0 always takes the likeliest token"
    )
    top_p: float | None = _default("top_p", "Share of probability that tokens are chosen from")
    top_k: int | None = _default("top_k", "Tokens that one is chosen from; 0 is all")
    min_p: float | None = _default("min_p", "Least probability, relative to the likeliest token's")
    typical_p: float | None = _default("typical_p", "Locally typical sampling; 1 is off")
    repetition_penalty: float | None = _default(
        "repetition_penalty", "Factor over tokens of prompt and answer; 1 is off"
    )
    presence_penalty: float | None = _default(
        "presence_penalty", "Subtracted once per token already generated"
    )
    frequency_penalty: float | None = _default(
        "frequency_penalty", "Subtracted per occurrence already generated"
    )
    max_tokens: int | None = setting(
        default=None,
        ge=1,
        le=2**31 - 1,
        help="Tokens of a chat's answer at most, fewer where the context has less room; unset is "
        "as many as it has room for",
    )
    from_model: bool = setting(
        default=True,
        help="Take what is not set from the model's own files, where its publisher recommends it",
    )

    @property
    def given(self) -> dict[str, float]:
        """What is set, by the name of the sampling parameter."""
        values = asdict(self)
        return {n: v for n, v in values.items() if n != "from_model" and v is not None}

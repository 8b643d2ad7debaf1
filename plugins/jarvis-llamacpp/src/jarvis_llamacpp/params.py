"""Sampling params that are llama.cpp's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from jarvis_core import RequestError, Scalar

EXTRA: Mapping[str, tuple[float, float]] = {
    "dry_multiplier": (0, 1e6),
    "dry_base": (1, 1e6),
    "dry_allowed_length": (0, 2**31 - 1),
    "dry_penalty_last_n": (-1, 2**31 - 1),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    "mirostat": (0, 2),
    "mirostat_tau": (0, 1e3),
    "mirostat_eta": (0, 1e3),
}
"""Numbers in ``SamplingParams.extra``, and from where to where they go."""

_WHOLE = ("dry_allowed_length", "dry_penalty_last_n", "mirostat")

_BREAKERS = ("\n", ":", '"', "*")


@frozen(kw_only=True)
class DryParams:
    """How repetitions are penalized.

    Attributes:
        multiplier: Taken from the logit of what goes on with the shortest repetition.
        base: Factor for each further token of the repetition.
        allowed_length: Tokens of a repetition that cost ``multiplier``; shorter ones are free.
        penalty_last_n: Tokens looked at; -1 is all.
        sequence_breakers: Texts that no repetition goes across.
    """

    multiplier: float
    base: float = 1.75
    allowed_length: int = 2
    penalty_last_n: int = -1
    sequence_breakers: tuple[str, ...] = _BREAKERS


@frozen(kw_only=True)
class XtcParams:
    """How top choices are excluded.

    Attributes:
        probability: How often, in (0, 1].
        threshold: Probability from which a token is a top choice.
    """

    probability: float
    threshold: float = 0.1


@frozen(kw_only=True)
class MirostatParams:
    """How surprise is steered.

    Attributes:
        version: 1 or 2.
        tau: Bits of surprise aimed at.
        eta: How fast the limit follows.
    """

    version: int
    tau: float = 5.0
    eta: float = 0.1


@frozen(kw_only=True)
class Extra:
    """What ``SamplingParams.extra`` asks for; None is off."""

    dry: DryParams | None = None
    xtc: XtcParams | None = None
    mirostat: MirostatParams | None = None


def read_extra(extra: Mapping[str, Scalar]) -> Extra:
    """The extra params with their defaults.

    Raises:
        RequestError: A name is not known, or a value cannot be.
    """
    if not extra:
        return Extra()
    numbers = {n: _number(n, v) for n, v in extra.items() if n != "dry_sequence_breakers"}
    dry = {n.removeprefix("dry_"): v for n, v in numbers.items() if n.startswith("dry_")}
    if "dry_sequence_breakers" in extra:
        dry["sequence_breakers"] = _breakers(extra["dry_sequence_breakers"])
    xtc = {n.removeprefix("xtc_"): v for n, v in numbers.items() if n.startswith("xtc_")}
    mirostat = {n.removeprefix("mirostat_"): v for n, v in numbers.items() if "mirostat_" in n}
    return Extra(
        dry=DryParams(**dry) if dry.get("multiplier") and dry.get("penalty_last_n") != 0 else None,
        xtc=XtcParams(**xtc) if xtc.get("probability") else None,
        mirostat=MirostatParams(version=numbers["mirostat"], **mirostat)
        if numbers.get("mirostat")
        else None,
    )


def _number(name: str, value: Scalar) -> Any:
    if name not in EXTRA:
        raise RequestError(f"{name} is not a parameter of this engine", param=name)
    least, most = EXTRA[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise RequestError(f"{name} must be a number from {least:g} to {most:g}", param=name)
    if name not in _WHOLE:
        return float(value)
    if value != int(value):
        raise RequestError(f"{name} must be a whole number", param=name)
    return int(value)


def _breakers(value: Scalar) -> tuple[str, ...]:
    """They travel as JSON text, because extra params are scalars."""
    try:
        found = json.loads(str(value))
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(b, str) and b for b in found):
        raise RequestError(
            "dry_sequence_breakers must be a list of strings that are not empty",
            param="dry_sequence_breakers",
        )
    return tuple(found)

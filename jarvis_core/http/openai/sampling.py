"""The sampling parameters of a request as the core's ``SamplingParams``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import orjson

from jarvis_core.errors import RequestError
from jarvis_core.http.openai.parameter_table import ParameterTable
from jarvis_core.http.openai.parameters import SAMPLING
from jarvis_core.http.openai.wire import SamplingBody
from jarvis_core.models.sampling import CHOOSING
from jarvis_core.structs import ModelInfo, SamplingParams, Scalar

MAX_BIASES = 65_536
"""Entries of ``logit_bias``."""

LEAST_SHARE = 1e-9
"""Probability kept where a request asks for none: the likeliest token is always kept."""

_table = ParameterTable(*SAMPLING)
_EXTRA = (
    "dry_multiplier",
    "dry_base",
    "dry_allowed_length",
    "dry_penalty_last_n",
    "xtc_probability",
    "xtc_threshold",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
)


def sampling_params(
    body: SamplingBody, model: ModelInfo, *, max_tokens: int | None
) -> SamplingParams:
    """How the request wants tokens to be chosen; what it does not say, the model's defaults do.

    Args:
        body: What it says.
        model: Its model.
        max_tokens: Tokens generated at most; each route has its own name for it.

    Raises:
        RequestError: A token id is not in the model's vocabulary.
    """
    for i, token in enumerate(body.stop_token_ids or ()):
        check_token(token, f"stop_token_ids[{i}]", model)
    return SamplingParams(
        **_choosing(body, model),
        logit_bias=_logit_bias(body, model),
        seed=body.seed,
        max_tokens=max_tokens,
        min_tokens=body.min_tokens or 0,
        stop=stop_strings(body),
        stop_token_ids=body.stop_token_ids or (),
        bad_words=body.bad_words or (),
        ignore_eos=bool(body.ignore_eos),
        extra=_extra(body),
    )


def _choosing(body: SamplingBody, model: ModelInfo) -> dict[str, Any]:
    """The numbers that choose a token: the request's own, else the model's default."""
    said = {name: getattr(body, name) for name in CHOOSING}
    numbers = {name: model.sampling.get(name) if v is None else v for name, v in said.items()}
    # Neutral where nobody says anything; 0 is allowed for shares and means as little as can be.
    least = {"top_p": LEAST_SHARE, "typical_p": LEAST_SHARE, "top_k": 0}
    return {
        name: max(value, least.get(name, value))
        for name, value in numbers.items()
        if value is not None
    }


def default_max_tokens(model: ModelInfo) -> int | None:
    """Tokens of an answer at most where a chat does not say."""
    return cast(int | None, model.sampling.get("max_tokens"))


def stop_strings(body: SamplingBody) -> tuple[str, ...]:
    """The client's stop strings, however it sent them."""
    return (body.stop,) if isinstance(body.stop, str) else body.stop or ()


def _logit_bias(body: SamplingBody, model: ModelInfo) -> Mapping[int, float]:
    if not body.logit_bias:
        return {}
    if len(body.logit_bias) > MAX_BIASES:
        raise RequestError(f"logit_bias has more than {MAX_BIASES} entries", param="logit_bias")
    biases = {}
    for token, bias in body.logit_bias.items():
        if not (token.isascii() and token.isdecimal() and len(token) < 10):
            raise RequestError("the keys of logit_bias must be token ids", param="logit_bias")
        param = f"logit_bias.{token}"
        if type(bias) not in (int, float) or not -100 <= bias <= 100:
            raise RequestError(f"{param} must be a number between -100 and 100", param=param)
        check_token(int(token), param, model)
        biases[int(token)] = float(bias)
    return biases


def check_token(token: int, param: str, model: ModelInfo) -> None:
    """Refuse a token id that the model has not.

    Raises:
        RequestError: It names ``param``.
    """
    if model.vocab_size and token >= model.vocab_size:
        raise RequestError(
            f"{param}: token ids of model {model.name!r} are below {model.vocab_size}", param=param
        )


def _extra(body: SamplingBody) -> Mapping[str, Scalar]:
    extra: dict[str, Scalar] = {}
    for name in _EXTRA:
        if not _table.is_neutral(name, body):
            extra[name] = cast(Scalar, getattr(body, name))
    if body.dry_sequence_breakers is not None and "dry_multiplier" in extra:
        # Only scalars travel in extra: the list goes as JSON text.
        extra["dry_sequence_breakers"] = orjson.dumps(body.dry_sequence_breakers).decode()
    return extra

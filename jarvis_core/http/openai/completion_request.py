"""The body of a completion request as the core's ``CompletionRequest``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from attrs import frozen

from jarvis_core.errors import RequestError
from jarvis_core.http.converter import Between, structurer
from jarvis_core.http.openai import constraint
from jarvis_core.http.openai.limits import check_stop
from jarvis_core.http.openai.parameter_table import (
    ParameterTable,
    core,
    engine,
    no_effect,
    refused,
    unsupported,
)
from jarvis_core.http.openai.parameter_table import constraint as constrained
from jarvis_core.http.openai.parameters import SAMPLING
from jarvis_core.http.openai.sampling import sampling_params
from jarvis_core.http.openai.texts import TextsBody, check_ids, check_number, texts
from jarvis_core.http.openai.wire import GenerationBody
from jarvis_core.settings import ServerSettings
from jarvis_core.structs import CompletionRequest, Constraint, ModelInfo, TextOrTokens

DEFAULT_MAX_TOKENS = 16
"""Tokens generated where the request does not say how many: OpenAI's default."""


@frozen(kw_only=True)
class CompletionBody(GenerationBody):
    """The body of POST /v1/completions: every parameter that Jarvis knows by name."""

    prompt: TextsBody
    max_tokens: Annotated[int, Between(0, 2**31 - 1)] | None = None
    best_of: Annotated[int, Between(0, 128)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Between(0, 1 << 20)] | None = None
    suffix: str | None = None
    add_special_tokens: bool | None = None
    prompt_logprobs: Annotated[int, Between(0, 1 << 20)] | None = None


COMPLETION_PARAMETERS = ParameterTable(
    core("model"),
    core("prompt", "a text, token ids, or a list of either; a text's control tokens are tokens"),
    core("stream"),
    core("stream_options", "include_usage; include_obfuscation has no effect"),
    engine("max_tokens", needs="max_tokens"),
    engine("n", 1),
    core("best_of", "more than n needs an engine with n and logprobs, and no stream"),
    core("echo", "with logprobs it needs an engine with prompt_logprobs"),
    engine("logprobs"),
    core("add_special_tokens", "whether the tokenizer's begin-of-sequence token comes first"),
    *SAMPLING,
    constrained("response_format"),
    constrained("structured_outputs"),
    constrained("guided_json", "json_schema"),
    constrained("guided_regex", "regex"),
    constrained("guided_choice", "choice"),
    constrained("guided_grammar", "lark"),
    no_effect("user", "says who asks"),
    refused("suffix", "the text between prompt and suffix is not generated", ""),
    refused("prompt_logprobs", "send echo with logprobs instead"),
)
"""The table, by name, in the order in which it is documented."""

_structure_body = structurer(CompletionBody)


@frozen(kw_only=True)
class CompletionCall:
    """A completion request that is valid in itself.

    Attributes:
        body: Its parameters.
        prompts: What to continue.
        constraint: What the text must obey, with the parameter that asks for it.
        ignored: Value of the header that lists names that nobody knows.
    """

    body: CompletionBody
    prompts: tuple[TextOrTokens, ...]
    constraint: tuple[str, Constraint] | None
    ignored: str


def read_call(raw: Mapping[str, Any], settings: ServerSettings) -> CompletionCall:
    """Check a body by itself: types, bounds, limits, and what contradicts itself.

    Raises:
        RequestError: ``param`` is the path of the first fault.
    """
    check_number(raw.get("prompt"), settings.max_prompts, "prompt")
    body = _structure_body(raw)
    constraint.check_names(raw)
    _check_limits(body, settings)
    _check_sense(body)
    return CompletionCall(
        body=body,
        prompts=texts(body.prompt),
        constraint=constraint.wanted(body, settings),
        ignored=COMPLETION_PARAMETERS.ignored(raw),
    )


def completion_request(call: CompletionCall, model: ModelInfo) -> CompletionRequest:
    """The call as the core understands it.

    Raises:
        UnsupportedParameter: The model or its engine cannot honour a parameter.
        RequestError: A token id is not in the model's vocabulary.
    """
    body = call.body
    COMPLETION_PARAMETERS.refuse_what_cannot_be(body, model)
    if call.constraint is not None:
        constraint.refuse_what_cannot_be(*call.constraint, model)
    n = body.n or 1
    best_of = body.best_of if (body.best_of or 0) > n else None
    _check_engine(body, best_of, model)
    check_ids(body.prompt, "prompt", model)
    max_tokens = DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    return CompletionRequest(
        model=model.name,
        prompts=call.prompts,
        add_special_tokens=body.add_special_tokens is not False,
        echo=bool(body.echo),
        sampling=sampling_params(body, model, max_tokens=max_tokens),
        n=n,
        best_of=best_of,
        logprobs=body.logprobs,
        constraint=call.constraint[1] if call.constraint else None,
        priority=body.priority or 0,
        cache_salt=body.cache_salt,
    )


def _check_limits(body: CompletionBody, settings: ServerSettings) -> None:
    for name in ("n", "best_of"):
        if (getattr(body, name) or 0) > settings.max_n:
            raise RequestError(f"{name} must be at most {settings.max_n}", param=name)
    if (body.logprobs or 0) > settings.max_logprobs:
        raise RequestError(f"logprobs must be at most {settings.max_logprobs}", param="logprobs")
    check_stop(body, settings)


def _check_sense(body: CompletionBody) -> None:
    if body.stream_options is not None and not body.stream:
        raise RequestError("stream_options needs stream: true", param="stream_options")
    if not body.best_of:
        return
    n = body.n or 1
    if body.best_of < n:
        raise RequestError(f"best_of must be at least n, which is {n}", param="best_of")
    if body.best_of > n and body.stream:
        raise RequestError(
            "best_of cannot be streamed: which answers are best is known at the end",
            param="best_of",
        )


def _check_engine(body: CompletionBody, best_of: int | None, model: ModelInfo) -> None:
    can = model.capabilities.parameters
    if best_of is not None and not {"n", "logprobs"} <= can:
        raise unsupported("best_of", model, "it takes an engine with n and logprobs")
    if body.echo and body.logprobs is not None and "prompt_logprobs" not in can:
        raise unsupported(
            "echo", model, "its engine has no logprobs of prompts; leave logprobs out"
        )

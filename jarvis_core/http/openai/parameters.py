"""Every parameter that Jarvis knows, and what becomes of it.

A parameter is honoured, without effect by nature, or refused; one that a model's engine cannot
honour is refused with a message that names parameter, model and engine. A neutral value changes
nothing and is never refused. A name that is not in this table is ignored and listed in the header
``X-Jarvis-Ignored-Params``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from attrs import frozen

from jarvis_core.errors import UnsupportedParameter
from jarvis_core.http.openai.wire import ChatBody
from jarvis_core.structs import Capabilities, ModelInfo

IGNORED_HEADER = "x-jarvis-ignored-params"


class Treatment(Enum):
    """What becomes of a parameter."""

    CORE = "honoured with every model"
    ENGINE = "honoured where the model's engine can"
    CONSTRAINT = "honoured where the model's engine enforces constraints"
    NO_EFFECT = "taken, without effect by nature"
    REFUSED = "refused unless neutral"


@frozen(kw_only=True)
class Parameter:
    """One row of the table.

    Attributes:
        name: As clients send it.
        treatment: What becomes of it.
        needs: For ``ENGINE``: the name in ``Capabilities.parameters``. For ``CONSTRAINT``: the kind
            in ``Capabilities.constraints``; empty where it depends on the value.
        neutral: Values that change nothing; None always does.
        unless: Name of a parameter without which this one changes nothing.
        note: What else to know.
    """

    name: str
    treatment: Treatment
    needs: str = ""
    neutral: tuple[Any, ...] = ()
    unless: str = ""
    note: str = ""

    def is_neutral(self, body: ChatBody) -> bool:
        """Whether the request's value changes nothing."""
        value = getattr(body, self.name)
        if value is None or value in self.neutral:
            return True
        return bool(self.unless) and PARAMETERS[self.unless].is_neutral(body)


def _core(name: str, note: str = "") -> Parameter:
    return Parameter(name=name, treatment=Treatment.CORE, note=note)


def _engine(name: str, *neutral: Any, needs: str = "", unless: str = "") -> Parameter:
    return Parameter(
        name=name,
        treatment=Treatment.ENGINE,
        needs=needs or name,
        neutral=neutral,
        unless=unless,
    )


def _constraint(name: str, needs: str = "", *neutral: Any) -> Parameter:
    return Parameter(name=name, treatment=Treatment.CONSTRAINT, needs=needs, neutral=neutral)


def _no_effect(name: str, note: str) -> Parameter:
    return Parameter(name=name, treatment=Treatment.NO_EFFECT, note=note)


def _refused(name: str, note: str, *neutral: Any) -> Parameter:
    return Parameter(name=name, treatment=Treatment.REFUSED, note=note, neutral=neutral)


_ROWS = (
    _core("model"),
    _core("messages"),
    _core("stream"),
    _core("stream_options", "include_usage; include_obfuscation has no effect"),
    _core("tools"),
    _core("tool_choice", "required and named calls need an engine that enforces lark grammars"),
    _core("parallel_tool_calls"),
    _core("reasoning_effort", "none, low, medium, high, for chat formats that know it"),
    _core("chat_template_kwargs", "for chat formats that know them"),
    _core("continue_final_message"),
    _core("add_generation_prompt"),
    _engine("max_tokens", needs="max_tokens"),
    _engine("max_completion_tokens", needs="max_tokens"),
    _engine("n", 1),
    _engine("temperature", 1.0),
    _engine("top_p", 1.0),
    _engine("stop", ()),
    _engine("seed"),
    _engine("presence_penalty", 0.0),
    _engine("frequency_penalty", 0.0),
    _engine("logit_bias", {}),
    _engine("logprobs", False),
    _engine("top_logprobs", needs="logprobs", unless="logprobs"),
    _engine("top_k", 0, -1),
    _engine("min_p", 0.0),
    _engine("typical_p", 1.0),
    _engine("repetition_penalty", 1.0),
    _engine("min_tokens", 0),
    _engine("stop_token_ids", ()),
    _engine("bad_words", ()),
    _engine("ignore_eos", False),
    _engine("dry_multiplier", 0.0),
    _engine("dry_base", unless="dry_multiplier"),
    _engine("dry_allowed_length", unless="dry_multiplier"),
    _engine("dry_penalty_last_n", unless="dry_multiplier"),
    _engine("dry_sequence_breakers", unless="dry_multiplier"),
    _engine("xtc_probability", 0.0),
    _engine("xtc_threshold", unless="xtc_probability"),
    _engine("mirostat", 0),
    _engine("mirostat_tau", unless="mirostat"),
    _engine("mirostat_eta", unless="mirostat"),
    _engine("priority", 0),
    _engine("cache_salt"),
    _constraint("response_format"),
    _constraint("structured_outputs"),
    _constraint("guided_json", "json_schema"),
    _constraint("guided_regex", "regex"),
    _constraint("guided_choice", "choice"),
    _constraint("guided_grammar", "lark"),
    _no_effect("user", "says who asks"),
    _no_effect("safety_identifier", "says who asks"),
    _no_effect("metadata", "labels of stored answers"),
    _no_effect("store", "nothing is stored"),
    _no_effect("service_tier", "there is one"),
    _no_effect("prompt_cache_key", "prefixes are found without it"),
    _no_effect("prompt_cache_retention", "prefixes stay while there is room"),
    _no_effect("prompt_cache_options", "prefixes are found without them"),
    _no_effect("prediction", "a hint for speed"),
    _refused("prompt_logprobs", "not part of a chat's answer"),
    _refused("chat_template", "templates come with models, never with requests"),
    _refused("verbosity", "say in a message how long the answer shall be", "medium"),
    _refused("modalities", "answers are text", ("text",), ()),
    _refused("audio", "answers are text"),
    _refused("web_search_options", "nothing is searched"),
    _refused("moderation", "nothing is moderated"),
    _refused("functions", "send tools instead", ()),
    _refused("function_call", "send tool_choice instead", "none", "auto"),
)

PARAMETERS: Mapping[str, Parameter] = {row.name: row for row in _ROWS}
"""The table, by name, in the order in which it is documented."""

_CHECKED = tuple(
    row
    for row in _ROWS
    if row.treatment in (Treatment.ENGINE, Treatment.REFUSED)
    or (row.treatment is Treatment.CONSTRAINT and row.needs)
)


def refuse_what_cannot_be(body: ChatBody, model: ModelInfo) -> None:
    """Refuse the first parameter that would have an effect and cannot have it.

    Raises:
        UnsupportedParameter: It names parameter, model and engine.
    """
    for row in _CHECKED:
        if getattr(body, row.name) is None or row.is_neutral(body):
            continue
        if not _can(row, model.capabilities):
            raise unsupported(row.name, model, PARAMETERS[row.name].note)


def unsupported(name: str, model: ModelInfo, why: str = "") -> UnsupportedParameter:
    """The error for a parameter that this model cannot honour."""
    reason = f": {why}" if why else ""
    return UnsupportedParameter(
        f"model {model.name!r} on engine {model.engine!r} cannot honour {name}{reason}", param=name
    )


def _can(row: Parameter, capabilities: Capabilities) -> bool:
    match row.treatment:
        case Treatment.ENGINE:
            return row.needs in capabilities.parameters
        case Treatment.CONSTRAINT:
            return not row.needs or row.needs in capabilities.constraints
        case Treatment.REFUSED:
            return False
    return True


def honoured(capabilities: Capabilities) -> list[str]:
    """Names of the parameters that have their effect with such a model."""
    return [
        row.name
        for row in _ROWS
        if row.treatment is not Treatment.NO_EFFECT
        and _can(row, capabilities)
        and (row.treatment is not Treatment.CONSTRAINT or row.needs or capabilities.constraints)
    ]


_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


def ignored(names: Iterable[str]) -> str:
    """Value of the header that lists unknown names; odd ones are only counted."""
    unknown = [name for name in names if name not in PARAMETERS]
    plain = [name for name in unknown if _PLAIN.match(name)][:32]
    if len(plain) < len(unknown):
        plain.append(f"+{len(unknown) - len(plain)}")
    return ", ".join(plain)

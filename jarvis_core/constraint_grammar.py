"""Constraints as grammars of llguidance, and its complaints about them for people.

Every grammar is written in its dialect of Lark. Forcing is off: otherwise llguidance writes out and
tokenizes all that must come before it computes a mask, which for a long constant takes a tenth of
a second at every token, and for ``((a{100}){100}){100}`` more than a second and 190 MB.

Source: measured with llguidance 1.9.1; docs/syntax.md and docs/json_schema.md in its repository.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from jarvis_core.errors import RequestError
from jarvis_core.structs import Constraint

_NO_FORCING = '\n%llguidance {"no_forcing": true}\n'

_WHITESPACE = r"[ \n\r\t]{1,24}"
"""White space in JSON, bounded: small models write blanks until their tokens are used up."""

_KEYWORDS = re.compile(r"Unimplemented keys: \[(.*?)\]")
_ONE_OF = "oneOf constraints are not supported"
_TOO_COMPLEX = re.compile(
    r"too (large|many|complex|deep|nested)|limit|fuel exhausted|max is \d|precomputation failed"
)
_REGEX_REASON = re.compile(r"^error: (.*)$", re.MULTILINE)
_PLACE = re.compile(r"^(at )?\d+\(\d+\): |^failed to compile JSON schema: ")
_LONGEST = 200

_NAMES = {
    "json_schema": "the JSON schema",
    "regex": "the regular expression",
    "choice": "the choice",
    "lark": "the grammar",
}


def write_grammar(constraint: Constraint, regex_to_lark: Callable[[str, str], str]) -> str:
    """A constraint in llguidance's dialect of Lark.

    Args:
        constraint: The constraint.
        regex_to_lark: llguidance's function of that name; the core does not import it.

    Raises:
        RequestError: It cannot be written as one.
    """
    match constraint.kind:
        case "json_schema":
            text = f"start: %json {_with_defaults(constraint.value)}"
        case "regex":
            text = f"start: {_regex(constraint.value, regex_to_lark)}"
        case "choice":
            text = "start: " + " | ".join(map(_quoted, _choices(constraint.value)))
        case "lark":
            text = constraint.value
    try:
        text.encode()
    except UnicodeEncodeError:
        name = _NAMES[constraint.kind]
        raise RequestError(f"{name} holds a surrogate that is not a character") from None
    return text + _NO_FORCING


def constraint_refusal(constraint: Constraint, complaint: str) -> RequestError:
    """The error for a constraint that llguidance does not take, without the text around the fault.

    Args:
        constraint: The constraint.
        complaint: What llguidance says of it.
    """
    name = _NAMES[constraint.kind]
    if found := _KEYWORDS.search(complaint):
        keywords = found[1].replace('"', "'")
        return RequestError(f"{name} uses {_cut(keywords)}, which cannot be enforced: leave it out")
    if _ONE_OF in complaint:
        return RequestError(
            f"{name} uses 'oneOf' with alternatives that may both match, which cannot be "
            "enforced: use 'anyOf'"
        )
    if _TOO_COMPLEX.search(complaint):
        return RequestError(f"{name} is too complex to be enforced: make it simpler")
    if "NoExtensionBias" in complaint:
        return RequestError(f"{name} allows no text at all")
    reason = found[1] if (found := _REGEX_REASON.search(complaint)) else complaint
    first = reason.strip().partition("\n")[0].partition("; following special tokens")[0]
    while (shorter := _PLACE.sub("", first)) != first:
        first = shorter
    return RequestError(f"{name} cannot be used: {_cut(first)}")


def _with_defaults(schema: str) -> str:
    try:
        found = json.loads(schema)
    except ValueError:
        raise RequestError("the JSON schema is not valid JSON") from None
    except RecursionError:
        raise RequestError("the JSON schema is nested too deeply") from None
    if isinstance(found, dict):
        own = found.get("x-guidance")
        options = {"whitespace_pattern": _WHITESPACE, **(own if isinstance(own, dict) else {})}
        found = {**found, "x-guidance": options}
    elif not isinstance(found, bool):
        raise RequestError("a JSON schema must be an object")
    try:
        return json.dumps(found)
    except RecursionError:
        raise RequestError("the JSON schema is nested too deeply") from None


def _regex(expression: str, regex_to_lark: Callable[[str, str], str]) -> str:
    if not expression:
        return '""'
    backslashes = len(expression) - len(expression.rstrip("\\"))
    if backslashes % 2:
        raise RequestError("the regular expression ends inside of an escape")
    return f"/{regex_to_lark(expression, '')}/"


def _choices(text: str) -> list[str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not found or not all(isinstance(s, str) for s in found):
        raise RequestError("a choice must be a list of at least one string")
    return found


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " …"

"""What makes Gemma 4 write the arguments of a tool: the schema as a grammar of its own syntax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jarvis_core import Grammar, RequestError, Tool, text_patterns
from jarvis_formats.gemma4_syntax import MARK, bare_key, in_order, written

MAX_DEPTH = 8
"""How deep schemas are followed; what is deeper has to be a scalar."""
ANY_DEPTH = 2
"""How deep a value may be of which the schema says nothing."""
ENFORCED = frozenset(
    {
        "type", "properties", "required", "items", "enum", "const", "anyOf", "oneOf", "nullable",
        "additionalProperties", "$ref", "$defs", "definitions", "minItems",
    }
)  # fmt: skip
SAYS_NOTHING = frozenset({"description", "title", "default", "examples", "$schema", "$comment"})
_INTEGER = "-?(0|[1-9][0-9]{0,17})"
_SCALARS = {
    "integer": _INTEGER,
    "number": rf"{_INTEGER}(\.[0-9]{{1,17}})?([eE][-+]?[0-9]{{1,2}})?",
    "boolean": "true|false",
    "null": "null",
}


def arguments(grammar: Grammar, tool: Tool) -> str:
    """The expression of a tool's arguments, without the braces around them.

    Raises:
        RequestError: The tool is strict and its schema says what this grammar does not enforce.
    """
    return _Writer(grammar, tool).members(tool.parameters, 0)


class _Writer:
    """Writes the expressions of one tool."""

    def __init__(self, grammar: Grammar, tool: Tool) -> None:
        self._grammar = grammar
        self._tool = tool

    def members(self, schema: Mapping[str, Any], depth: int) -> str:
        """The members of an object, in the order in which the template prints them."""
        self._check(schema)
        properties = dict(schema.get("properties") or {})
        required = schema.get("required") or ()
        properties |= {name: {} for name in required if name not in properties}
        if not properties:
            return self._other_members(schema, depth)
        first, more = "", ""
        for name, value in reversed(in_order(properties)):
            key = self._grammar.text(f"{bare_key(name)}:")
            member = self._grammar.rule("member", f"{key} {self._value(value, depth + 1)}")
            begun = f"{member} {more}"
            if name in required:
                first, more = begun, f'"," {member} {more}'
            else:
                first = f"({begun} | {first})" if first else f"({begun})?"
                more = f'("," {member})? {more}'
            more = self._grammar.rule("more", more)
            first = self._grammar.rule("members", first)
        return first

    def _other_members(self, schema: Mapping[str, Any], depth: int) -> str:
        """The members of an object that names none."""
        other = schema.get("additionalProperties", "properties" not in schema)
        if other is False:
            return ""
        known = isinstance(other, Mapping)
        return self._some_members(self._value(other, depth + 1) if known else self._any(1))

    def _value(self, value: Any, depth: int) -> str:
        schema: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
        self._check(schema)
        if depth > MAX_DEPTH:
            return self._any(0)
        if "$ref" in schema:
            return self._value(self._referred(str(schema["$ref"])), depth + 1)
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                rest = {k: v for k, v in schema.items() if k != key}
                return self._one_of([self._value({**rest, **v}, depth) for v in schema[key]])
        if "const" in schema or schema.get("enum"):
            allowed = [schema["const"]] if "const" in schema else schema["enum"]
            return self._one_of([self._grammar.text(written(item)) for item in allowed])
        kinds = schema.get("type")
        if isinstance(kinds, Sequence) and not isinstance(kinds, str):
            return self._one_of([self._typed(schema, kind, depth) for kind in kinds])
        typed = self._typed(schema, kinds, depth)
        return self._one_of([typed, '"null"']) if schema.get("nullable") else typed

    def _typed(self, schema: Mapping[str, Any], kind: Any, depth: int) -> str:
        if kind == "string":
            return self._text(text_patterns(schema) if self._tool.strict else None)
        if kind == "array":
            item = self._value(schema.get("items"), depth + 1)
            return self._array(item, at_least_one=bool(schema.get("minItems")))
        if kind == "object" or (kind is None and "properties" in schema):
            return f'"{{" {self.members(schema, depth)} "}}"'
        if kind in _SCALARS:
            return self._grammar.regex(_SCALARS[kind])
        return self._any(ANY_DEPTH)

    def _any(self, depth: int) -> str:
        """A value of which nothing is known."""
        kinds = [self._text(), *(self._grammar.regex(s) for s in _SCALARS.values())]
        if depth:
            kinds.append(self._array(self._any(depth - 1), at_least_one=False))
            kinds.append(f'"{{" {self._some_members(self._any(depth - 1))} "}}"')
        return self._grammar.rule("any", self._one_of(kinds))

    def _some_members(self, value: str) -> str:
        key = self._grammar.regex("[A-Za-z_][A-Za-z0-9_]{0,63}")
        return f'({key} ":" {value} ("," {key} ":" {value})*)?'

    def _array(self, item: str, *, at_least_one: bool) -> str:
        items = f'({item} ("," {item})*)'
        return f'"[" {items} "]"' if at_least_one else f'"[" {items}? "]"'

    def _text(self, patterns: Sequence[str] | None = None) -> str:
        return f"{self._grammar.text(MARK)} {self._grammar.until(MARK, matching=patterns or ())}"

    def _one_of(self, expressions: list[str]) -> str:
        return self._grammar.one_of(list(dict.fromkeys(expressions)))

    def _referred(self, ref: str) -> Any:
        found: Any = self._tool.parameters
        for step in ref.removeprefix("#").split("/")[1:]:
            found = found.get(step, {}) if isinstance(found, Mapping) else {}
        return found

    def _check(self, schema: Mapping[str, Any]) -> None:
        """Refuse what a strict tool asks for and does not get."""
        more = schema.keys() - ENFORCED - SAYS_NOTHING
        if text_patterns(schema) is not None:
            more -= {"minLength", "maxLength", "pattern"}
        if self._tool.strict and (more or schema.get("minItems", 0) > 1):
            names = ", ".join(sorted(more)) or "minItems above 1"
            raise RequestError(
                f"the arguments of {self._tool.name!r} cannot be held to {names} in this model's "
                "syntax of calls: leave it out, or strict",
                param="tools",
            )

"""How Gemma 4 is shown tools: a declaration of each, in the syntax of its values.

The template prints of a schema what it knows and leaves out the rest, such as a property whose name
is ``description``, ``type``, ``properties``, ``required`` or ``nullable``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jarvis_core import PromptBuilder, Tool
from jarvis_formats.gemma4_syntax import in_order, print_text, print_value

_SKIPPED = frozenset({"description", "type", "properties", "required", "nullable"})
Schema = Mapping[str, Any]


def print_tool(out: PromptBuilder, tool: Tool) -> None:
    """Add the declaration of a tool."""
    function = tool.spec["function"]
    out.scaffold("<|tool>declaration:").content(tool.name).scaffold("{description:")
    print_text(out, _printed(function, "description"))
    if parameters := _schema(function.get("parameters")):
        out.scaffold(",parameters:{")
        if properties := parameters.get("properties"):
            out.scaffold("properties:{")
            _properties(out, properties)
            out.scaffold("},")
        if required := parameters.get("required"):
            _required(out, required)
            out.scaffold(",")
        _closing_type(out, parameters)
    if "response" in function:
        response = _schema(function["response"])
        out.scaffold(",response:{")
        if response.get("description"):
            out.scaffold("description:")
            print_text(out, str(response["description"]))
            out.scaffold(",")
        if _upper(response.get("type")) == "OBJECT":
            _closing_type(out, response)
    out.scaffold("}<tool|>")


def _closing_type(out: PromptBuilder, schema: Schema) -> None:
    """The type, which comes last; the template closes the brace only with it."""
    if schema.get("type"):
        out.scaffold("type:")
        print_text(out, _upper(schema["type"]))
        out.scaffold("}")


def _properties(out: PromptBuilder, properties: Schema) -> None:
    shown = [(name, value) for name, value in in_order(properties) if name not in _SKIPPED]
    for k, (name, value) in enumerate(shown):
        out.scaffold("," if k else "").content(name).scaffold(":{")
        _property(out, value)


def _property(out: PromptBuilder, value: Any) -> None:
    schema = _schema(value)
    kind = _upper(schema.get("type", ""))
    if schema.get("description"):
        out.scaffold("description:")
        print_text(out, str(schema["description"]))
        out.scaffold(",")
    if kind == "STRING" and schema.get("enum"):
        out.scaffold("enum:")
        print_value(out, schema["enum"], marked_keys=True)
        out.scaffold(",")
    elif kind == "ARRAY" and isinstance(schema.get("items"), Mapping) and schema["items"]:
        out.scaffold("items:{")
        _items(out, schema["items"])
        out.scaffold("},")
    if schema.get("nullable"):
        out.scaffold("nullable:true,")
    if kind == "OBJECT":
        inner = schema.get("properties")
        out.scaffold("properties:{")
        _properties(out, inner if isinstance(inner, Mapping) else schema)
        out.scaffold("},")
        if schema.get("required"):
            _required(out, schema["required"])
            out.scaffold(",")
    out.scaffold("type:")
    print_text(out, kind)
    out.scaffold("}")


def _items(out: PromptBuilder, items: Schema) -> None:
    shown = [(key, value) for key, value in in_order(items) if value is not None]
    for k, (key, value) in enumerate(shown):
        out.scaffold("," if k else "")
        if key == "properties":
            out.scaffold("properties:{")
            _properties(out, _schema(value))
            out.scaffold("}")
        elif key == "required":
            _required(out, value)
        elif key == "type":
            out.scaffold("type:")
            many = not isinstance(value, str)
            print_value(out, [_upper(v) for v in value] if many else _upper(value))
        else:
            out.content(key).scaffold(":")
            print_value(out, value, marked_keys=True)


def _required(out: PromptBuilder, names: Sequence[Any]) -> None:
    out.scaffold("required:[")
    for k, name in enumerate(names):
        out.scaffold("," if k else "")
        print_text(out, str(name))
    out.scaffold("]")


def _schema(value: Any) -> Schema:
    """A JSON schema as an object; ``true`` says as much as an empty one."""
    return value if isinstance(value, Mapping) else {}


def _upper(value: Any) -> str:
    return str(value).upper()


def _printed(members: Schema, key: str) -> str:
    """What the template prints of a member; nothing if it is not there."""
    return str(members[key]) if key in members else ""

"""How gpt-oss is shown tools: as TypeScript, the way its publisher's template writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jarvis_core import Tool, tojson

# The template breaks lines where it prints a member of an object or one of several types.
_MEMBER_BREAK = "\n" + " " * 16
_DEFAULT_BREAK = " " * 20
_LONGEST_ITEM_TYPE = 50
_ITEM_TYPES = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean"}
Schema = Mapping[str, Any]


def functions(tools: Sequence[Tool]) -> str:
    """The namespace of the functions that a request brings."""
    parts = ["## functions\n\nnamespace functions {\n\n"]
    for tool in tools:
        function = tool.spec["function"]
        if function.get("description") is not None:
            parts.append(f"// {function['description']}\n")
        parts.append(f"type {tool.name} = {_parameters(function.get('parameters'))} => any;\n\n")
    parts.append("} // namespace functions")
    return "".join(parts)


def _parameters(schema: Any) -> str:
    schema = _schema(schema)
    if not schema.get("properties"):
        return "()"
    required = schema.get("required") or ()
    lines = []
    for name, value in schema["properties"].items():
        spec = _schema(value)
        if spec.get("description"):
            lines.append(f"// {spec['description']}\n")
        lines.append(f"{name}{'' if name in required else '?'}: {type_of(spec)}{_default(spec)},\n")
    return "(_: {\n" + "".join(lines) + "})"


def _default(spec: Schema) -> str:
    if "default" not in spec:
        return ""
    if spec.get("enum"):
        return f", // default: {spec['default']}"
    if spec.get("oneOf"):
        return f"// default: {spec['default']}"
    return f", // default: {tojson(spec['default'])}"


def type_of(value: Any) -> str:
    """The type that a JSON schema becomes; ``any`` where the template knows no better."""
    spec = _schema(value)
    kind = spec.get("type")
    if kind == "array":
        return _array(spec)
    if isinstance(kind, Sequence) and not isinstance(kind, str) and kind:
        return " | ".join(map(str, kind))
    if spec.get("oneOf"):
        return _one_of(spec["oneOf"])
    if kind == "string":
        if spec.get("enum"):
            return '"' + '" | "'.join(map(str, spec["enum"])) + '"'
        return "string | null" if spec.get("nullable") else "string"
    if kind == "object":
        return _object(spec) if spec.get("properties") else "object"
    return _ITEM_TYPES.get(kind, "any") if isinstance(kind, str) else "any"


def _array(spec: Schema) -> str:
    items = spec.get("items")
    null = " | null" if spec.get("nullable") else ""
    if not items:
        return "any[]" + null
    kind = _schema(items).get("type")
    if isinstance(kind, str) and kind in _ITEM_TYPES:
        return f"{_ITEM_TYPES[kind]}[]{null}"
    inner = type_of(items)
    if inner == "object | object" or len(inner) > _LONGEST_ITEM_TYPE:
        inner = "any"
    return f"{inner}[]{null}"


def _one_of(variants: Sequence[Any]) -> str:
    types = []
    for spec in map(_schema, variants):
        text = type_of(spec)
        if spec.get("description"):
            text += f"// {spec['description']}"
        if "default" in spec:
            text += f"{_DEFAULT_BREAK}// default: {tojson(spec['default'])}"
        types.append(text)
    return " | \n".join(types)


def _object(spec: Schema) -> str:
    required = spec.get("required") or ()
    members = (
        f"{name}{'' if name in required else '?'}: {_MEMBER_BREAK}{type_of(value)}"
        for name, value in spec["properties"].items()
    )
    return "{\n" + ", ".join(members) + "}"


def _schema(value: Any) -> Schema:
    """A JSON schema as an object; ``true`` says as much as an empty one."""
    return value if isinstance(value, Mapping) else {}


# -- what the publisher runs itself ------------------------------------------------------------

BROWSER = """## browser

// Tool for browsing.
// The `cursor` appears in brackets before each browsing display: `[{cursor}]`.
// Cite information from the tool using the following format:
// `【{cursor}†L{line_start}(-L{line_end})?】`, for example: `【6†L9-L11】` or `【8†L3】`.
// Do not quote more than 10 words directly from the tool output.
// sources=web (default: web)
namespace browser {

// Searches for information related to `query` and displays `topn` results.
type search = (_: {
query: string,
topn?: number, // default: 10
source?: string,
}) => any;

// Opens the link `id` from the page indicated by `cursor` starting at line number `loc`, \
showing `num_lines` lines.
// Valid link ids are displayed with the formatting: `【{id}†.*】`.
// If `cursor` is not provided, the most recent page is implied.
// If `id` is a string, it is treated as a fully qualified URL associated with `source`.
// If `loc` is not provided, the viewport will be positioned at the beginning of the document or \
centered on the most relevant passage, if available.
// Use this function without `id` to scroll to a new location of an opened page.
type open = (_: {
id?: number | string, // default: -1
cursor?: number, // default: -1
loc?: number, // default: -1
num_lines?: number, // default: -1
view_source?: boolean, // default: false
source?: string,
}) => any;

// Finds exact matches of `pattern` in the current page, or the page given by `cursor`.
type find = (_: {
pattern: string,
cursor?: number, // default: -1
}) => any;

} // namespace browser

"""
PYTHON = """## python

Use this tool to execute Python code in your chain of thought. The code will not be shown to the \
user. This tool should be used for internal reasoning, but not for code that is intended to be \
visible to the user (e.g. when creating plots, tables, or files).

When you send a message containing Python code to python, it will be executed in a stateful \
Jupyter notebook environment. python will respond with the output of the execution or time out \
after 120.0 seconds. The drive at '/mnt/data' can be used to save and persist user files. \
Internet access for this session is UNKNOWN. Depends on the cluster.

"""
BUILTIN = {"browser": BROWSER, "python": PYTHON}

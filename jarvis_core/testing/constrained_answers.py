"""Requests whose answers are constrained, and whether a sampled answer is what was asked for."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

from attrs import evolve, frozen

from jarvis_core.chat import AnswerReader, Fold
from jarvis_core.interfaces import ChatFormat
from jarvis_core.structs import (
    Answer,
    ChatRequest,
    Constraint,
    Delta,
    EngineOutput,
    FormatContext,
    Message,
    ModelInfo,
    Prompt,
    Tool,
    ToolChoice,
    Usage,
)
from jarvis_core.testing.format_samples import random_chunks


def _tool(name: str, parameters: dict[str, Any] | None, *, strict: bool = False) -> Tool:
    function = {"name": name, "parameters": parameters, "strict": strict}
    return Tool(spec={"type": "function", "function": function})


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


TOOLS = (
    _tool("now", None),
    _tool("get", _object(key={"type": "string"}), strict=True),
    _tool(
        "get_all-2",
        {
            "type": "object",
            "properties": {
                "where": {"$ref": "#/$defs/place"},
                "tags": {"type": "array", "items": {"enum": ["</tool_call>", "[ARGS]", '"}]\n']}},
                "count": {"type": ["integer", "null"], "minimum": -3},
                "exact": {"type": "boolean"},
            },
            "required": ["where", "exact"],
            "$defs": {"place": _object(town={"type": "string"}, wide={"type": "number"})},
        },
    ),
    _tool("note", {"type": "object", "additionalProperties": {"type": "string"}}),
)
"""Tools whose names begin alike and whose arguments hold all kinds of values."""


def forced_requests() -> Iterator[ChatRequest]:
    """Requests whose answer has to be a call."""
    request = ChatRequest(model="m", messages=(Message(role="user", content="Hello"),), tools=TOOLS)
    required = evolve(request, tool_choice=ToolChoice(mode="required"))
    yield required
    yield evolve(required, parallel_tool_calls=False)
    yield evolve(required, tools=TOOLS[:1])
    for tool in TOOLS:
        yield evolve(request, tool_choice=ToolChoice(mode="named", name=tool.name))


CONTENT = _object(answer={"type": "string"}, sure={"type": "boolean"})
"""What content has to obey in the requests of ``governed_requests``."""


def governed_requests() -> Iterator[ChatRequest]:
    """Requests whose answer has to be JSON, or JSON or a call."""
    content = Constraint(kind="json_schema", value=json.dumps(CONTENT))
    request = ChatRequest(
        model="m", messages=(Message(role="user", content="Hello"),), constraint=content
    )
    yield request
    yield evolve(request, tools=TOOLS)


def strict_requests() -> Iterator[ChatRequest]:
    """Requests whose answer may be text, and whose calls have to be right or alone."""
    request = ChatRequest(model="m", messages=(Message(role="user", content="Hello"),), tools=TOOLS)
    yield request
    yield evolve(request, parallel_tool_calls=False)


def models_like(model: ModelInfo, written: str, known: Sequence[str] = ()) -> Iterator[ModelInfo]:
    """A model without control tokens, and models for which the marks of an answer are some.

    Args:
        model: What else they are.
        written: An answer; ``<this>``, ``<|this|>`` and ``[THIS]`` are marks,
            and ``<this=name>`` is none.
        known: Further texts that are marks where they are written.
    """
    found = re.findall(r"<\|\"\|>|<[^<>\s\"=]+>|\[[A-Z_]+\]", written)
    marks = tuple(dict.fromkeys([*found, *(mark for mark in known if mark in written)]))
    yield evolve(model, control_tokens=())
    if marks:
        ids = tuple(range(len(marks)))
        yield evolve(model, control_tokens=marks, control_token_ids=ids)
        named = tuple(mark for mark in marks if mark.startswith("<"))  # others need an id
        yield evolve(model, control_tokens=named, control_token_ids=())


@frozen(kw_only=True)
class Asked:
    """A request whose answers are to be read.

    Attributes:
        chat_format: The format under test.
        request: The request.
        context: The model.
        prompt: What the format rendered.
    """

    chat_format: ChatFormat
    request: ChatRequest
    context: FormatContext
    prompt: Prompt

    @classmethod
    def of(cls, chat_format: ChatFormat, request: ChatRequest, context: FormatContext) -> Asked:
        """Render a request."""
        prompt = chat_format.render(request, context)
        return cls(chat_format=chat_format, request=request, context=context, prompt=prompt)


def read_answer(asked: Asked, chunks: Sequence[str]) -> tuple[Answer, list[Delta]]:
    """What the server makes of an answer: the whole of it, and its deltas."""
    parser = asked.chat_format.parser(asked.request, asked.context, asked.prompt)
    reader = AnswerReader(0, parser)
    deltas: list[Delta] = []
    for chunk in chunks:
        deltas.extend(reader.read(EngineOutput(text=chunk)))
    usage = Usage(prompt_tokens=0, completion_tokens=0)
    deltas.extend(reader.read(EngineOutput(finish_reason="stop", usage=usage)))
    fold = Fold()
    for delta in deltas:
        fold.add(delta)
    return fold.completion().answers[0], deltas


def check_forced(asked: Asked, raw: str) -> None:
    """Check that a raw answer is the calls that the request forces and nothing else."""
    request = asked.request
    whole, _ = read_answer(asked, [raw])
    assert not (whole.content or "").strip(), (raw, whole)
    assert whole.finish_reason == "tool_calls", (raw, whole)
    single = request.tool_choice.mode == "named" or not request.parallel_tool_calls
    assert len(whole.tool_calls) == 1 or (whole.tool_calls and not single), (raw, whole)
    for call in whole.tool_calls:
        assert request.tool_choice.name in (None, call.name), (raw, call)
        check_arguments(request, call.name, call.arguments)
    for seed in range(3):
        cut, deltas = read_answer(asked, random_chunks(raw, random.Random(seed)))
        assert _named(cut) == _named(whole), (raw, cut, whole)
        _check_names_come_first(deltas)


def check_governed(asked: Asked, raw: str) -> None:
    """Check that the content of a raw answer is JSON of the schema, or that it is calls alone."""
    import jsonschema

    request = asked.request
    whole, _ = read_answer(asked, [raw])
    if whole.tool_calls:
        assert request.tools, (raw, whole)
        assert not (whole.content or "").strip(), (raw, whole)
        for call in whole.tool_calls:
            check_arguments(request, call.name, call.arguments)
    else:
        jsonschema.validate(json.loads(whole.content or ""), CONTENT)


def check_arguments(request: ChatRequest, name: str, arguments: str) -> None:
    """Check that arguments are an object that the schema of the tool allows."""
    import jsonschema

    tools = [tool for tool in request.tools if tool.name == name]
    assert tools, f"there is no tool {name!r}"
    value = json.loads(arguments)
    assert isinstance(value, dict), arguments
    jsonschema.validate(value, dict(tools[0].parameters))


def _named(answer: Answer) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in answer.tool_calls]


def _check_names_come_first(deltas: Sequence[Delta]) -> None:
    begun: list[int] = []
    for delta in deltas:
        for piece in delta.tool_calls:
            if piece.index not in begun:
                assert piece.index == len(begun), "calls are numbered in order"
                assert piece.name, "a call begins with its name"
                assert piece.id, "a call begins with its identifier"
                begun.append(piece.index)
            else:
                assert piece.name is None, "a name is given once"
                assert piece.index == begun[-1], "calls do not overlap"

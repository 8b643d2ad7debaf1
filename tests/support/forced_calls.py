"""Forced calls on a real engine, in every syntax of calls that this repository knows."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any

import jsonschema
from attrs import evolve, frozen
from call_templates import TEMPLATES

from jarvis_core import (
    Answer,
    AnswerSyntax,
    ChatFormat,
    ChatRequest,
    Constraint,
    DeltaParser,
    Engine,
    FormatContext,
    Message,
    ModelInfo,
    Prompt,
    PromptBuilder,
    SamplingParams,
    Tool,
    ToolChoice,
)
from jarvis_core.chat import Accepted, Fold, stream_chat
from jarvis_core.composition import answer_syntax
from jarvis_core.plugins import load_plugins
from jarvis_core.tool_telling import tells_tools

PRINTS_NO_TOOLS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Rome", 'Oslo\'s "port"']},
        "note": {"type": "string", "maxLength": 12},
        "days": {"enum": [1, 7]},
        "exact": {"type": "boolean"},
    },
    "required": ["city", "note", "days", "exact"],
    "additionalProperties": False,
}
"""What even a model without any sense comes to the end of."""


_FUNCTION = {"name": "get_weather", "parameters": PARAMETERS, "strict": True}
REQUEST = ChatRequest(
    model="m",
    messages=(Message(role="user", content="How is the weather in Rome?"),),
    tools=(Tool(spec={"type": "function", "function": _FUNCTION}),),
    tool_choice=ToolChoice(mode="required"),
    parallel_tool_calls=False,
    sampling=SamplingParams(temperature=0.0, max_tokens=700),
)


@frozen
class Brief:
    """A chat format with a short prompt and no reasoning: the grammar is all that is tried."""

    of: ChatFormat

    @property
    def name(self) -> str:
        return self.of.name

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        return PromptBuilder().scaffold("The weather:\n").build()

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        return self.of.parser(request, context, prompt)

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        return self.of.tool_grammar(request, context)

    def answer_syntax(
        self, request: ChatRequest, context: FormatContext, prompt: Prompt
    ) -> AnswerSyntax:
        return evolve(answer_syntax(request, self.of, context, prompt), opening="")


async def forced_calls(engine: Engine) -> dict[str, str]:
    """What is wrong with a forced call, by the template or the chat format that it was made in.

    All are asked for at once. A chat format that cannot force calls is left out, and so is one that
    another of its class stands for.
    """
    formats = load_plugins().chat_formats
    asked: dict[str, tuple[ChatFormat, ModelInfo]] = {
        f"template: {name}": (formats["template"], evolve(engine.info, chat_template=source))
        for name, source in TEMPLATES.items()
    }
    context = FormatContext(model=engine.info, now=datetime(2026, 1, 1))
    silent = evolve(context, model=evolve(engine.info, chat_template=PRINTS_NO_TOOLS))
    telling = tells_tools(formats["template"], silent)
    assert telling is not None
    asked["told"] = (telling, silent.model)
    seen: set[tuple[type, str]] = set()
    for name, chat_format in formats.items():
        grammar = chat_format.tool_grammar(REQUEST, context)
        if grammar is None or name == "template":
            continue
        if (kind := (type(chat_format), grammar.value)) not in seen:
            asked[name] = (chat_format, engine.info)
        seen.add(kind)
    found = await asyncio.gather(
        *(_wrong(engine, Brief(chat_format), model) for chat_format, model in asked.values())
    )
    return dict(zip(asked, found, strict=True))


async def _wrong(engine: Engine, chat_format: ChatFormat, model: ModelInfo) -> str:
    """Why an answer is not one call that obeys its schema; empty if it is."""
    fold = Fold()
    answer = stream_chat(
        REQUEST, engine=engine, chat_format=chat_format, request_id="forced", model=model
    )
    async for delta in answer:
        if not isinstance(delta, Accepted):
            fold.add(delta)
    return _judge(fold.completion().answers[0])


def _judge(answer: Answer) -> str:
    if answer.finish_reason != "tool_calls" or answer.content or len(answer.tool_calls) != 1:
        return repr(answer)
    (call,) = answer.tool_calls
    try:
        jsonschema.validate(json.loads(call.arguments), PARAMETERS)
    except (ValueError, jsonschema.ValidationError) as error:
        return f"{error.args[0]}: {call.arguments}"
    return "" if call.name == "get_weather" and call.id else repr(call)

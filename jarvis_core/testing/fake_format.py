"""A fake chat format for the fake engine: turns in lines, calls in tags."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from attrs import evolve

from jarvis_core.interfaces import DeltaParser
from jarvis_core.rendering import PromptBuilder, text_of
from jarvis_core.structs import (
    ChatRequest,
    Constraint,
    Delta,
    FormatContext,
    MediaPart,
    ModelInfo,
    Prompt,
    TextPart,
    ToolCallDelta,
)


class FakeFormat:
    """Turns as ``<|turn|>role`` lines; a call is ``<call>{"name": …, "arguments": …}</call>``.

    Images stand before the text of their message.
    """

    name = "fake"

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The names of the tools; then one line for each role, the text, and ``<|end|>``."""
        builder = PromptBuilder()
        if request.tools:
            builder.scaffold("<|tools|>").content(" ".join(tool.name for tool in request.tools))
            builder.scaffold("<|end|>\n")
        for message in request.messages:
            builder.scaffold(f"<|turn|>{message.role}\n")
            parts = () if isinstance(message.content, str) else message.content or ()
            for part in parts:
                if isinstance(part, MediaPart):
                    builder.media(part)
            texts = tuple(part for part in parts if isinstance(part, TextPart))
            builder.content(text_of(evolve(message, content=texts) if parts else message))
            builder.scaffold("<|end|>\n")
        return builder.scaffold("<|turn|>assistant\n").build(stop=("<|end|>",))

    def media(self, model: ModelInfo) -> tuple[str, ...]:
        """Images."""
        return ("image",)

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        """Finds calls if tools were declared."""
        return _FakeParser() if request.tools else _Verbatim()

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        """The fake cannot force a call."""
        return None


class _Verbatim:
    def feed(self, text: str) -> Iterable[Delta]:
        return (Delta(content=text),)

    def finish(self) -> Iterable[Delta]:
        return ()


class _FakeParser:
    """Holds the text back until it is whole: simple, and so surely independent of chunking."""

    _CALL = re.compile(r"<call>(.*?)</call>", re.DOTALL)

    def __init__(self) -> None:
        self._text: list[str] = []

    def feed(self, text: str) -> Iterable[Delta]:
        self._text.append(text)
        return ()

    def finish(self) -> Iterable[Delta]:
        calls = 0
        for i, piece in enumerate(self._CALL.split("".join(self._text))):
            call = _parse_call(piece) if i % 2 else None
            if call is not None:
                name, arguments = call
                yield Delta(
                    tool_calls=(ToolCallDelta(index=calls, name=name, arguments=arguments),)
                )
                calls += 1
            elif piece:
                yield Delta(content=f"<call>{piece}</call>" if i % 2 else piece)


def _parse_call(text: str) -> tuple[str, str] | None:
    try:
        call = json.loads(text)
        return str(call["name"]), json.dumps(call["arguments"])
    except (ValueError, KeyError, TypeError):
        return None

"""How the models of each format write an answer, and a conversation to render."""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import frozen

from jarvis_core import ChatRequest, Message, Tool, ToolCall

TOOL = Tool(
    spec={
        "type": "function",
        "function": {
            "name": "save",
            "description": "Keeps a text.",
            "parameters": {
                "type": "object",
                "properties": {"text": {"type": "string", "description": "The text"}},
                "required": ["text"],
            },
        },
    }
)


@frozen(kw_only=True)
class Syntax:
    """How models of a family write.

    Attributes:
        call: A call of ``save``, with ``%s`` for the text.
        thought: What they write first, if they think.
        text: What they write before text.
        markers: What is one token of theirs.
    """

    call: str
    thought: str = ""
    text: str = ""
    markers: tuple[str, ...] = ()

    def deltas(self, text: str | None = None, argument: str = "") -> list[str]:
        """An answer in deltas of about a token: of text, or of a call with an argument."""
        raw = self.call % argument if text is None else self.text + text
        return pieces(self.thought + raw, self.markers)


TAGS = Syntax(
    call='<tool_call>\n{"name": "save", "arguments": {"text": "%s"}}\n</tool_call>',
    markers=("<tool_call>", "</tool_call>", "<think>", "</think>"),
)
SYNTAXES = {
    "chatml": TAGS,
    "hermes": TAGS,
    "granite4": TAGS,
    "template": TAGS,
    "qwen3": Syntax(call=TAGS.call, thought="<think>\nHm.\n</think>\n\n", markers=TAGS.markers),
    "smollm3": Syntax(call=TAGS.call, thought="<think>\nHm.\n</think>\n\n", markers=TAGS.markers),
    "llama3": Syntax(
        call='{"name": "save", "parameters": {"text": "%s"}}', markers=("<|python_tag|>",)
    ),
    "mistral-small": Syntax(
        call='[TOOL_CALLS]save[ARGS]{"text": "%s"}', markers=("[TOOL_CALLS]", "[ARGS]")
    ),
    "mistral": Syntax(
        call='[TOOL_CALLS][{"name": "save", "arguments": {"text": "%s"}}]',
        markers=("[TOOL_CALLS]",),
    ),
    "deepseek_r1": Syntax(
        call="<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>save\n```json\n"
        '{"text": "%s"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        thought="<think>\nHm.\n</think>\n\n",
        markers=(
            "<think>",
            "</think>",
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁calls▁end｜>",
            "<｜tool▁call▁begin｜>",
            "<｜tool▁call▁end｜>",
            "<｜tool▁sep｜>",
        ),
    ),
    "command_r": Syntax(
        call='<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "save", "parameters": '
        '{"text": "%s"}}\n]<|END_ACTION|>',
        thought="<|START_THINKING|>Hm.<|END_THINKING|>",
        text="<|START_RESPONSE|>",
        markers=(
            "<|START_THINKING|>",
            "<|END_THINKING|>",
            "<|START_RESPONSE|>",
            "<|END_RESPONSE|>",
            "<|START_ACTION|>",
            "<|END_ACTION|>",
        ),
    ),
    "gemma4": Syntax(
        call='<|tool_call>call:save{text:<|"|>%s<|"|>}<tool_call|>',
        thought="<|channel>thought\nHm.\n<channel|>",
        markers=("<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", '<|"|>'),
    ),
    "gpt_oss": Syntax(
        call="<|channel|>commentary to=functions.save <|constrain|>json<|message|>"
        '{"text": "%s"}<|call|>',
        thought="<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant",
        text="<|channel|>final<|message|>",
        markers=("<|channel|>", "<|message|>", "<|end|>", "<|start|>", "<|constrain|>", "<|call|>"),
    ),
}
"""By the beginning of a format's name; the others write no calls and are tried with tags."""


def syntax_of(name: str) -> Syntax:
    """How the models of a format write."""
    return next((s for start, s in SYNTAXES.items() if name.startswith(start)), TAGS)


def pieces(text: str, markers: Sequence[str] = (), size: int = 4) -> list[str]:
    """A text in deltas of about one token; each marker is one."""
    parts = re.split("(" + "|".join(map(re.escape, markers)) + ")", text) if markers else [text]
    return [
        piece
        for k, part in enumerate(parts)
        for piece in ([part] if k % 2 else [part[i : i + size] for i in range(0, len(part), size)])
    ]


def conversation(*, system: bool = True, agent: bool = False) -> ChatRequest:
    """Twenty messages of some length.

    Args:
        system: The first is a system message.
        agent: There are a tool, calls of it, and their results.
    """
    text = "The harbour lies in the east of the town. " * 6
    messages = [Message(role="system", content="Be brief.")] if system else []
    while len(messages) < 19:
        n = len(messages)
        messages.append(Message(role="user", content=f"{n}: {text}"))
        if agent and len(messages) < 16:
            arguments = f'{{"text": "{text}"}}'
            call = ToolCall(id=f"abcdefg{n:02}", name="save", arguments=arguments)
            messages.append(Message(role="assistant", tool_calls=(call,)))
            messages.append(Message(role="tool", content=text, tool_call_id=call.id, name="save"))
        messages.append(Message(role="assistant", content=f"{n}: {text}"))
    last = Message(role="user", content=f"So: {text}")
    return ChatRequest(
        model="m", messages=(*messages[:20], last)[-21:], tools=(TOOL,) if agent else ()
    )

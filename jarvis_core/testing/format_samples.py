"""Conversations and answers that chat formats are tried with."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jarvis_core.structs import ChatRequest, Message, TextPart, Tool, ToolCall

CONTROL_TOKENS = (
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
    "[SYSTEM_PROMPT]",
    "[AVAILABLE_TOOLS]",
    "[TOOL_CALLS]",
    "[TOOL_RESULTS]",
    "[ARGS]",
)
"""What a user may try to smuggle in, beside the tokens of the model under test."""

RAW_ANSWERS = (
    "",
    " \n",
    "Plain text.\n\nIn two paragraphs, with é and 🎈.",
    "1 < 2 [see] {x | x > 3} <tool <tool_call [TOOL <|python",
    '<tool_call>\n{"name": "f", "arguments": {"x": [1, {"y": "</tool_call>"}]}}\n</tool_call>',
    '<tool_call>{"name": "f", "arguments": {]}</tool_call> and <tool_call>{"name"',
    '[TOOL_CALLS][{"name": "f", "arguments": {}}] [TOOL_CALLS]f[ARGS]{"x": "[ARGS]"}',
    '{"name": "f", "parameters": {"x": "}"}}; {"name": "g", "parameters": {}} end',
    '<|python_tag|>{"name": "f", "parameters": {"x": 1}} <|python_tag|>print(1)',
    "<think>\nOne thought.\n</think>\n\nOne answer.",
)
WEATHER = Tool(
    spec={
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Looks out of the window.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "A town"}},
                "required": ["city"],
            },
        },
    }
)


ASKED_OF_TEMPLATES: tuple[tuple[Mapping[str, Any], ...], ...] = (
    (
        {"template_kwargs": {"enable_thinking": True}},
        {"template_kwargs": {"enable_thinking": False}},
    ),
    ({"reasoning_effort": "none"}, {"reasoning_effort": "low"}, {"reasoning_effort": "high"}),
    ({"template_kwargs": {"date_string": "1 May 1999"}},),
    ({"template_kwargs": {"thinking_budget": 17}},),
    ({"template_kwargs": {"documents": [{"title": "Tides", "text": "High at noon."}]}},),
    ({"template_kwargs": {"no_template_knows_this": 1}},),
)
"""Fields of requests, each with values of which one at least changes the prompt or is refused."""

# -- conversations -----------------------------------------------------------------------------


def chat(text: str, tools: tuple[Tool, ...] = ()) -> ChatRequest:
    return ChatRequest(model="m", messages=(Message(role="user", content=text),), tools=tools)


def conversations(text: str) -> Iterator[ChatRequest]:
    """Ordinary conversations with a text in each of the places that others write.

    Every message says it in words of its own, so that none is mistaken for another.
    """
    user, answer, again, system, result = (f"{text} {word}" for word in ("A", "B", "C", "D", "E"))
    first, reply = Message(role="user", content=user), Message(role="assistant", content=answer)
    yield chat(user)
    yield ChatRequest(model="m", messages=(Message(role="system", content=system), first))
    yield ChatRequest(model="m", messages=(first, reply, Message(role="user", content=again)))
    yield ChatRequest(
        model="m",
        messages=(first, reply),
        add_generation_prompt=False,
        continue_final_message=True,
    )
    parts = (TextPart(text=user), TextPart(text=again))
    yield ChatRequest(model="m", messages=(Message(role="user", content=parts),))
    yield chat("Hello", tools=(_tool(text),))
    call = ToolCall(id="abcdefgh1", name="get_weather", arguments=_arguments(text))
    turn = Message(role="assistant", tool_calls=(call,))
    seen = Message(role="tool", content=result, tool_call_id="abcdefgh1", name="get_weather")
    yield ChatRequest(model="m", messages=(first, turn, seen), tools=(WEATHER,))


def _tool(text: str) -> Tool:
    spec: dict[str, Any] = copy.deepcopy(dict(WEATHER.spec))
    spec["function"]["description"] = text
    spec["function"]["parameters"]["properties"]["city"]["description"] = text
    return Tool(spec=spec)


def _arguments(text: str) -> str:
    return '{"city": "' + text.replace("\\", "\\\\").replace('"', '\\"') + '"}'


def odd_conversations() -> Iterator[ChatRequest]:
    """Conversations that many templates do not expect; a format may refuse each of them."""
    roles = ("system", "developer", "user", "assistant", "tool")
    chance = random.Random(7)
    for length in (1, 1, 2, 3, 4, 5) * 6:
        messages = []
        for _ in range(length):
            role = chance.choice(roles)
            content = chance.choice(["", None, "text", (TextPart(text="a"), TextPart(text="b"))])
            call = ToolCall(id="x", name="f", arguments=chance.choice(["{}", "[", '{"a": 1}']))
            messages.append(
                Message(
                    role=role,
                    content=content,
                    tool_calls=(call,) * chance.choice([0, 1, 2]) if role == "assistant" else (),
                    tool_call_id="x" if role == "tool" else None,
                )
            )
        yield ChatRequest(
            model="m",
            messages=tuple(messages),
            tools=chance.choice([(), (WEATHER,)]),
            continue_final_message=chance.random() < 0.3,
        )


def sent_back(answer: Mapping[str, Any]) -> Iterator[ChatRequest]:
    """Conversations of a client that goes on from an answer, as ``parse_case`` gives it."""
    user = Message(role="user", content="Hello")
    calls = tuple(
        ToolCall(id=c.get("id") or f"abcdefg{k:02}", name=c["name"], arguments=c["arguments"])
        for k, c in enumerate(answer["tool_calls"])
    )
    turn = Message(
        role="assistant",
        content=answer["content"],
        reasoning=answer["reasoning"],
        tool_calls=calls,
    )
    results = (Message(role="tool", content="42", tool_call_id=c.id, name=c.name) for c in calls)
    turns: tuple[Message, ...] = (user, turn, *results)
    if calls:
        yield ChatRequest(model="m", messages=turns, tools=(WEATHER,))
        turns += (Message(role="assistant", content="So it is."),)
    yield ChatRequest(model="m", messages=(*turns, user), tools=(WEATHER,))
    yield ChatRequest(model="m", messages=(*turns, *turns, user), tools=(WEATHER,))


# -- answers -----------------------------------------------------------------------------------


def random_chunkings(raw: str, count: int) -> Iterator[list[str]]:
    for seed in range(count):
        yield random_chunks(raw, random.Random(seed))


def random_chunks(raw: str, chance: random.Random) -> list[str]:
    chunks, at = [], 0
    while at < len(raw):
        size = chance.randint(1, 12)
        chunks.append(raw[at : at + size])
        at += size
    return chunks


def plain_texts() -> Iterator[str]:
    """Texts without anything that could be a marker."""
    for seed in range(30):
        chance = random.Random(seed)
        words = (
            chance.choice(["word", "été", "🎈", "\n", "  ", "a, b.", "100 %", "-", "'q'", "日本"])
            for _ in range(chance.randint(1, 40))
        )
        yield "x" + "".join(words)


def mangled(answers: Sequence[str]) -> Iterator[str]:
    """Answers cut, doubled and with pieces of others inside; four digits are a word to find."""
    chance = random.Random(3)
    pool = [re.sub(r"\bx\b", lambda _: str(chance.randint(1000, 9999)), a) for a in answers]
    yield from pool
    for _ in range(200):
        one, other = chance.choice(pool), chance.choice(pool)
        cut, rest = chance.randint(0, len(one)), chance.randint(0, len(other))
        yield f"{chance.randint(1000, 9999)} {one[:cut]}{chance.randint(1000, 9999)}{other[rest:]}"

"""Chat formats: rendering a conversation and parsing a stream, beside the publishers' tools.

    python benchmarks/formats.py [FORMAT ...]

Renders a conversation of 20 messages and parses an answer of 1,000 deltas with each installed
format, and a call of 800, 8,000 and 80,000 characters, to show whether time is linear in length.
Beside it, where they can be imported: the rendering of transformers for a template of the same
shape, and the streaming tool parser of vLLM. All in one run, because a machine's pace changes.
What runs in this thread is measured by its own time, so that other work disturbs it less.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

from attrs import frozen

from jarvis_core import (
    ChatFormat,
    ChatRequest,
    FormatContext,
    Message,
    ModelInfo,
    Prompt,
    RequestError,
    Tool,
)
from jarvis_core.plugins import load_plugins

ROUNDS = 7
LENGTHS = (800, 8_000, 80_000)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOOL = Tool(
    spec={
        "type": "function",
        "function": {
            "name": "save",
            "description": "Keeps a text.",
            "parameters": {
                "type": "object",
                "properties": {"text": {"type": "string"}},
                "required": ["text"],
            },
        },
    }
)
CALLS = {
    "chatml": '<tool_call>\n{{"name": "save", "arguments": {{"text": "{}"}}}}\n</tool_call>',
    "llama3": '{{"name": "save", "parameters": {{"text": "{}"}}}}',
    "mistral": '[TOOL_CALLS][{{"name": "save", "arguments": {{"text": "{}"}}}}]',
}
"""How each family writes a call; the others are tried with chatml's."""


@frozen(kw_only=True)
class Row:
    """What was measured of one format.

    Attributes:
        name: The format.
        render: Microseconds of a conversation; None where the format refuses it.
        delta: Microseconds of one delta of plain text.
        calls: Microseconds of one call of each length.
    """

    name: str
    render: float | None
    delta: float
    calls: tuple[float, ...]

    @property
    def growth(self) -> float:
        """How much more a call of ten times the length costs at most; 10 is linear."""
        return max(longer / shorter for shorter, longer in pairwise(self.calls))


def best(action: Callable[[], object], clock: Callable[[], float] = thread_time) -> float:
    """Microseconds of an action: the least of some rounds, which is what nothing disturbed."""
    seconds = []
    for _ in range(ROUNDS):
        begun = clock()
        action()
        seconds.append(clock() - begun)
    return min(seconds) * 1e6


def conversation(tools: Sequence[Tool] = ()) -> ChatRequest:
    """Twenty messages of some length."""
    text = "The harbour lies in the east of the town. " * 6
    turns = [
        Message(role="user" if i % 2 == 0 else "assistant", content=f"{i}: {text}")
        for i in range(19)
    ]
    messages = (Message(role="system", content="Be brief."), *turns)
    return ChatRequest(model="m", messages=messages, tools=tuple(tools))


def context_of(chat_format: ChatFormat) -> FormatContext:
    template = CHATML if chat_format.name == "template" else None
    model = ModelInfo(
        name="m", source="m", engine="none", context_length=1 << 20, chat_template=template
    )
    return FormatContext(model=model, now=datetime(2025, 1, 2))


def pieces(text: str, size: int = 4) -> list[str]:
    """A text in deltas of about one token."""
    return [text[i : i + size] for i in range(0, len(text), size)]


def parse(chat_format: ChatFormat, request: ChatRequest, deltas: Sequence[str]) -> int:
    """Parse an answer; how many calls it had."""
    parser = chat_format.parser(request, context_of(chat_format), Prompt())
    calls = 0
    for delta in deltas:
        calls += sum(len(made.tool_calls) for made in parser.feed(delta))
    return calls + sum(len(made.tool_calls) for made in parser.finish())


def measure(chat_format: ChatFormat) -> Row:
    """Measure one format."""
    context, request, with_tools = context_of(chat_format), conversation(), conversation([TOOL])
    try:
        chat_format.render(request, context)
        elsewhere = getattr(chat_format, "blocking", False)  # another process renders
        clock = perf_counter if elsewhere else thread_time
        render = best(lambda: chat_format.render(request, context), clock)
    except RequestError:
        render = None
    plain = pieces("Some words, as an answer has them. " * 115)[:1000]
    syntax = next((CALLS[f] for f in CALLS if chat_format.name.startswith(f)), CALLS["chatml"])
    calls = [pieces(syntax.format("x" * length)) for length in LENGTHS]
    return Row(
        name=chat_format.name,
        render=render,
        delta=best(lambda: parse(chat_format, with_tools, plain)) / len(plain),
        calls=tuple(best(partial(parse, chat_format, with_tools, call)) for call in calls),
    )


# -- others ----------------------------------------------------------------------------------


def transformers_render() -> float | None:
    """Microseconds that transformers takes for the conversation with a ChatML template."""
    try:
        from transformers.utils.chat_template_utils import render_jinja_template
    except ImportError:
        return None
    turns = [{"role": m.role, "content": m.content} for m in conversation().messages]

    def render() -> object:
        return render_jinja_template(
            conversations=[turns], chat_template=CHATML, add_generation_prompt=True
        )

    return best(render)


def vllm_parse() -> Iterator[tuple[str, float, tuple[float, ...]]]:
    """Name, microseconds of a plain delta and of calls, of vLLM's Hermes parser."""
    try:
        from vllm.tool_parsers.hermes_tool_parser import Hermes2ProToolParser
    except ImportError:
        return
    tokenizer = _Vocabulary()
    plain = pieces("Some words, as an answer has them. " * 115)[:1000]
    calls = [pieces(CALLS["chatml"].format("x" * length)) for length in LENGTHS]

    def stream(deltas: Sequence[str]) -> None:
        parser = Hermes2ProToolParser(tokenizer)
        before = ""
        for delta in deltas:
            after = before + delta
            parser.extract_tool_calls_streaming(before, after, delta, (), (), (), None)
            before = after

    yield (
        "vllm hermes",
        best(lambda: stream(plain)) / len(plain),
        tuple(best(partial(stream, call)) for call in calls),
    )


class _Vocabulary:
    """As much of a tokenizer as vLLM's parser asks for."""

    def get_vocab(self) -> dict[str, int]:
        return {"<tool_call>": 1, "</tool_call>": 2}

    def encode(self, text: str, **_: Any) -> list[int]:
        return [self.get_vocab().get(text, 0)]

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        names = {number: text for text, number in self.get_vocab().items()}
        return "".join(names.get(number, "") for number in ids)


# -- report ----------------------------------------------------------------------------------


def report(rows: Sequence[Row], rendered: float | None) -> str:
    """A table, all figures in microseconds."""
    head = f"{'format':24}{'render 20':>12}{'delta':>8}" + "".join(f"{n:>10,}" for n in LENGTHS)
    lines = [head + f"{'x10':>7}"]
    for row in rows:
        render = "refused" if row.render is None else f"{row.render:,.0f}"
        calls = "".join(f"{micros:>10,.0f}" for micros in row.calls)
        lines.append(f"{row.name:24}{render:>12}{row.delta:>8.2f}{calls}{row.growth:>7.1f}")
    if rendered is not None:
        lines.append(f"{'transformers (chatml)':24}{rendered:>12,.0f}")
    lines += [
        f"{name:24}{'':>12}{delta:>8.2f}"
        + "".join(f"{micros:>10,.0f}" for micros in calls)
        + f"{calls[-1] / calls[-2]:>7.1f}"
        for name, delta, calls in vllm_parse()
    ]
    slow = [row.name for row in rows if row.growth > 20]
    lines.append("linear in length: " + ("no: " + ", ".join(slow) if slow else "yes"))
    return "\n".join(lines)


def main(names: Sequence[str]) -> int:
    """Measure the named formats, or all; 1 if one is not linear."""
    here = str(Path(__file__).parent)
    sys.path[:] = [folder for folder in sys.path if folder != here]  # http.py here is no library
    registry = load_plugins()
    formats = [registry.chat_format(name) for name in names or sorted(registry.chat_formats)]
    rows = [measure(chat_format) for chat_format in formats]
    print(report(rows, transformers_render()))
    for chat_format in formats:
        close = getattr(chat_format, "close", None)
        if close is not None:
            close()
    return int(any(row.growth > 20 for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

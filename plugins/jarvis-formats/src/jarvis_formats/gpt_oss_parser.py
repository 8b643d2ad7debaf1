"""Answers of gpt-oss in deltas: a message on each channel, in the order in which they come."""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import frozen

from jarvis_core import (
    Call,
    Cursor,
    Delta,
    MarkerSearch,
    Mismatch,
    Scan,
    ToolCallDelta,
    json_text,
    literal,
    peek,
    read_call,
    run_of,
    spaces,
    tojson,
)

ENDS = ("<|end|>", "<|return|>", "<|call|>")
STARTS = ("<|start|>", "<|channel|>")
_SPACE = " \t\r\n"
_RECIPIENT = re.compile(r"[^\s<]*")


@frozen(kw_only=True)
class Header:
    """What stands before a message.

    Attributes:
        channel: ``analysis``, ``commentary`` or ``final``.
        recipient: Whom the message is for, empty for the user.
    """

    channel: str
    recipient: str


def scan_header(cursor: Cursor, marker: str) -> Scan[Header]:
    """The rest of a header, after one of ``STARTS`` or, without a marker, where an answer begins.

    The recipient may stand before the channel or after it, the type of content with a tag or
    without.
    """
    if marker == "<|start|>":
        yield from literal(cursor, "assistant")
    channel = recipient = content_type = ""
    if marker == "<|channel|>":
        channel = yield from _channel(cursor)
    while True:
        yield from spaces(cursor)
        if (yield from peek(cursor)) == "<":
            tag = yield from literal(cursor, "<|channel|>", "<|constrain|>", "<|message|>")
            if tag == "<|message|>" and channel:
                return Header(channel=channel, recipient=recipient)
            if tag == "<|channel|>" and not channel:
                channel = yield from _channel(cursor)
            elif tag != "<|constrain|>":
                raise Mismatch
        elif not channel:
            yield from literal(cursor, "to=")
            recipient = yield from _recipient(cursor, recipient)
        else:
            word = yield from run_of(cursor, _RECIPIENT)
            if word.startswith("to=") and len(word) > 3 and not recipient:
                recipient = word[3:]
            elif word.isalpha() and not content_type:
                content_type = word
            else:
                raise Mismatch


def _channel(cursor: Cursor) -> Scan[str]:
    name = yield from literal(cursor, "analysis", "commentary", "final")
    if (yield from peek(cursor)) not in f"{_SPACE}<":
        raise Mismatch
    return name


def _recipient(cursor: Cursor, known: str) -> Scan[str]:
    name = yield from run_of(cursor, _RECIPIENT)
    if known or not name:
        raise Mismatch
    return name


def scan_message(cursor: Cursor, marker: str) -> Scan[Header | Call]:
    """A header and, if the message is for a function, the whole call.

    Raises:
        Mismatch: Or the message is for somebody who is not here.
    """
    header = yield from scan_header(cursor, marker)
    if not header.recipient:
        return header
    called, _, name = header.recipient.partition(".")
    if called != "functions" or not name:
        raise Mismatch
    yield from spaces(cursor)
    arguments = yield from json_text(cursor, opening="{")
    return read_call(f'{{"name": {tojson(name)}, "arguments": {arguments}}}')


class HarmonyParser:
    """The ``DeltaParser``.

    A call is sent when it is complete. Text without a header is content, and so are a header and a
    call that are not correctly written. A message on the channel ``final`` ends only where another
    one or nothing follows: else the text of a mark in it is text.
    """

    def __init__(self, *, calls: bool, in_final: bool = False, only_final: bool = False) -> None:
        """Parse one answer.

        Args:
            calls: Whether a message for a function is a call of it; else it is ordinary text.
            in_final: Whether the answer begins inside of a message on the channel ``final``.
            only_final: Whether nothing follows a message on that channel.
        """
        self._calls_allowed = calls
        self._only_final = only_final
        self._is_last = in_final and only_final
        self._search = MarkerSearch(ENDS if in_final else (*ENDS, *STARTS))
        self._sink = "content"
        self._gap: list[str] = []
        self._raw: list[str] = []
        self._marker = ""
        self._cursor = Cursor()
        self._reading: Scan[Header | Call] | None = None
        self._calls = 0
        self._after_call = False
        self._said = False
        self._out: list[Delta] = []
        self._step = self._in_text
        if not in_final:
            self._begin("")

    def feed(self, text: str) -> Iterable[Delta]:
        """Deltas that are certain now that ``text`` has come."""
        self._out = []
        while text:
            text = self._step(text)
        return self._out

    def finish(self) -> Iterable[Delta]:
        """What was held back."""
        self._out = []
        rest = self._search.finish()
        if self._reading is not None:
            self._sink = "content"
            rest = self._marker + "".join(self._raw)
        if rest.strip() or not self._said:
            self._say("".join(self._gap) + rest)
        return self._out

    # Each step takes the text at hand and returns what is left of it for the next step.

    def _in_text(self, text: str) -> str:
        """Inside of a message, or in text that has no header."""
        before, marker, after = self._search.feed(text)
        self._say(before)
        return after if marker is None else self._at_marker(marker, after)

    def _at_edge(self, text: str) -> str:
        """After a message: a header should come."""
        if not self._search.holding:
            body = text.lstrip(_SPACE)
            self._gap.append(text[: len(text) - len(body)])
            text = body
        before, marker, after = self._search.feed(text)
        if before:
            self._leave_edge(before)
        return after if marker is None else self._at_marker(marker, after)

    def _at_marker(self, marker: str, rest: str) -> str:
        if marker in ENDS:
            if self._sink == "content" and not self._after_call:
                self._gap.append(marker)  # text still, unless a message follows
            else:
                self._gap.clear()
            self._said, self._sink, self._step = True, "content", self._at_edge
            self._search = MarkerSearch(ENDS if self._is_last else (*ENDS, *STARTS))
        else:
            self._begin(marker)
        return rest

    def _begin(self, marker: str) -> None:
        self._marker, self._raw, self._cursor = marker, [], Cursor()
        self._reading = self._message(self._cursor, marker)
        self._step = self._in_header

    def _message(self, cursor: Cursor, marker: str) -> Scan[Header | Call]:
        if self._calls_allowed:
            return scan_message(cursor, marker)
        return _without_calls(cursor, marker)

    def _in_header(self, text: str) -> str:
        assert self._reading is not None
        self._cursor.text, self._cursor.pos = text, 0
        try:
            next(self._reading)
        except StopIteration as end:
            self._reading, self._said = None, True
            self._gap.clear()
            if isinstance(end.value, Call):
                self._send(end.value)
            else:
                self._enter(end.value.channel)
            return text[self._cursor.pos :]
        except Mismatch:
            self._reading = None
            raw = "".join(self._raw) + text
            self._leave_edge(self._marker or raw[0])
            return raw if self._marker else raw[1:]
        self._raw.append(text)
        return ""

    def _enter(self, channel: str) -> None:
        """Begin with the text of a message."""
        self._sink = "reasoning" if channel == "analysis" else "content"
        self._is_last = channel == "final" and self._only_final
        self._search = MarkerSearch(ENDS if channel == "final" else (*ENDS, *STARTS))
        self._after_call = False
        self._step = self._in_text

    def _leave_edge(self, text: str) -> None:
        self._say("".join(self._gap) + text)
        self._gap.clear()
        self._after_call = False
        self._step = self._in_text

    def _say(self, text: str) -> None:
        if text:
            self._said = True
            reasoning = self._sink == "reasoning"
            self._out.append(Delta(reasoning=text) if reasoning else Delta(content=text))

    def _send(self, call: Call) -> None:
        piece = ToolCallDelta(
            index=self._calls, id=call.id, name=call.name, arguments=call.arguments
        )
        self._out.append(Delta(tool_calls=(piece,)))
        self._calls += 1
        self._sink, self._after_call = "content", True
        self._step = self._at_edge


def _without_calls(cursor: Cursor, marker: str) -> Scan[Header | Call]:
    header = yield from scan_header(cursor, marker)
    if header.recipient:
        raise Mismatch
    return header

"""Parsers of chat formats: tool calls found in text that arrives in pieces, in linear time.

``CallParser`` is a whole ``DeltaParser`` for a family of models that mark their tool calls. What
stands after the marker is told by a scan, see ``jarvis_core.scanning``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

from attrs import evolve, field, frozen

from jarvis_core.json_scan import is_object, json_items, json_members
from jarvis_core.rendering import tojson
from jarvis_core.scanning import Cursor, Mismatch, Scan
from jarvis_core.structs import ChatRequest, Delta, ToolCallDelta

_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)  # numbers are not looked at


@frozen(kw_only=True)
class Call:
    """A complete call of a tool.

    Attributes:
        name: Name of the function.
        arguments: JSON text of an object.
        id: Its identifier where the model wrote one; None lets the core make one.

    Raises:
        Mismatch: The arguments hold half of a surrogate pair: no text that could be sent back.
    """

    name: str
    arguments: str = field()
    id: str | None = None

    @arguments.validator
    def _check(self, _: object, arguments: str) -> None:
        if "\\ud" in arguments or "\\uD" in arguments:
            try:
                tojson(_DECODER.decode(arguments)).encode()
            except ValueError:
                raise Mismatch from None


def read_call(
    text: str,
    *,
    name: str = "name",
    arguments: Sequence[str] = ("arguments",),
    ignored: Sequence[str] = (),
) -> Call:
    """Read a call from a JSON object of name and arguments; ``id`` and ``type`` may be there too.

    Args:
        text: The object's text, as ``json_text`` gives it.
        name: The key under which the name stands.
        arguments: The keys under which the arguments may stand.
        ignored: Further keys that may be there and mean nothing to others.

    Raises:
        Mismatch: It is not a call, or a call of it would lose some of its text.
    """
    try:
        members = json_members(text)
    except ValueError:
        raise Mismatch from None
    given = [key for key in arguments if key in members]
    if len(given) != 1 or not members.keys() <= {name, "id", "type", given[0], *ignored}:
        raise Mismatch
    if members.get("type", '"function"') != '"function"':
        raise Mismatch
    called = _text_of(members.get(name, '""'))
    if not called:
        raise Mismatch
    raw_id = members.get("id", "null")
    return Call(
        name=called,
        arguments=_object_text(members[given[0]]),
        id=None if raw_id == "null" else _text_of(raw_id) or None,
    )


def read_calls(
    text: str,
    *,
    name: str = "name",
    arguments: Sequence[str] = ("arguments",),
    ignored: Sequence[str] = (),
) -> list[Call]:
    """Read calls from a JSON array of such objects.

    Raises:
        Mismatch: It is empty, or one of its items is not a call.
    """
    try:
        items = json_items(text)
    except ValueError:
        raise Mismatch from None
    if not items:
        raise Mismatch
    return [read_call(item, name=name, arguments=arguments, ignored=ignored) for item in items]


def _text_of(raw: str) -> str:
    """The value of a JSON string."""
    if not raw.startswith('"'):
        raise Mismatch
    text = str(json.loads(raw))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Mismatch from None
    return text


def _object_text(raw: str) -> str:
    """The text of a JSON object that was written as such, or inside of a JSON string."""
    if raw.startswith("{"):
        return raw
    inner = _text_of(raw).strip()
    if not is_object(inner):
        raise Mismatch
    return inner


def may_call_tools(request: ChatRequest) -> bool:
    """Whether call syntax in an answer means a call; elsewhere it is ordinary text."""
    return len(request.tools) > 0 and request.tool_choice.mode != "none"


class TextParser:
    """A ``DeltaParser`` for answers without tool calls: all text is content."""

    def feed(self, text: str) -> Iterable[Delta]:
        """The text as content."""
        return [Delta(content=text)] if text else []

    def finish(self) -> Iterable[Delta]:
        """Nothing is held back."""
        return []


class MarkerSearch:
    """Finds the first of some markers in text that arrives in pieces.

    Only an ending that may be the beginning of a marker is held back.
    """

    def __init__(self, markers: Iterable[str]) -> None:
        """Look for these markers, of which none may be part of another."""
        self._markers = tuple(markers)
        if any(a != b and a in b for a in self._markers for b in self._markers):
            raise ValueError(f"a marker is part of another one: {self._markers}")
        self._firsts = frozenset(marker[0] for marker in self._markers)
        self._longest = max(map(len, self._markers), default=1) - 1
        self._held = ""

    @property
    def holding(self) -> bool:
        """Whether something is held back."""
        return bool(self._held)

    def feed(self, text: str) -> tuple[str, str | None, str]:
        """Take further text: what is certain, the marker if one has come, what follows it."""
        if not self._held and self._firsts.isdisjoint(text):
            return text, None, ""
        text = self._held + text
        self._held = ""
        found = [(at, m) for m in self._markers if (at := text.find(m)) >= 0]
        if found:
            at, marker = min(found)
            return text[:at], marker, text[at + len(marker) :]
        for at in range(max(0, len(text) - self._longest), len(text)):
            if text[at] in self._firsts and any(m.startswith(text[at:]) for m in self._markers):
                self._held = text[at:]
                return text[:at], None, ""
        return text, None, ""

    def finish(self) -> str:
        """Give back what is held: no further text will come."""
        held, self._held = self._held, ""
        return held


class CallParser:
    """A ``DeltaParser`` for answers in which tool calls are marked.

    A call is sent when it is complete, or in the pieces that its scan yields. What looks like one
    and is not comes back as content, and so does a call that is never completed. White space next
    to a call is glue and is not sent.
    """

    def __init__(
        self,
        scan: Callable[[Cursor, str], Scan[Sequence[Call]]],
        *,
        markers: Iterable[str],
        bare: str = "",
        glue: str = " \t\r\n",
        ending: str = "",
        make_id: Callable[[int, str], str] | None = None,
    ) -> None:
        """Parse one answer.

        Args:
            scan: Reads the calls after a marker; its arguments are a cursor and the marker.
            markers: What a call begins with.
            bare: Characters that begin a call without a marker where the answer begins, or right
                after a call. The marker is then the empty string.
            glue: Characters that may stand between two calls and mean nothing.
            ending: A marker that may stand behind the last call and means nothing there.
            make_id: Makes the identifier of a call that has none, from its place in the answer and
                its name; None leaves it to the core.
        """
        self._scan = scan
        self._search = MarkerSearch([*markers, ending] if ending else markers)
        self._ending = ending
        self._bare = bare
        self._glue = glue
        self._make_id = make_id
        self._step = self._at_edge
        self._gap: list[str] = []
        self._calls = 0
        self._out: list[Delta] = []
        self._marker = ""
        self._raw: list[str] = []
        self._cursor = Cursor()
        self._begun = 0  # calls of the scan at hand of which something was sent
        self._reading: Scan[Sequence[Call]] | None = None

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
            rest = "" if self._begun else self._marker + "".join(self._raw)
        gap = "".join(self._gap)
        if rest or not self._calls or gap.strip():
            self._say(gap + rest)
        return self._out

    # Each step takes the text at hand and returns what is left of it for the next step.

    def _at_edge(self, text: str) -> str:
        """At the beginning of the answer or after a call: nothing but glue has come."""
        if not self._search.holding:
            body = text.lstrip(self._glue)
            if len(body) < len(text):
                self._gap.append(text[: len(text) - len(body)])
            if body and body[0] in self._bare:
                return self._begin("", body)
            text = body
        before, marker, after = self._search.feed(text)
        if before:
            self._leave_edge(before)
        elif marker and marker == self._ending and self._calls:
            self._gap.clear()
            return after
        return after if marker is None else self._begin(marker, after)

    def _in_text(self, text: str) -> str:
        before, marker, after = self._search.feed(text)
        self._say(before)
        return after if marker is None else self._begin(marker, after)

    def _begin(self, marker: str, rest: str) -> str:
        if marker and marker == self._ending:
            self._leave_edge(marker)
            return rest
        self._marker, self._raw, self._cursor, self._begun = marker, [], Cursor(), 0
        self._reading = self._scan(self._cursor, marker)
        self._step = self._in_call
        return rest

    def _in_call(self, text: str) -> str:
        assert self._reading is not None
        self._cursor.text, self._cursor.pos, sent = text, 0, 0
        try:
            while (piece := next(self._reading)) is not None:
                self._raw, sent = [], self._cursor.pos
                self._send_piece(piece)
        except StopIteration as end:
            self._reading = None
            self._gap.clear()
            self._step = self._at_edge
            self._calls += self._begun
            self._send(end.value)
            return text[self._cursor.pos :]
        except Mismatch:
            self._reading = None
            raw = "".join(self._raw) + text[sent:]
            if self._begun:
                self._calls += self._begun
                self._step = self._in_text
                return raw
            self._leave_edge(self._marker or raw[0])
            return raw if self._marker else raw[1:]
        self._raw.append(text[sent:])
        return ""

    def _leave_edge(self, text: str) -> None:
        self._say("".join(self._gap) + text)
        self._gap.clear()
        self._step = self._in_text

    def _say(self, text: str) -> None:
        if text:
            self._out.append(Delta(content=text))

    def _send(self, calls: Sequence[Call]) -> None:
        for call in calls:
            self._out.append(
                self._piece(
                    ToolCallDelta(index=0, id=call.id, name=call.name, arguments=call.arguments)
                )
            )
            self._calls += 1

    def _send_piece(self, piece: ToolCallDelta) -> None:
        self._begun = max(self._begun, piece.index + 1)
        self._gap.clear()
        self._out.append(self._piece(piece))

    def _piece(self, piece: ToolCallDelta) -> Delta:
        """A piece of a call, numbered within the whole answer."""
        index, call_id = self._calls + piece.index, piece.id
        if piece.name is not None and call_id is None and self._make_id is not None:
            call_id = self._make_id(index, piece.name)
        return Delta(tool_calls=(evolve(piece, index=index, id=call_id),))

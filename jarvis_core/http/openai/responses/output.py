"""The output of a response as it grows: deltas become items, and events that tell of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from jarvis_core.http.openai.answers import logprob
from jarvis_core.http.openai.responses.items import output_text
from jarvis_core.http.openai.responses.tools import Namespaces
from jarvis_core.json_scan import is_object
from jarvis_core.structs import Delta, TokenLogprob, ToolCallDelta

Event = tuple[str, Mapping[str, Any]]
"""Type of an event and its fields beside ``type`` and ``sequence_number``."""

Status = Literal["completed", "incomplete"]


class _Growing(Protocol):
    """An item that is being written."""

    index: int

    def opening(self) -> Iterator[Event]:
        """The events that announce it."""
        ...

    def closing(self, status: Status) -> Iterator[Event]:
        """The events that complete it, but for the item itself."""
        ...

    def item(self, status: str) -> dict[str, Any]:
        """The item as it is now."""
        ...


class Output:
    """Items in the order in which the model began them; one grows at a time.

    Args:
        make_id: Makes the identifier of an item from the prefix of its kind and its place.
        logprobs: Whether logprobs are wanted.
        tells_reasoning: Whether what is thought is told as it comes, as a summary; else it is
            content of its item, which comes whole: the two published schemas have no event in
            common for pieces of it.
        namespaces: What the client calls functions that are in a namespace.
    """

    def __init__(
        self,
        make_id: Callable[[str, int], str],
        *,
        logprobs: bool,
        tells_reasoning: bool,
        namespaces: Namespaces,
    ) -> None:
        self._make_id = make_id
        self._logprobs = logprobs
        self._tells_reasoning = tells_reasoning
        self._namespaces = namespaces
        self._done: list[dict[str, Any]] = []
        self._growing: _Growing | None = None

    @property
    def items(self) -> list[dict[str, Any]]:
        """The items that are complete."""
        return list(self._done)

    def add(self, delta: Delta) -> Iterator[Event]:
        """Take the next delta."""
        if delta.reasoning:
            yield from self._reasoning(delta.reasoning)
        if delta.content:
            yield from self._text(delta.content, delta.logprobs)
        elif delta.logprobs and isinstance(self._growing, _Message):
            yield from self._text("", delta.logprobs)
        for call in delta.tool_calls:
            yield from self._call(call)

    def finish(self, status: Status) -> Iterator[Event]:
        """Complete what is growing; an answer without anything is an empty message."""
        if self._growing is None and not self._done:
            yield from self._begin(_Message(self._make_id("msg", 0), 0, self._logprobs))
        yield from self._end(status)

    def _reasoning(self, text: str) -> Iterator[Event]:
        growing = self._growing
        if not isinstance(growing, _Reasoning):
            yield from self._end("completed")
            index = len(self._done)
            kind = _ToldReasoning if self._tells_reasoning else _Reasoning
            growing = kind(self._make_id("rs", index), index)
            yield from self._begin(growing)
        yield from growing.add(text)

    def _text(self, text: str, logprobs: Sequence[TokenLogprob]) -> Iterator[Event]:
        growing = self._growing
        if not isinstance(growing, _Message):
            yield from self._end("completed")
            index = len(self._done)
            growing = _Message(self._make_id("msg", index), index, self._logprobs)
            yield from self._begin(growing)
        yield growing.add(text, logprobs)

    def _call(self, call: ToolCallDelta) -> Iterator[Event]:
        growing = self._growing
        if not isinstance(growing, _Call) or growing.number != call.index:
            yield from self._end("completed")
            index = len(self._done)
            named = self._namespaces.get(call.name or "")
            growing = _Call(self._make_id("fc", index), index, call, named)
            yield from self._begin(growing)
        if call.arguments:
            yield growing.add(call.arguments)

    def _begin(self, growing: _Growing) -> Iterator[Event]:
        self._growing = growing
        return growing.opening()

    def _end(self, status: Status) -> Iterator[Event]:
        growing, self._growing = self._growing, None
        if growing is not None:
            yield from growing.closing(status)
            item = growing.item(status)
            self._done.append(item)
            yield "response.output_item.done", {"output_index": growing.index, "item": item}


class _Message:
    """Text of the answer."""

    def __init__(self, id: str, index: int, logprobs: bool) -> None:  # noqa: A002
        self.index = index
        self._id = id
        self._place = {"item_id": id, "output_index": index, "content_index": 0}
        self._wants_logprobs = logprobs
        self._text: list[str] = []
        self._logprobs: list[dict[str, Any]] = []

    def add(self, text: str, logprobs: Sequence[TokenLogprob]) -> Event:
        self._text.append(text)
        new = [logprob(p) for p in logprobs] if self._wants_logprobs else []
        self._logprobs += new
        return "response.output_text.delta", {**self._place, "delta": text, "logprobs": new}

    def opening(self) -> Iterator[Event]:
        item = {**self.item("in_progress"), "content": []}
        yield "response.output_item.added", {"output_index": self.index, "item": item}
        yield "response.content_part.added", {**self._place, "part": output_text("")}

    def closing(self, status: Status) -> Iterator[Event]:
        part = self._part()
        done = {"text": part["text"], "logprobs": part["logprobs"]}
        yield "response.output_text.done", {**self._place, **done}
        yield "response.content_part.done", {**self._place, "part": part}

    def item(self, status: str) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [self._part()],
        }

    def _part(self) -> Mapping[str, Any]:
        return output_text("".join(self._text), self._logprobs)


class _Call:
    """A call of a function.

    Attributes:
        number: Which call of the answer.
    """

    def __init__(
        self,
        id: str,  # noqa: A002
        index: int,
        call: ToolCallDelta,
        named: tuple[str, str] | None,
    ) -> None:
        self.index = index
        self.number = call.index
        self._id = id
        self._place = {"item_id": id, "output_index": index}
        self._call_id = call.id or f"call_{id.removeprefix('fc_')}"
        self._namespace, self._name = named or ("", call.name or "")
        self._arguments: list[str] = []

    def add(self, text: str) -> Event:
        self._arguments.append(text)
        return "response.function_call_arguments.delta", {**self._place, "delta": text}

    def opening(self) -> Iterator[Event]:
        item = self.item("in_progress")
        yield "response.output_item.added", {"output_index": self.index, "item": item}

    def closing(self, status: Status) -> Iterator[Event]:
        done = {"name": self._name, "arguments": "".join(self._arguments)}
        yield "response.function_call_arguments.done", {**self._place, **done}

    def item(self, status: str) -> dict[str, Any]:
        arguments = "".join(self._arguments)
        if status == "completed" and not is_object(arguments):
            status = "incomplete"  # a stop string has cut it
        return {
            "id": self._id,
            "type": "function_call",
            "status": status,
            "call_id": self._call_id,
            "name": self._name,
            **({"namespace": self._namespace} if self._namespace else {}),
            "arguments": arguments,
        }


class _Reasoning:
    """What the model thinks, as content of its item."""

    def __init__(self, id: str, index: int) -> None:  # noqa: A002
        self.index = index
        self._id = id
        self._text: list[str] = []

    def add(self, text: str) -> Iterator[Event]:
        self._text.append(text)
        return iter(())

    def opening(self) -> Iterator[Event]:
        item = {**self._item("in_progress"), "summary": []}
        yield "response.output_item.added", {"output_index": self.index, "item": item}
        yield "response.content_part.added", {**self._place, "part": _thought("")}

    def closing(self, status: Status) -> Iterator[Event]:
        yield "response.content_part.done", {**self._place, "part": self._part()}

    def item(self, status: str) -> dict[str, Any]:
        return {**self._item(status), "summary": [], "content": [self._part()]}

    def _item(self, status: str) -> dict[str, Any]:
        return {"id": self._id, "type": "reasoning", "status": status}

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self._id, "output_index": self.index, "content_index": 0}

    def _part(self) -> Mapping[str, Any]:
        return _thought("".join(self._text))


class _ToldReasoning(_Reasoning):
    """What the model thinks, told as a summary that leaves nothing out."""

    def add(self, text: str) -> Iterator[Event]:
        self._text.append(text)
        yield "response.reasoning_summary_text.delta", {**self._place, "delta": text}

    def opening(self) -> Iterator[Event]:
        item = {**self._item("in_progress"), "summary": []}
        yield "response.output_item.added", {"output_index": self.index, "item": item}
        yield "response.reasoning_summary_part.added", {**self._place, "part": _told("")}

    def closing(self, status: Status) -> Iterator[Event]:
        part = self._part()
        yield "response.reasoning_summary_text.done", {**self._place, "text": part["text"]}
        yield "response.reasoning_summary_part.done", {**self._place, "part": part}

    def item(self, status: str) -> dict[str, Any]:
        return {**self._item(status), "summary": [self._part()]}

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self._id, "output_index": self.index, "summary_index": 0}

    def _part(self) -> Mapping[str, Any]:
        return _told("".join(self._text))


def _thought(text: str) -> dict[str, str]:
    return {"type": "reasoning_text", "text": text}


def _told(text: str) -> dict[str, str]:
    return {"type": "summary_text", "text": text}

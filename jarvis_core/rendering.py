"""Helpers for chat formats and engines: build a prompt, and cut it for a tokenizer."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

from attrs import evolve, frozen

from jarvis_core.errors import RequestError, UnsupportedParameter
from jarvis_core.structs import (
    ChatRequest,
    MediaPart,
    Message,
    Prompt,
    Segment,
    SegmentKind,
    TextPart,
)


class PromptBuilder:
    """Collects segments in order; neighbours of one kind become one segment."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self._kind = _SCAFFOLD
        self._texts: list[str] = []  # of the segment at hand
        self._closing = ""  # of a turn that nothing has followed yet; no texts are at hand then

    def scaffold(self, text: str) -> PromptBuilder:
        """Add text that the format wrote: control tokens in it are tokens."""
        if text:
            if self._closing:
                self._texts, self._closing = [self._closing], ""
            elif self._kind is not _SCAFFOLD:
                self._end(_SCAFFOLD)
            self._texts.append(text)
        return self

    def content(self, text: str) -> PromptBuilder:
        """Add text that a user, tool or file wrote: control tokens in it stay text."""
        if text:
            if self._kind is not _CONTENT:
                self._end(_CONTENT)
            self._texts.append(text)
        return self

    def turn(self, opening: str, text: str, closing: str) -> PromptBuilder:
        """Add a message of text: scaffold that opens its turn, content, scaffold that closes it.

        The same as three calls, and quicker.
        """
        if not (opening and text and closing):
            return self.scaffold(opening).content(text).scaffold(closing)
        if self._closing:
            self._segments.append(_between(self._closing, opening))
        else:
            self.scaffold(opening)._end(_SCAFFOLD)
        self._segments.append(_TextSegment(_CONTENT, text))
        self._closing = closing
        return self

    def media(self, part: MediaPart) -> PromptBuilder:
        """Add a part that is not text, in place of the text that stands for it in the template."""
        self._end(_SCAFFOLD)
        self._segments.append(Segment(kind=SegmentKind.MEDIA, media=part))
        return self

    def build(self, *, stop: Sequence[str] = (), starts_in_reasoning: bool = False) -> Prompt:
        """The prompt."""
        self._end(_SCAFFOLD)
        return Prompt(
            segments=tuple(self._segments),
            stop=tuple(stop),
            starts_in_reasoning=starts_in_reasoning,
        )

    def _end(self, following: SegmentKind) -> None:
        """End the segment at hand."""
        if text := self._closing or "".join(self._texts):
            known = self._kind is _SCAFFOLD and len(text) <= _SHORT
            self._segments.append(_between(text) if known else _TextSegment(self._kind, text))
        self._texts, self._closing, self._kind = [], "", following


_SCAFFOLD, _CONTENT = SegmentKind.SCAFFOLD, SegmentKind.CONTENT
_SHORT = 100  # characters of what a format writes between two texts


class _TextSegment(Segment):
    """A segment in the making, which can be written to until it is a ``Segment``.

    A conversation has dozens of them, and ``Segment(...)`` takes three times as long.
    """

    __slots__ = ()
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__

    def __init__(self, kind: SegmentKind, text: str) -> None:
        self.kind = kind  # type: ignore[misc]
        self.text = text  # type: ignore[misc]
        self.media = None  # type: ignore[misc]
        self.__class__ = Segment  # type: ignore[assignment]


@lru_cache(maxsize=512)  # a few for each format
def _between(closing: str, opening: str = "") -> Segment:
    """The scaffold between two texts, which comes again and again."""
    return _TextSegment(_SCAFFOLD, closing + opening)


@frozen
class Control:
    """A control token of the scaffold, by its text."""

    text: str


def prompt_runs(prompt: Prompt, control_tokens: Sequence[str]) -> Iterator[str | Control]:
    """Cut a prompt into what a tokenizer sees: runs of plain text, and control tokens.

    Only control tokens of scaffold segments split runs. A run joins neighbouring scaffold and
    content text, so that its token ids are those of the whole rendered string; it is to be
    tokenized with special tokens off.

    Args:
        prompt: The prompt; media segments are an error of the caller.
        control_tokens: Texts of the tokenizer's control tokens; the longest match wins.
    """
    splitter = _splitter(tuple(control_tokens))
    run: list[str] = []
    for segment in prompt.segments:
        if segment.kind is SegmentKind.MEDIA:
            raise ValueError("media segments have no text run")
        if segment.kind is SegmentKind.CONTENT or splitter is None:
            run.append(segment.text)
            continue
        for i, piece in enumerate(splitter.split(segment.text)):
            if i % 2 == 0:
                run.append(piece)
                continue
            if text := "".join(run):
                yield text
            run.clear()
            yield Control(piece)
    if text := "".join(run):
        yield text


@lru_cache(maxsize=32)  # one for each loaded model: some have a thousand control tokens
def _splitter(control_tokens: tuple[str, ...]) -> re.Pattern[str] | None:
    ordered = sorted({t for t in control_tokens if t}, key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, ordered)) + ")") if ordered else None


def text_of(message: Message, *, param: str = "messages", separator: str = "\n") -> str:
    """A message's content as text: parts joined by ``separator``, None as the empty string.

    Raises:
        RequestError: A part is not text.
    """
    if message.content is None:
        return ""
    if isinstance(message.content, str):
        return message.content
    texts = []
    for part in message.content:
        if not isinstance(part, TextPart):
            raise RequestError(f"this model takes text only, not {part.kind}", param=param)
        texts.append(part.text)
    return separator.join(texts)


def tojson(value: Any, indent: int | None = None) -> str:
    """JSON as chat templates print it: keys in order, non-ASCII as it is, no HTML escapes."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def arguments_object(arguments: str, *, param: str = "messages") -> Any:
    """The value of a tool call's JSON arguments, for templates that print it themselves.

    Raises:
        RequestError: The text is not JSON, or holds what cannot be printed as JSON again.
    """
    try:
        value = _ARGUMENTS.decode(arguments or "{}")
        if "\\u" in arguments:
            tojson(value).encode()  # a lone surrogate is no text that a tokenizer could read
    except (ValueError, RecursionError) as error:
        raise RequestError("arguments of a tool call are not valid JSON", param=param) from error
    return value


_MOST_DIGITS = 4000  # Python prints integers of 4,300


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float | int:
    """A number; one that no float holds has no fraction left and is printed with all its digits."""
    if math.isfinite(number := float(text)):
        return number
    if (exact := Decimal(text)).adjusted() > _MOST_DIGITS:
        raise ValueError(f"{text} is out of range")
    return int(exact)


_ARGUMENTS = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def developer_as_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages with role ``system`` for ``developer``, for templates that know only system."""
    return tuple([evolve(m, role="system") if m.role == "developer" else m for m in messages])


def left_open(request: ChatRequest, index: int) -> bool:
    """Whether the turn of a message is left open, to be continued by the model.

    Args:
        request: The request; only its last message can be left open.
        index: Which of ``request.messages`` is being rendered.

    Raises:
        RequestError: It is to be continued but is no text of the assistant or the user.
    """
    if not request.continue_final_message or index != len(request.messages) - 1:
        return False
    last = request.messages[index]
    if last.role not in ("assistant", "user") or last.tool_calls:
        raise RequestError(
            "continue_final_message needs a last message that is text of the assistant",
            param=f"messages[{index}]",
        )
    return True


def check_template_kwargs(request: ChatRequest, *known: str) -> None:
    """Refuse template kwargs that a format does not look at, so that none is ignored in silence.

    ``enable_thinking`` may be false everywhere, and ``reasoning_effort`` none: it asks of most
    models what they do anyway. A format that knows one of them knows both, and where
    ``reasoning_optional`` says so it need not know any.

    Raises:
        UnsupportedParameter: One of them is none of the known ones.
    """
    if not request.template_kwargs and request.reasoning_effort in (None, "none"):
        return
    thinks = {"enable_thinking", "reasoning_effort"} & {*known}
    needed = request.reasoning_effort not in (None, "none") and not request.reasoning_optional
    if needed and not thinks:
        raise UnsupportedParameter(
            "this model's chat format knows no reasoning_effort", param="reasoning_effort"
        )
    for name, value in request.template_kwargs.items():
        if name not in known and not (name == "enable_thinking" and value in (False, None)):
            knows = f"; it knows {', '.join(known)}" if known else ""
            raise UnsupportedParameter(
                f"this model's chat format does not know {name}{knows}",
                param=name if name == "documents" else f"chat_template_kwargs.{name}",
            )

"""Answers whose text stands between two markers, as Command models write them."""

from __future__ import annotations

from collections.abc import Iterable

from jarvis_core.interfaces import DeltaParser
from jarvis_core.parsing import MarkerSearch
from jarvis_core.structs import Delta


class FramedParser:
    """A ``DeltaParser`` for an answer that may stand between two markers of its own.

    They count only where the answer begins. What has no such markers is left to another parser,
    and so is what follows after them.
    """

    def __init__(
        self, other: DeltaParser, *, opening: str, closing: str, inside: bool = False
    ) -> None:
        """Parse one answer.

        Args:
            other: Parses everything but the text between the markers.
            opening: The marker before the text.
            closing: The marker behind it.
            inside: The prompt has written the first marker already.
        """
        self._other = other
        self._opening = opening
        self._search = MarkerSearch([closing])
        self._read = ""
        self._step = self._in_frame if inside else self._at_start
        self._out: list[Delta] = []

    def feed(self, text: str) -> Iterable[Delta]:
        """Deltas that are certain now that ``text`` has come."""
        self._out = []
        while text:
            text = self._step(text)
        return self._out

    def finish(self) -> Iterable[Delta]:
        """What was held back."""
        self._out = []
        if self._read:
            self._in_other(self._read)
        if rest := self._search.finish():
            self._out.append(Delta(content=rest))
        return [*self._out, *self._other.finish()]

    # Each step takes the text at hand and returns what is left of it for the next step.

    def _at_start(self, text: str) -> str:
        read = self._read + text
        self._read = read if self._opening.startswith(read) and read != self._opening else ""
        if self._read:
            return ""
        if read.startswith(self._opening):
            self._step = self._in_frame
            return read[len(self._opening) :]
        self._step = self._in_other
        return read

    def _in_frame(self, text: str) -> str:
        before, marker, after = self._search.feed(text)
        if before:
            self._out.append(Delta(content=before))
        if marker is not None:
            self._step = self._in_other
        return after

    def _in_other(self, text: str) -> str:
        self._out.extend(self._other.feed(text))
        return ""

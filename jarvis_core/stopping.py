"""Stop strings, matched while text arrives, for engines whose backend has none."""

from __future__ import annotations

from collections.abc import Iterable


class StopStrings:
    """Finds the first stop string in text that arrives in pieces.

    The match that is complete first wins, among matches that end together the longest. So where
    the text is cut into pieces carries no meaning. Text is held back only while it may be the
    start of a stop string.

    Example::

        stops = StopStrings(["END"])
        stops.feed("one E")  # ("one ", None)
        stops.feed("ND two")  # ("", "END")
    """

    __slots__ = ("_first", "_held", "_stops", "_tail")

    def __init__(self, stops: Iterable[str]) -> None:
        """Look for these strings; empty and repeated ones do not count."""
        self._stops = tuple(dict.fromkeys(s for s in stops if s))
        self._first = frozenset(s[0] for s in self._stops)
        self._tail = max(map(len, self._stops), default=1) - 1
        self._held = ""

    def __bool__(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self._stops)

    def feed(self, text: str) -> tuple[str, str | None]:
        """Take further text.

        Returns:
            The text that is certain not to belong to a stop string, and the stop string that was
            found, if one was. After a match the text beside it is dropped.
        """
        if not self._held and self._first.isdisjoint(text):
            return text, None
        text = self._held + text
        best: tuple[int, int] | None = None
        for stop in self._stops:
            start = text.find(stop)
            if start >= 0 and (best is None or (start + len(stop), start) < best):
                best = (start + len(stop), start)
        if best is not None:
            end, start = best
            self._held = ""
            return text[:start], text[start:end]
        cut = self._start_of_hold(text)
        self._held = text[cut:]
        return text[:cut], None

    def finish(self) -> str:
        """Give back what is held: no further text will come."""
        held, self._held = self._held, ""
        return held

    def _start_of_hold(self, text: str) -> int:
        """Where the longest ending of ``text`` begins that a stop string begins with."""
        for at in range(max(0, len(text) - self._tail), len(text)):
            if text[at] in self._first:
                ending = text[at:]
                if any(stop.startswith(ending) for stop in self._stops):
                    return at
        return len(text)

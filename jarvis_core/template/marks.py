"""Keeps control tokens that a user wrote apart from those that a template prints.

A template gives one string, in which both look the same. So where some text of the request holds a
control token, or could form one with what stands beside it, the place is marked with two characters
that occur nowhere else, and found again in a second rendering.
"""

from __future__ import annotations

import marshal
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice, pairwise
from typing import Any

from attrs import frozen

from jarvis_core.rendering import PromptBuilder

# Who speaks and what a part is are names that templates compare with; the core checks them.
_OWN_KEYS = frozenset({"role", "type"})


@frozen
class ControlTokens:
    """The texts of a tokenizer's control tokens, prepared for search.

    Attributes:
        whole: Finds a token, the longest first.
        beginnings: Texts that begin a token and are not whole ones.
        endings: Texts that end a token and are not whole ones.
        longest: Characters of the longest token.
        firsts: The characters that tokens begin with.
        lasts: Those that they end with.
    """

    whole: re.Pattern[str]
    beginnings: frozenset[str]
    endings: frozenset[str]
    longest: int
    firsts: frozenset[str]
    lasts: frozenset[str]

    def may_be_in(self, text: str) -> bool:
        """Whether a text could hold a token, or a part of one at either end; most texts do not."""
        for char in self.firsts:
            if char in text:
                return True
        return not self.lasts.isdisjoint(text[: self.longest])


@lru_cache(maxsize=8)
def control_tokens(texts: tuple[str, ...]) -> ControlTokens | None:
    """Prepare the texts of control tokens; None if there are none."""
    tokens = sorted({t for t in texts if t.strip()}, key=len, reverse=True)
    if not tokens:
        return None
    return ControlTokens(
        re.compile("|".join(map(re.escape, tokens))),
        frozenset(t[:n] for t in tokens for n in range(1, len(t))),
        frozenset(t[-n:] for t in tokens for n in range(1, len(t))),
        len(tokens[0]),
        frozenset(t[0] for t in tokens),
        frozenset(t[-1] for t in tokens),
    )


def unused_characters(values: Any, count: int) -> list[str]:
    """Private characters that do not occur in plain values."""
    data = marshal.dumps(values)  # texts in UTF-8, among others: quick to make and to search
    private = map(chr, range(0xE000, 0xF000))  # their first byte is the same
    free = private if b"\xee" not in data else (c for c in private if c.encode() not in data)
    return list(islice(free, count))


class Marker:
    """Marks the texts of one request.

    Attributes:
        marked: The places that were marked.
    """

    def __init__(self, tokens: ControlTokens, before: str, after: str) -> None:
        """Mark with these two characters, which nothing else may hold."""
        self.marked: set[str] = set()
        self._tokens = tokens
        self._before = before
        self._after = after

    def mark(self, value: Any) -> Any:
        """A copy of plain values in which every dangerous place is marked."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, (list, tuple)):
            return [self.mark(item) for item in value]
        if isinstance(value, dict):
            return {
                self._key(key): item
                if key in _OWN_KEYS and isinstance(item, str)
                else self.mark(item)
                for key, item in value.items()
            }
        return value

    def unmark(self, text: str) -> str:
        """The text without marks."""
        return text.replace(self._before, "").replace(self._after, "")

    def build(self, text: str, out: PromptBuilder) -> None:
        """Add a marked text to a prompt: what was marked is content, the rest is scaffold."""
        pattern = f"{self._before}([^{self._before}{self._after}]*){self._after}"
        end = 0
        for found in re.finditer(pattern, text):
            if found[1] in self.marked:
                out.scaffold(self.unmark(text[end : found.start()])).content(found[1])
                end = found.end()
        out.scaffold(self.unmark(text[end:]))

    def _key(self, key: str) -> str:
        if not self._tokens.may_be_in(key) or not self._tokens.whole.search(key):
            return key
        return "".join(self._pieces(key))

    def _text(self, text: str) -> str:
        core = text.strip()  # templates strip: the marks stay inside
        if not self._tokens.may_be_in(core):
            return text
        start = text.index(core)
        return text[:start] + "".join(self._pieces(core)) + text[start + len(core) :]

    def _pieces(self, text: str) -> Iterator[str]:
        """The text, its whole tokens marked, and what could be part of one at either end."""
        first = self._edge(text, self._tokens.endings, at_start=True)
        last = self._edge(text, self._tokens.beginnings, at_start=False)
        end = 0
        for found in self._tokens.whole.finditer(text):
            yield from self._plain(text, end, found.start(), first, last)
            yield self._wrap(found[0])
            end = found.end()
        yield from self._plain(text, end, len(text), first, last)

    def _plain(self, text: str, start: int, end: int, first: int, last: int) -> Iterator[str]:
        """Text between tokens; ``first`` and ``last`` are where the edges end and begin."""
        cuts = sorted({start, min(max(first, start), end), min(max(last, start), end), end})
        for a, b in pairwise(cuts):
            piece = text[a:b]
            yield self._wrap(piece) if b <= first or a >= last else piece

    def _edge(self, text: str, parts: frozenset[str], *, at_start: bool) -> int:
        for n in range(min(self._tokens.longest, len(text)), 0, -1):
            if at_start and text[n - 1] in self._tokens.lasts and text[:n] in parts:
                return n
            if not at_start and text[-n] in self._tokens.firsts and text[-n:] in parts:
                return len(text) - n
        return 0 if at_start else len(text)

    def _wrap(self, text: str) -> str:
        self.marked.add(text)
        return self._before + text + self._after

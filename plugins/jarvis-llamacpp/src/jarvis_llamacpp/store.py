"""States of sequences that left the KV cache, in ordinary memory, so that conversations resume."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict

import numpy as np
import numpy.typing as npt
from attrs import field, frozen

from jarvis_llamacpp.sequence import Tokens, common_prefix

State = npt.NDArray[np.uint8]
"""What llama.cpp says of a sequence, uint8, one-dimensional."""


@frozen(eq=False, order=False)
class Stored:
    """A sequence that is kept.

    Attributes:
        tokens: What it computed, int32.
        salt: Who may reuse it.
        state: Its state.
        key: Its tokens as bytes, in whose order sequences with a long common prefix are neighbours.
    """

    tokens: Tokens
    salt: str | None
    state: State
    key: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return self.state.nbytes + 2 * len(self.key)


class StateStore:
    """Keeps as many states as fit; those that were unused the longest go first.

    Attributes:
        limit: Bytes at most.
        used: Bytes that are taken.
        lent: Bytes of its room that others take.
    """

    def __init__(self, limit: int) -> None:
        """Begin with nothing; a limit of 0 keeps nothing ever."""
        self.limit = limit
        self.used = 0
        self.lent = 0
        self._by_age: OrderedDict[int, Stored] = OrderedDict()
        self._by_key: dict[str | None, list[Stored]] = {}

    def __len__(self) -> int:
        """States that are kept."""
        return len(self._by_age)

    def holds(self, tokens: Tokens, salt: str | None) -> bool:
        """Whether some state begins with these tokens; it counts as used now."""
        key, line = _key(tokens), self._by_key.get(salt, [])
        at = bisect_left(line, key, key=_key_of)
        if at < len(line) and line[at].key.startswith(key):
            self.touch(line[at])
            return True
        return False

    def put(self, tokens: Tokens, salt: str | None, state: State, *, replace: bool) -> None:
        """Keep a state.

        Args:
            tokens: What the sequence computed.
            salt: Who may reuse it.
            state: Its state.
            replace: Whether it makes states of its beginnings superfluous.
        """
        stored = Stored(tokens.copy(), salt, state, _key(tokens))
        if stored.size > self.limit:
            return
        line = self._by_key.setdefault(salt, [])
        while replace:
            at = bisect_left(line, stored.key, key=_key_of)
            if at == 0 or not stored.key.startswith(line[at - 1].key):
                break
            self._drop(line[at - 1])
        insort(line, stored, key=_key_of)
        self._by_key[salt] = line
        self._by_age[id(stored)] = stored
        self.used += stored.size
        self._shrink()

    def lend(self, size: int) -> None:
        """Leave so many bytes of its room to others."""
        self.lent = size
        self._shrink()

    def find(self, tokens: Tokens, salt: str | None, *, whole: bool) -> tuple[Stored | None, int]:
        """The state with the longest common prefix, and the prefix's tokens.

        Args:
            tokens: What is to be computed.
            salt: Whose it is.
            whole: Whether a state counts only if all of it is a prefix.
        """
        line = self._by_key.get(salt)
        if not line:
            return None, 0
        key = _key(tokens)
        if whole:
            prefixes = [stored for stored in line if key.startswith(stored.key)]
            best = max(prefixes, key=lambda stored: len(stored.key), default=None)
            return best, 0 if best is None else len(best.tokens)
        at = bisect_left(line, key, key=_key_of)
        found: Stored | None = None
        longest = 0
        for stored in line[max(0, at - 1) : at + 1]:
            most = min(len(stored.tokens), len(tokens))
            common = common_prefix(stored.tokens, tokens, most)
            if common > longest:
                found, longest = stored, common
        return found, longest

    def touch(self, stored: Stored) -> None:
        """Note that a state is used now."""
        if id(stored) in self._by_age:
            self._by_age.move_to_end(id(stored))

    def clear(self) -> None:
        """Forget all."""
        self.used = 0
        self._by_age.clear()
        self._by_key.clear()

    def _shrink(self) -> None:
        while self.used and self.used + self.lent > self.limit:
            self._drop(next(iter(self._by_age.values())))

    def _drop(self, stored: Stored) -> None:
        line = self._by_key[stored.salt]
        at = bisect_left(line, stored.key, key=_key_of)
        while line[at] is not stored:
            at += 1
        del line[at]
        if not line:
            del self._by_key[stored.salt]
        del self._by_age[id(stored)]
        self.used -= stored.size


def _key(tokens: Tokens) -> bytes:
    return tokens.astype(">i4").tobytes()


def _key_of(stored: Stored) -> bytes:
    return stored.key

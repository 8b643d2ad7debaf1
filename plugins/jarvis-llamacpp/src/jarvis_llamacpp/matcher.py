"""What one continuation may say next, so that its text obeys a constraint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
from llguidance import LLMatcher

from jarvis_core import EngineError
from jarvis_llamacpp.filters import Row

_SLOWNESS = 0.25
"""Seconds of a core that all masks of a continuation may take beyond the usual."""

_USUAL = 0.005
"""Seconds of a core that a mask may take without being called slow."""


class Matcher:
    """Follows the tokens of one continuation through a grammar.

    Attributes:
        complete: Whether nothing can follow: the grammar is at its end.
    """

    def __init__(self, state: LLMatcher, *, end_ids: frozenset[int], may_end: bool) -> None:
        """Begin a text.

        Args:
            state: llguidance's state, nobody else's from here on.
            end_ids: Ids of the tokens that end generation.
            may_end: Whether one of them may come where the grammar allows an end; if not, text
                goes on as long as the grammar allows.
        """
        self._state = state
        self._ends = np.fromiter(end_ids, np.intp)
        self._end_ids = end_ids
        self._may_end = may_end
        self._slowness = 0.0
        self.complete = state.is_stopped()

    def choose(self, row: Row, choose: Callable[[Row], int], *, greedy: bool) -> int | None:
        """Choose the next token; None if only an end can come and none was chosen.

        Args:
            row: Logits, float32, shape ``(vocabulary,)``; they are changed.
            choose: Chooses a token from logits, those that may not come being ``-inf``.
            greedy: Whether ``choose`` takes the likeliest token and changes nothing before.

        Raises:
            EngineError: The grammar turned out to be more work than a token is worth.
        """
        if greedy:
            # Asking for one token costs much less than asking for all.
            token = int(row.argmax())
            sound = math.isfinite(row[token])
            if sound and token not in self._end_ids and self._follow(token):
                return token
        if not self._restrict(row):
            self.complete = True
            return None
        token = choose(row)
        if token not in self._end_ids and not self._follow(token):
            raise self._failure()
        return token

    def _restrict(self, row: Row) -> bool:
        """Make what may not come impossible; False if nothing but an end may come."""
        began = time.thread_time()  # time that other programs have the core is not the grammar's
        bits = np.frombuffer(self._state.compute_bitmask(), np.uint8)
        self._slowness += max(0.0, time.thread_time() - began - _USUAL)
        if self._state.is_error() or self._slowness > _SLOWNESS:
            raise self._failure()
        allowed = np.unpackbits(bits, count=len(row), bitorder="little").view(np.bool_)
        accepting = self._state.is_accepting()
        named = allowed[self._ends].any() and not accepting
        allowed[self._ends] = False
        if not allowed.any():
            return False
        # A grammar may name an end token: where it does, it allows an end.
        if self._may_end and (accepting or named):
            allowed[self._ends] = True
        np.copyto(row, np.float32(-np.inf), where=~allowed)
        return True

    def _follow(self, token: int) -> bool:
        """Go on with a token if it is allowed."""
        if self._state.try_consume_tokens([token]) != 1:
            if self._state.is_error():
                raise self._failure()
            return False
        self.complete = self._state.is_stopped()
        return True

    def _failure(self) -> EngineError:
        return EngineError(
            "the constraint became too complex while it was enforced: make it simpler"
        )

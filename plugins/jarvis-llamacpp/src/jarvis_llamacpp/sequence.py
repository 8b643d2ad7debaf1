"""One continuation as the scheduler sees it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from attrs import define

from jarvis_core import Share

Tokens = npt.NDArray[np.int32]


@define(eq=False, kw_only=True)
class Sequence:
    """Tokens that are computed bit by bit.

    Attributes:
        tokens: Prompt and generated tokens, int32; room for all that may come.
        prompt_length: Tokens of the prompt.
        length: Tokens known: prompt and generated ones.
        order: Who comes first: priority, then arrival; smaller is sooner.
        salt: Prefix reuse stays among sequences of one salt.
        share: Whom it is for, where several share the engine.
        adapter: Name of the LoRA adapter that it is computed with.
        stride: Only multiples of this many tokens are reused from other sequences.
        scored: Whether the logits after every token of the prompt are wanted.
        seq: Sequence id in llama.cpp while it runs, else -1.
        computed: Tokens that are in the KV cache, or in ``saved``.
        cached: Tokens of the prompt that were reused.
        saved: Its state while it makes room for others.
        leader: A sequence that is just computing a prefix of this one.
        led: Tokens of that prefix.
        kept: Whether others may reuse what it computes.
        since: When it got its place, or began to wait for one, in seconds.
        waited: Seconds that it waited for its place after it had begun.
        begun: Whether it had a place before.
        stopped: When a step that read it was first stopped since it last got on, in seconds.
        in_pieces: Whether it is read in short steps, because one was stopped.
        stays: Whether it gives way to nobody: what it computed was lost once.
    """

    tokens: Tokens
    prompt_length: int
    length: int
    order: tuple[int, int] = (0, 0)
    salt: str | None = None
    share: Share | None = None
    adapter: str | None = None
    stride: int = 1
    scored: bool = False
    seq: int = -1
    computed: int = 0
    cached: int = 0
    saved: npt.NDArray[np.uint8] | None = None
    leader: Sequence | None = None
    led: int = 0
    kept: bool = True
    since: float = 0.0
    waited: float = 0.0
    begun: bool = False
    stopped: float | None = None
    in_pieces: bool = False
    stays: bool = False

    @property
    def remaining(self) -> int:
        """Known tokens that are not computed."""
        return self.length - self.computed

    def append(self, token: int) -> None:
        """Add a generated token."""
        self.tokens[self.length] = token
        self.length += 1


def common_prefix(a: Tokens, b: Tokens, most: int) -> int:
    """Tokens that two sequences have in common at their start.

    Args:
        a: Token ids.
        b: Token ids.
        most: Tokens looked at; both have so many.
    """
    if most <= 0:
        return 0
    differs = a[:most] != b[:most]
    first = int(differs.argmax())
    return first if differs[first] else most

"""A request on its way through vLLM: its continuations, and what they have used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import define, evolve, field

from jarvis_core import EngineOutput, GenerationRequest, Usage
from jarvis_vllm.continuation import Continuation


@define(eq=False, kw_only=True)
class Work:
    """One request.

    Attributes:
        request: What was asked for.
        prompt: vLLM's input.
        continuations: Its ``n`` continuations.
        queues: Where vLLM puts the outputs of each.
    """

    request: GenerationRequest
    prompt: Any
    continuations: list[Continuation]
    queues: list[Any] = field(factory=list)

    @property
    def ids(self) -> list[int]:
        """Token ids of the prompt."""
        ids: list[int] = self.prompt["prompt_token_ids"]
        return ids

    def read(self, index: int, new: Any) -> EngineOutput | None:
        """What a ``RequestOutput`` of vLLM adds; the last of all has the usage.

        Raises:
            EngineError: vLLM gave the request up.
        """
        continuation = self.continuations[index]
        if continuation.finished:
            return None
        output = continuation.read(new)
        if output is not None and all(c.finished for c in self.continuations):
            output = evolve(output, usage=self.usage())
        return output

    def usage(self) -> Usage:
        """What it has used."""
        return Usage(
            prompt_tokens=len(self.ids),
            completion_tokens=sum(c.generated for c in self.continuations),
            cached_tokens=self.continuations[0].cached,
        )

    def nothing(self) -> Iterator[EngineOutput]:
        """The outputs of a request that may not generate anything."""
        yield EngineOutput(prompt_tokens=len(self.ids))
        for continuation in self.continuations:
            last = continuation is self.continuations[-1]
            yield EngineOutput(
                index=continuation.index,
                finish_reason="length",
                usage=self.usage() if last else None,
            )

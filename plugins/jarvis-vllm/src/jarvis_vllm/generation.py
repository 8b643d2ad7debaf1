"""Models that generate text."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from jarvis_core import (
    EngineOutput,
    GenerationRequest,
    Prompt,
    RequestError,
    TextStream,
    check_sampling,
    completion_room,
    read_pieces,
)
from jarvis_vllm import backend
from jarvis_vllm.arrivals import arrivals
from jarvis_vllm.constraint import ConstraintChecker, Grammar
from jarvis_vllm.continuation import Continuation
from jarvis_vllm.engine import VllmEngine
from jarvis_vllm.images import ImageProcessor
from jarvis_vllm.logprobs import LogprobReader
from jarvis_vllm.lone_first import shared_by
from jarvis_vllm.pace import tokens_at_once
from jarvis_vllm.sampling import sampling_values
from jarvis_vllm.work import Work


class GeneratingEngine(VllmEngine):
    """A model that continues prompts.

    Args:
        pieces: Bytes that each token stands for.
        controls: Ids of control tokens by their text.
        adapters: vLLM's ``LoRARequest`` of each adapter by its name.
        stream_interval: Seconds that a token may wait for others of its stream.
        images: Puts images into prompts, None where the model takes none.
        common: What every engine here has.
    """

    def __init__(
        self,
        *,
        pieces: Sequence[bytes],
        controls: Mapping[str, int],
        adapters: Mapping[str, Any],
        stream_interval: float,
        images: ImageProcessor | None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self._pieces = pieces
        self._controls = controls
        self._adapters = adapters
        self._stream_interval = stream_interval
        self._images = images
        self._texts = read_pieces(pieces)
        self._logprobs = LogprobReader(pieces)
        self._constraints = ConstraintChecker(controls)
        self._serial = 0

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        """Continue a prompt; see ``jarvis_core.Engine``."""
        self._check()
        if request.adapter is not None and request.adapter not in self._adapters:
            raise RequestError(f"there is no adapter {request.adapter!r}", param="model")
        check_sampling(request.sampling, self._info.vocab_size)
        if request.n < 1:
            raise RequestError(f"n is {request.n}, it must be at least 1", param="n")
        grammar = None
        if request.constraint is not None:
            grammar = await self._constraints.grammar(request.constraint)
        prompt = await self._input(request.prompt, request.cache_salt)
        ids = prompt["prompt_token_ids"]
        room = completion_room(len(ids), request.sampling.max_tokens, self._info.context_length)
        work = Work(
            request=request,
            prompt=prompt,
            continuations=[self._continuation(request, i, grammar) for i in range(request.n)],
        )
        if room == 0:
            for output in work.nothing():
                yield output
            return
        self._counters.begin(len(ids), request.n)
        try:
            with self._refusals():
                await self._submit(work, room, grammar)
            yield EngineOutput(prompt_tokens=len(ids))
            with self._errors():
                async with aclosing(self._outputs(work)) as outputs:
                    async for output in outputs:
                        yield output
        finally:
            self._counters.end(work.usage(), request.n)
            await self._forget(work)

    async def tokenize(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt, those of its images included."""
        ids: list[int] = (await self._input(prompt, None))["prompt_token_ids"]
        return ids

    async def _input(self, prompt: Prompt, salt: str | None) -> Any:
        """A prompt as vLLM takes it."""
        if self._images is None or not prompt.media:
            return backend.tokens_input(await super().tokenize(prompt), cache_salt=salt)
        ids = await super().tokenize(self._images.with_placeholders(prompt))
        return await self._images.process(ids, prompt.media, salt)

    def _close(self) -> None:
        self._constraints.close()
        if self._images is not None:
            self._images.close()
        super()._close()

    async def _outputs(self, work: Work) -> AsyncGenerator[EngineOutput, None]:
        top = work.request.prompt_logprobs
        async with aclosing(arrivals(work.queues)) as found:
            async for index, new in found:
                if top is not None and new.prompt_logprobs is not None:
                    logprobs = self._logprobs.prompt(work.ids, new.prompt_logprobs, top)
                    yield EngineOutput(prompt_logprobs=logprobs)
                output = work.read(index, new)
                if output is None:
                    continue
                if work.continuations[index].ended_here:
                    await self._abort(work.queues[index])
                yield output
                if output.usage is not None:
                    return

    def _continuation(
        self, request: GenerationRequest, index: int, grammar: Grammar | None
    ) -> Continuation:
        sampling, controls = request.sampling, self._controls
        return Continuation(
            index,
            TextStream(self._pieces, self._texts, sampling.stop),
            min_tokens=sampling.min_tokens,
            logprobs=request.logprobs,
            reader=self._logprobs,
            grammar=grammar,
            stop_texts={controls[text]: text for text in sampling.stop if text in controls},
        )

    async def _submit(self, work: Work, room: int, grammar: Grammar | None) -> None:
        request, counters = work.request, self._counters
        together = tokens_at_once(
            counters.open, step=counters.steps.seconds, longest=self._stream_interval
        )
        for index in range(request.n):
            values = sampling_values(request, index=index, max_tokens=room, controls=self._controls)
            if grammar is not None:
                values["structured_outputs"] = backend.StructuredOutputsParams(grammar=grammar.text)
            if request.share is not None:
                values["extra_args"] = shared_by(request.share)
            params = backend.SamplingParams(
                **values, output_kind=backend.RequestOutputKind.DELTA, skip_clone=True
            )
            self._serial += 1
            backend.send_together(self._llm, together)
            queue = await self._llm.add_request(
                f"{self._serial}",
                work.prompt,
                params,
                lora_request=None if request.adapter is None else self._adapters[request.adapter],
                priority=request.priority,
            )
            self._queues.add(queue)
            work.queues.append(queue)

    async def _forget(self, work: Work) -> None:
        """Abort what has not ended."""
        for continuation, queue in zip(work.continuations, work.queues, strict=False):
            self._queues.discard(queue)
            if not continuation.finished:
                await self._abort(queue)

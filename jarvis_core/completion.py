"""Text completions from the core's shape to deltas: generate as it is, echo, choose the best.

Runs in the engine host. No chat format takes part: the client wrote the whole prompt.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing

from attrs import evolve, frozen

from jarvis_core.chat import Accepted
from jarvis_core.errors import ContextLengthExceeded, EngineError
from jarvis_core.interfaces import Engine
from jarvis_core.merging import merged
from jarvis_core.outputs import outputs_of
from jarvis_core.structs import (
    CompletionRequest,
    Delta,
    EngineOutput,
    FinishReason,
    GenerationRequest,
    Prompt,
    Segment,
    SegmentKind,
    TextOrTokens,
    TokenLogprob,
    Usage,
)

Stream = AsyncGenerator[Accepted | Delta, None]


async def stream_completion(
    request: CompletionRequest, *, engine: Engine, request_id: str
) -> Stream:
    """Continue every prompt: first one ``Accepted`` for all, then deltas in the order they come.

    The last delta of each index has a ``finish_reason``, the very last has the ``usage``. Closing
    the generator aborts what runs.

    Raises:
        RequestError: Before ``Accepted``: the client got something wrong.
        EngineError: At any time.
    """
    async with AsyncExitStack() as stack:
        streams = []
        for prompt in request.prompts:
            stream = _Continuation(request=request, engine=engine, id=request_id).run(prompt)
            await stack.enter_async_context(aclosing(stream))
            streams.append(stream)
        yield Accepted(prompt_tokens=sum(await _accepted(streams)))
        usages: list[Usage] = []
        async with aclosing(merged(streams)) as deltas:
            async for number, delta in deltas:
                assert isinstance(delta, Delta)
                if delta.usage is not None:
                    usages.append(delta.usage)
                    whole = _sum(usages) if len(usages) == len(streams) else None
                    delta = evolve(delta, usage=whole)
                yield evolve(delta, index=number * request.n + delta.index) if number else delta


def text_prompt(prompt: TextOrTokens, *, add_special_tokens: bool) -> Prompt:
    """What a client wrote as a whole: its control tokens are tokens, as in a template."""
    if not isinstance(prompt, str):
        return Prompt(token_ids=prompt)
    return Prompt(
        segments=(Segment(kind=SegmentKind.SCAFFOLD, text=prompt),),
        add_special_tokens=add_special_tokens,
    )


@frozen(kw_only=True)
class _Continuation:
    """The continuation of one prompt of a request."""

    request: CompletionRequest
    engine: Engine
    id: str

    async def run(self, prompt: TextOrTokens) -> Stream:
        """``Accepted``, then deltas."""
        generation = self._generation(prompt)
        try:
            async with aclosing(outputs_of(self.engine, generation)) as outputs:
                first = await anext(outputs)
                yield Accepted(prompt_tokens=first.prompt_tokens or 0)
                second = await anext(outputs)
                if self.request.echo:
                    echo = await self._echo(generation.prompt, first, second)
                    for index in range(self.request.n):
                        yield evolve(echo, index=index)
                deltas = self._deltas(second, outputs)
                if self._candidates > self.request.n:
                    deltas = self._best(deltas)
                async with aclosing(deltas):
                    async for delta in deltas:
                        yield delta
        except ContextLengthExceeded as error:
            error.param = "prompt"
            raise

    @property
    def _candidates(self) -> int:
        return self.request.best_of or self.request.n

    @property
    def _says_nothing(self) -> bool:
        return self.request.sampling.max_tokens == 0

    def _generation(self, prompt: TextOrTokens) -> GenerationRequest:
        request, sampling, logprobs = self.request, self.request.sampling, self.request.logprobs
        if self._says_nothing:  # engines generate at least one; it is dropped
            sampling = evolve(sampling, max_tokens=1, min_tokens=0)
        if logprobs is None and self._candidates > request.n:
            logprobs = 0
        return GenerationRequest(
            id=self.id,
            prompt=text_prompt(prompt, add_special_tokens=request.add_special_tokens),
            sampling=sampling,
            n=self._candidates,
            constraint=request.constraint,
            logprobs=logprobs,
            prompt_logprobs=request.logprobs if request.echo else None,
            adapter=request.adapter,
            priority=request.priority,
            cache_salt=request.cache_salt,
            share=request.share,
        )

    async def _echo(self, prompt: Prompt, *outputs: EngineOutput) -> Delta:
        """The prompt as the beginning of an answer.

        There is no logprob of its first token: it is shown with 0, which writers leave out.
        """
        ids = await self.engine.tokenize(prompt)
        text = await self.engine.detokenize(ids) if prompt.token_ids is not None else prompt.text
        if self.request.logprobs is None:
            return Delta(content=text)
        found = next((o.prompt_logprobs for o in outputs if o.prompt_logprobs), ())
        if len(found) != len(ids):
            name = self.engine.info.engine
            raise EngineError(f"engine {name!r} sent no logprob for each token of the prompt")
        token = await self.engine.detokenize(ids[:1])
        start = TokenLogprob(token_id=ids[0], token=token, logprob=0.0, data=token.encode())
        return Delta(content=text, logprobs=tuple(p or start for p in found))

    async def _deltas(
        self, second: EngineOutput, outputs: AsyncGenerator[EngineOutput, None]
    ) -> AsyncGenerator[Delta, None]:
        """The deltas of every continuation."""
        if seen := self._delta(second):
            yield seen
        async for output in outputs:
            if seen := self._delta(output):
                yield seen

    def _delta(self, output: EngineOutput) -> Delta | None:
        """An output as a delta, None if there is nothing to tell."""
        delta = Delta(
            index=output.index,
            content=output.text,
            logprobs=output.logprobs,
            finish_reason=output.finish_reason,
            stop_string=output.stop_string,
            usage=output.usage,
        )
        if self._says_nothing:
            usage = output.usage and evolve(output.usage, completion_tokens=0)
            finish_reason: FinishReason | None = output.finish_reason and "length"
            delta = Delta(index=output.index, finish_reason=finish_reason, usage=usage)
        return delta if delta != Delta(index=output.index) else None

    async def _best(self, deltas: AsyncGenerator[Delta, None]) -> AsyncGenerator[Delta, None]:
        """Every delta of the ``n`` likeliest continuations, numbered anew, likeliest first."""
        found: dict[int, list[Delta]] = {index: [] for index in range(self._candidates)}
        usage = None
        async with aclosing(deltas):
            async for delta in deltas:
                usage = delta.usage or usage
                found[delta.index].append(evolve(delta, usage=None))
        best = sorted(found.values(), key=_mean_logprob, reverse=True)[: self.request.n]
        shows_logprobs = self.request.logprobs is not None
        for index, chosen in enumerate(best):
            for delta in chosen:
                last = index == len(best) - 1 and delta is chosen[-1]
                yield evolve(
                    delta,
                    index=index,
                    logprobs=delta.logprobs if shows_logprobs else (),
                    usage=usage if last else None,
                )


def _mean_logprob(deltas: Iterable[Delta]) -> float:
    """How likely a continuation is, for each of its tokens."""
    logprobs = [p.logprob for delta in deltas for p in delta.logprobs]
    return sum(logprobs) / max(len(logprobs), 1)


def _sum(usages: Sequence[Usage]) -> Usage:
    return Usage(
        prompt_tokens=sum(u.prompt_tokens for u in usages),
        completion_tokens=sum(u.completion_tokens for u in usages),
        cached_tokens=sum(u.cached_tokens for u in usages),
    )


# -- several prompts -------------------------------------------------------------------------


async def _accepted(streams: Sequence[Stream]) -> list[int]:
    """Wait until every prompt is accepted; the tokens of each."""
    waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]
    try:
        firsts = [await accepted for accepted in waiting]
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return [first.prompt_tokens for first in firsts if isinstance(first, Accepted)]

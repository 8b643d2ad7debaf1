"""One chat request from the core's shape to deltas: render, constrain, generate, parse.

Runs in the engine host. Streamed and whole answers come from the same deltas, so they cannot
differ: ``stream_chat`` makes them, ``Fold`` adds them up.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from datetime import datetime

from attrs import evolve, field, frozen, mutable

from jarvis_core.composition import check_tools, compose_constraint
from jarvis_core.errors import ContextLengthExceeded, EngineError, RequestError
from jarvis_core.interfaces import ChatFormat, DeltaParser, Engine
from jarvis_core.json_scan import is_object
from jarvis_core.outputs import outputs_of
from jarvis_core.structs import (
    Answer,
    ChatRequest,
    Completion,
    Delta,
    EngineOutput,
    FinishReason,
    FormatContext,
    GenerationRequest,
    ModelInfo,
    Prompt,
    SamplingParams,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)


@frozen(kw_only=True)
class Accepted:
    """The request is rendered, tokenized, fits, and its constraint is compiled.

    Attributes:
        prompt_tokens: Tokens of the prompt.
    """

    prompt_tokens: int


async def stream_chat(
    request: ChatRequest,
    *,
    engine: Engine,
    chat_format: ChatFormat,
    request_id: str,
    model: ModelInfo | None = None,
    now: datetime | None = None,
) -> AsyncGenerator[Accepted | Delta, None]:
    """Answer a chat: first ``Accepted``, then deltas.

    The last delta of each index has a ``finish_reason``, the very last has the ``usage``. Closing
    the generator aborts the request in the engine.

    Args:
        request: The chat.
        engine: Continues the prompt.
        chat_format: Renders and parses.
        request_id: For logs.
        model: The model as the format sees it, if not as the engine describes it.
        now: The clock, if not the machine's.

    Raises:
        RequestError: Before ``Accepted``: the client got something wrong.
        EngineError: At any time.
    """
    context = FormatContext(model=model or engine.info, now=now or datetime.now())
    prompt = await render(request, chat_format=chat_format, context=context)
    generation = GenerationRequest(
        id=request_id,
        prompt=prompt,
        sampling=evolve(request.sampling, stop=stop_strings(request.sampling, prompt)),
        n=request.n,
        constraint=compose_constraint(request, chat_format, context, prompt),
        logprobs=request.logprobs,
        prompt_logprobs=request.prompt_logprobs,
        adapter=request.adapter,
        priority=request.priority,
        cache_salt=request.cache_salt,
        share=request.share,
    )
    if request.sampling.max_tokens is None and request.default_max_tokens is not None:
        outputs = _within(request.default_max_tokens, generation, engine)
    else:
        outputs = outputs_of(engine, generation)
    readers = [
        AnswerReader(index, chat_format.parser(request, context, prompt))
        for index in range(request.n)
    ]
    async with aclosing(outputs):
        async for output in outputs:
            if output.prompt_tokens is not None:
                yield Accepted(prompt_tokens=output.prompt_tokens)
            for delta in readers[output.index].read(output):
                if delta.usage is None:
                    yield delta
                    continue
                reasoning = sum(reader.reasoning_tokens for reader in readers)
                yield evolve(delta, usage=evolve(delta.usage, reasoning_tokens=reasoning))


async def _within(
    tokens: int, generation: GenerationRequest, engine: Engine
) -> AsyncGenerator[EngineOutput, None]:
    """Generate so many tokens at most, or as many as there is room for where those are fewer."""
    bounded = evolve(generation, sampling=evolve(generation.sampling, max_tokens=tokens))
    for tried in (bounded, generation):
        try:
            async with aclosing(outputs_of(engine, tried)) as outputs:
                async for output in outputs:
                    yield output
            return
        except ContextLengthExceeded:  # before anything is computed: the prompt leaves less
            if tried is generation:
                raise


async def render(
    request: ChatRequest, *, chat_format: ChatFormat, context: FormatContext
) -> Prompt:
    """Render a request: off the event loop where a ``blocking`` format cannot do it ``at_once``.

    Raises:
        RequestError: The format, or its model, cannot be told what the request says.
    """
    prompt: Prompt | None
    if getattr(chat_format, "blocking", False):
        at_once = getattr(chat_format, "at_once", None)
        prompt = at_once(request, context) if at_once else None
        if prompt is None:
            prompt = await asyncio.to_thread(prompt_of, request, chat_format, context)
    else:
        prompt = prompt_of(request, chat_format, context)
    if not isinstance(prompt, Prompt):
        raise EngineError(
            f"chat format {chat_format.name!r} rendered {type(prompt).__name__}, not a Prompt"
        )
    check_tools(request, chat_format, context, prompt)
    return prompt


def prompt_of(request: ChatRequest, chat_format: ChatFormat, context: FormatContext) -> Prompt:
    """The prompt of a conversation, or of the first way to retell it that is not refused."""
    try:
        return chat_format.render(request, context)
    except RequestError:
        retold = getattr(chat_format, "retold", None)
        for other in retold(request, context) if retold else ():
            with contextlib.suppress(RequestError):
                return chat_format.render(other, context)
        raise


def stop_strings(sampling: SamplingParams, prompt: Prompt) -> tuple[str, ...]:
    """The client's stop strings, and the format's unless the end of a turn is to be ignored."""
    if sampling.ignore_eos:
        return sampling.stop
    return tuple(dict.fromkeys(sampling.stop + prompt.stop))


class AnswerReader:
    """Parses the outputs of one index into deltas; makes ids, keeps logprobs with their text.

    Attributes:
        index: Which answer it reads.
        reasoning_tokens: Tokens whose text was reasoning. Those of a mark count with what follows.
    """

    def __init__(self, index: int, parser: DeltaParser) -> None:
        """Read the answer of one index with its own parser."""
        self.index = index
        self.reasoning_tokens = 0
        self._unread = 0  # tokens whose text the parser has not given back yet
        self._parser = parser
        self._logprobs: list[TokenLogprob] = []
        self._calls = 0
        self._arguments: list[str] = []  # of the call that came last

    def read(self, output: EngineOutput) -> Iterator[Delta]:
        """The deltas of an output."""
        if output.prompt_logprobs:
            yield Delta(index=self.index, prompt_logprobs=output.prompt_logprobs)
        if output.logprobs:
            self._logprobs.extend(output.logprobs)
        self._unread += len(output.token_ids)
        if output.text:
            yield from self._own(self._parser.feed(output.text))
        if output.finish_reason is None:
            return
        yield from self._own(self._parser.finish())
        finish_reason: FinishReason = output.finish_reason
        if finish_reason == "stop" and self._calls and is_object("".join(self._arguments)):
            finish_reason = "tool_calls"  # of a call that a stop string has cut it stays "stop"
        yield Delta(
            index=self.index,
            finish_reason=finish_reason,
            stop_string=output.stop_string,
            logprobs=self._take_logprobs(),
            usage=output.usage,
        )

    def _own(self, deltas: Iterable[Delta]) -> Iterator[Delta]:
        for delta in deltas:
            if delta.reasoning:
                self.reasoning_tokens += self._unread
            self._unread = 0
            if delta.tool_calls:
                self._follow(delta.tool_calls)
                delta = evolve(delta, tool_calls=tuple(map(_with_id, delta.tool_calls)))
            if self.index or self._logprobs:
                delta = evolve(delta, index=self.index, logprobs=self._take_logprobs())
            yield delta

    def _follow(self, pieces: Iterable[ToolCallDelta]) -> None:
        """Note how far the call that came last is.

        Raises:
            EngineError: The parser mixes calls up.
        """
        for piece in pieces:
            if piece.index == self._calls and piece.name:
                self._calls += 1
                self._arguments.clear()
            elif piece.index != self._calls - 1 or piece.name is not None:
                raise EngineError(
                    f"the chat format's parser sent {piece!r} after {self._calls} calls: they are "
                    "numbered in order from 0, one ends before the next, and the first piece of "
                    "each has its name"
                )
            self._arguments.append(piece.arguments)

    def _take_logprobs(self) -> tuple[TokenLogprob, ...]:
        taken = tuple(self._logprobs)
        self._logprobs.clear()
        return taken


def _with_id(call: ToolCallDelta) -> ToolCallDelta:
    if call.name is None or call.id is not None:
        return call
    return evolve(call, id=f"call_{uuid.uuid4().hex[:24]}")


@mutable
class _Call:
    id: str
    name: str
    arguments: list[str] = field(factory=list)


@mutable
class _Parts:
    content: list[str] = field(factory=list)
    reasoning: list[str] = field(factory=list)
    calls: dict[int, _Call] = field(factory=dict)
    logprobs: list[TokenLogprob] = field(factory=list)
    finish_reason: FinishReason | None = None
    stop_string: str | None = None


class Fold:
    """Adds deltas up to whole answers."""

    def __init__(self) -> None:
        self._answers: dict[int, _Parts] = {}
        self._usage: Usage | None = None
        self._prompt_logprobs: tuple[TokenLogprob | None, ...] = ()

    def add(self, delta: Delta) -> None:
        """Take the next delta."""
        parts = self._answers.get(delta.index)
        if parts is None:
            parts = self._answers[delta.index] = _Parts()
        if delta.content:
            parts.content.append(delta.content)
        if delta.reasoning:
            parts.reasoning.append(delta.reasoning)
        if delta.logprobs:
            parts.logprobs.extend(delta.logprobs)
        for call in delta.tool_calls:
            if call.index not in parts.calls:
                parts.calls[call.index] = _Call(call.id or "", call.name or "")
            parts.calls[call.index].arguments.append(call.arguments)
        parts.finish_reason = delta.finish_reason or parts.finish_reason
        parts.stop_string = delta.stop_string or parts.stop_string
        self._usage = delta.usage or self._usage
        self._prompt_logprobs = delta.prompt_logprobs or self._prompt_logprobs

    def completion(self) -> Completion:
        """The answers.

        Raises:
            EngineError: An answer has no finish reason, or there is no usage.
        """
        if self._usage is None:
            raise EngineError("the answer ended without a count of its tokens")
        return Completion(
            answers=tuple(_answer(i, self._answers[i]) for i in sorted(self._answers)),
            usage=self._usage,
            prompt_logprobs=self._prompt_logprobs,
        )


def fold(deltas: Iterable[Delta]) -> Completion:
    """Add up the deltas of one request."""
    whole = Fold()
    for delta in deltas:
        whole.add(delta)
    return whole.completion()


def _answer(index: int, parts: _Parts) -> Answer:
    if parts.finish_reason is None:
        raise EngineError(f"answer {index} ended without a finish reason")
    return Answer(
        index=index,
        content="".join(parts.content) or None,
        reasoning="".join(parts.reasoning) or None,
        tool_calls=tuple(
            ToolCall(id=c.id, name=c.name, arguments="".join(c.arguments))
            for _, c in sorted(parts.calls.items())
        ),
        finish_reason=parts.finish_reason,
        stop_string=parts.stop_string,
        logprobs=tuple(parts.logprobs),
    )

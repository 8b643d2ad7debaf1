"""The engine: from requests to jobs of the engine thread, and their outputs back."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Sequence

import numpy as np
from attrs import evolve
from llguidance import LLMatcher

from jarvis_core import (
    Capabilities,
    ConfigError,
    EngineOutput,
    EngineStats,
    GenerationRequest,
    ModelInfo,
    ModelSourceError,
    ModelSpec,
    Prompt,
    RequestError,
    SettingError,
    TextStream,
    Usage,
    check_sampling,
    completion_room,
    read_pieces,
)
from jarvis_llamacpp.adapters import find_adapters
from jarvis_llamacpp.constraint import ConstraintCompiler
from jarvis_llamacpp.context import DecodeError, LlamaContext
from jarvis_llamacpp.job import Continuation, Job
from jarvis_llamacpp.memory import DEFAULT_CONTEXT, MemoryPlan, available_memory, plan_memory
from jarvis_llamacpp.model import BACKEND, LlamaModel, offloads, start_backend
from jarvis_llamacpp.params import read_extra
from jarvis_llamacpp.pooled_context import PooledContext
from jarvis_llamacpp.pooled_engine import PooledEngine
from jarvis_llamacpp.pooler import Pooler
from jarvis_llamacpp.pooling import Pooling, find_pooling
from jarvis_llamacpp.reply import Reply
from jarvis_llamacpp.runner import Runner
from jarvis_llamacpp.sampler import Sampler
from jarvis_llamacpp.scheduler import ALIGNMENT
from jarvis_llamacpp.settings import LlamaCppSettings
from jarvis_llamacpp.source import Weights, find_weights
from jarvis_llamacpp.text_encoder import TextEncoder
from jarvis_llamacpp.tokenizer import Tokenizer

_log = logging.getLogger(__name__)


class LlamaCppEngine:
    """A GGUF model that continues prompts, many at a time."""

    def __init__(
        self, info: ModelInfo, model: LlamaModel, runner: Runner, encoder: TextEncoder
    ) -> None:
        """Join the parts; ``load_engine`` makes them."""
        self._info = info
        self._model = model
        self._runner = runner
        self._encoder = encoder
        self._constraints = ConstraintCompiler(model.vocabulary)
        self._texts = read_pieces(model.vocabulary.pieces)
        self._closing: asyncio.Future[None] | None = None

    @property
    def info(self) -> ModelInfo:
        """The loaded model."""
        return self._info

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        """Continue a prompt; see ``jarvis_core.Engine``."""
        self._runner.check()
        check_sampling(request.sampling, self._info.vocab_size)
        read_extra(request.sampling.extra)  # what cannot be is refused before anything is computed
        if request.adapter is not None and request.adapter not in self._info.adapters:
            raise RequestError(f"the model has no adapter {request.adapter!r}", param="model")
        if request.n < 1:
            raise RequestError(f"n is {request.n}, it must be at least 1", param="n")
        grammar = None
        if request.constraint is not None:
            grammar = await self._constraints.compile(request.constraint)
        ids = await self.tokenize(request.prompt)
        most = len(ids) + completion_room(
            len(ids), request.sampling.max_tokens, self._info.context_length
        )
        if most == len(ids):
            yield EngineOutput(prompt_tokens=len(ids))
            if request.prompt_logprobs is not None:
                yield await self._prompt_logprobs(request, ids)
            for index in range(request.n):
                usage = Usage(prompt_tokens=len(ids), completion_tokens=0)
                last = index == request.n - 1
                yield EngineOutput(
                    index=index, finish_reason="length", usage=usage if last else None
                )
            return
        bad_words = await self._encoder.encode_words(request.sampling.bad_words)
        job = self._make_job(request, ids, most, grammar, bad_words)
        self._runner.submit(job)
        try:
            yield EngineOutput(prompt_tokens=len(ids))
            if request.prompt_logprobs is not None and len(ids) == 1:
                yield _NO_LOGPROBS
            while not job.reply.finished:
                yield await job.reply.take()
        finally:
            if not job.reply.finished:
                self._runner.abort(job)

    async def _prompt_logprobs(self, request: GenerationRequest, ids: list[int]) -> EngineOutput:
        """The logprobs of a prompt that is not continued."""
        if len(ids) == 1:
            return _NO_LOGPROBS
        job = self._make_job(evolve(request, n=1), ids, len(ids) + 1, None, ())
        self._runner.submit(job)
        try:
            output = await job.reply.take()
        finally:
            self._runner.abort(job)
        return EngineOutput(prompt_logprobs=output.prompt_logprobs)

    async def tokenize(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt."""
        self._runner.check()
        return await self._encoder.encode(prompt)

    async def detokenize(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens visible."""
        return self._encoder.decode(token_ids)

    async def reset(self) -> None:
        """Forget every cached prefix; requests that run go on."""
        await asyncio.wrap_future(self._runner.forget_prefixes())

    def stats(self) -> EngineStats:
        """Gauges and counters."""
        return self._runner.stats()

    async def aclose(self) -> None:
        """Abort what runs, and free context and weights."""
        loop = asyncio.get_running_loop()
        if self._closing is None:
            self._closing = loop.run_in_executor(None, self._close)
        await asyncio.shield(self._closing)

    def _close(self) -> None:
        self._runner.close()
        self._encoder.close()
        self._constraints.close()
        self._model.close()

    def _make_job(
        self,
        request: GenerationRequest,
        ids: list[int],
        most: int,
        grammar: LLMatcher | None,
        bad_words: tuple[tuple[int, ...], ...],
    ) -> Job:
        sampling, vocabulary = request.sampling, self._model.vocabulary
        job = Job(request=request, reply=Reply(asyncio.get_running_loop()), open=request.n)
        if request.prompt_logprobs is not None and len(ids) > 1:
            job.prompt_logprobs = [None]
        end_ids = frozenset(sampling.stop_token_ids)
        if not sampling.ignore_eos:
            end_ids |= vocabulary.end_ids
        blocked = vocabulary.end_ids | end_ids
        for index in range(request.n):
            sampler = Sampler(
                sampling,
                prompt=ids,
                end_ids=blocked,
                index=index,
                pieces=vocabulary.pieces,
                bad_words=bad_words,
            )
            scored = index == 0 and job.prompt_logprobs is not None
            matcher = None
            if grammar is not None:
                matcher = self._constraints.matcher(grammar, ignore_eos=sampling.ignore_eos)
            tokens = np.empty(most, np.int32)
            tokens[: len(ids)] = ids
            job.continuations.append(
                Continuation(
                    job=job,
                    index=index,
                    tokens=tokens,
                    prompt_length=len(ids),
                    length=len(ids),
                    most=most,
                    salt=_prefix_key(request),
                    share=request.share,
                    adapter=request.adapter,
                    # Reuse of whole tiles gives the same numbers as computing anew.
                    stride=_NOTHING if scored else 1 if sampling.seed is None else ALIGNMENT,
                    scored=scored,
                    end_ids=end_ids,
                    min_tokens=sampling.min_tokens,
                    greedy=sampler.plain and request.logprobs is None and matcher is None,
                    sampler=sampler,
                    text=TextStream(vocabulary.pieces, self._texts, sampling.stop),
                    matcher=matcher,
                )
            )
        return job


_NO_LOGPROBS = EngineOutput(prompt_logprobs=(None,))
"""Those of a prompt of one token."""

_NOTHING = 1 << 30
"""A stride so long that nothing is reused."""


def _prefix_key(request: GenerationRequest) -> str | None:
    """What requests must have in common to share a prefix: salt, and adapter."""
    if request.adapter is None and request.cache_salt is None:
        return None
    return json.dumps([request.adapter, request.cache_salt])


def load_engine(
    model: ModelSpec, settings: LlamaCppSettings, capabilities: Capabilities
) -> LlamaCppEngine | PooledEngine:
    """Load a model; blocks until it is ready.

    Raises:
        InsufficientMemory: It does not fit.
        ModelSourceError: Its files are missing, damaged, or not what llama.cpp loads.
        SettingError: llama.cpp refuses the settings.
    """
    weights = find_weights(model)
    start_backend(settings)
    pooling = find_pooling(weights.header, settings)
    if pooling is not None:
        return _load_pooled(model, weights, settings, pooling)
    checked = settings.check_memory and not offloads(settings)
    plan = plan_memory(
        weights, model.context_length, settings, available_memory() if checked else None
    )
    _warn_of_long_context(weights, plan)
    adapters = find_adapters(model.adapters, weights.header.architecture)
    loaded = LlamaModel(weights, settings, adapters=adapters)
    try:
        runner = Runner(
            lambda: LlamaContext(loaded, plan, settings),
            loaded.vocabulary,
            context_length=plan.context_length,
            prompt_budget=settings.n_batch,
            partial_reuse=loaded.partial_reuse,
            send_interval=settings.stream_interval_ms / 1e3,
        )
        try:  # meanwhile the thread makes its context
            engine = _join(model, weights, loaded, plan, settings, capabilities, runner)
        except BaseException:
            runner.close()
            raise
        runner.ready.result()
    except DecodeError as error:
        loaded.close()
        raise ModelSourceError(
            f"{weights.path}: llama.cpp loads it but cannot compute with it: {error}"
        ) from error
    except BaseException:
        loaded.close()
        raise
    return engine


def _join(
    model: ModelSpec,
    weights: Weights,
    loaded: LlamaModel,
    plan: MemoryPlan,
    settings: LlamaCppSettings,
    capabilities: Capabilities,
    runner: Runner,
) -> LlamaCppEngine:
    if not loaded.partial_reuse:  # of a prompt that is known, no logits could be had again
        parameters = capabilities.parameters - {"prompt_logprobs"}
        capabilities = evolve(capabilities, parameters=parameters)
    info = _model_info(model, weights, loaded, plan, settings, capabilities)
    tokenizer = Tokenizer(loaded.vocabulary, loaded.tokenize_text, plan.context_length)
    return LlamaCppEngine(info, loaded, runner, TextEncoder(tokenizer))


def _load_pooled(
    model: ModelSpec, weights: Weights, settings: LlamaCppSettings, pooling: Pooling
) -> PooledEngine:
    trained = weights.header.number("context_length") or DEFAULT_CONTEXT
    context = model.context_length or min(trained, DEFAULT_CONTEXT)
    if not pooling.causal and context > trained:
        raise SettingError(
            f"a context of {context:,} tokens: the model has {trained:,} positions; lower "
            "JARVIS_MODEL_CONTEXT_WINDOW"
        )
    if model.adapters:
        raise ConfigError(
            f"model {model.name!r} pools, and LoRA adapters are for models that generate text: "
            "remove its adapters"
        )
    # No sequence can be cut, so that a step is as long as the context.
    settings = evolve(settings, n_batch=context, n_ubatch=None, kv_size=context)
    checked = settings.check_memory and not offloads(settings)
    plan = plan_memory(weights, context, settings, available_memory() if checked else None)
    loaded = LlamaModel(weights, settings, pools=True)
    try:
        pooled = PooledContext(loaded, pooling, plan, settings)
    except BaseException:
        loaded.close()
        raise
    info = _model_info(model, weights, loaded, plan, settings, pooling.capabilities)
    tokenizer = Tokenizer(loaded.vocabulary, loaded.tokenize_text, context)
    return PooledEngine(info, loaded, Pooler(pooled), TextEncoder(tokenizer))


def _model_info(
    model: ModelSpec,
    weights: Weights,
    loaded: LlamaModel,
    plan: MemoryPlan,
    settings: LlamaCppSettings,
    capabilities: Capabilities,
) -> ModelInfo:
    vocabulary, header = loaded.vocabulary, weights.header
    return ModelInfo(
        name=model.name,
        source=model.source,
        engine="llama_cpp",
        context_length=plan.context_length,
        capabilities=capabilities,
        backend=BACKEND,
        architecture=header.architecture,
        title=header.text("general.name"),
        chat_template=header.text("tokenizer.chat_template"),
        bos_token=vocabulary.text(vocabulary.bos_id),
        eos_token=vocabulary.text(vocabulary.eos_id),
        control_tokens=tuple(vocabulary.controls),
        control_token_ids=tuple(vocabulary.controls.values()),
        vocab_size=vocabulary.size,
        adapters=tuple(loaded.adapters),
        memory_bytes=loaded.weights_bytes + plan.kv_bytes + plan.compute_bytes,
        max_num_seqs=settings.max_num_seqs,
        sampling=header.sampling,
    )


def _warn_of_long_context(weights: Weights, plan: MemoryPlan) -> None:
    trained = weights.header.number("context_length")
    if trained and plan.context_length > trained:
        _log.warning(
            "%s: a context of %d tokens is longer than the %d it was trained with",
            weights.path.name,
            plan.context_length,
            trained,
        )

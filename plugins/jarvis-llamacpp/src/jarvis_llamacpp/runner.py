"""The engine thread: owns the context, and computes step after step while there is work."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from math import isfinite
from queue import Empty, SimpleQueue
from typing import Literal

from jarvis_core import EngineDied, EngineError, EngineOutput, EngineStats, JarvisError
from jarvis_llamacpp.cache import PrefixCache
from jarvis_llamacpp.context import LlamaContext, Logits
from jarvis_llamacpp.filters import Row
from jarvis_llamacpp.job import Continuation, Job
from jarvis_llamacpp.logprobs import LogprobReader
from jarvis_llamacpp.newcomers import Newcomers
from jarvis_llamacpp.outbox import Outbox
from jarvis_llamacpp.scheduler import Scheduler
from jarvis_llamacpp.stepper import Stepper
from jarvis_llamacpp.vocabulary import Vocabulary

_log = logging.getLogger(__name__)

_SWITCH_INTERVAL = 0.0005
"""Seconds after which the event loop's thread gives way: five milliseconds, Python's default, are a
step of a small model, and a crowd of new requests keeps that thread busy for longer."""

_REST = 0.05
"""Seconds without a command after which nobody is expected: who asks one thing after the other has
asked again by then."""

_MOST_FAILURES = 3
"""Failed steps in a row after which the engine gives up."""


class Runner:
    """Runs requests on a thread of its own.

    Attributes:
        ready: Done when the context is there; its result is the size of the KV cache in tokens.
    """

    def __init__(
        self,
        make_context: Callable[[], LlamaContext],
        vocabulary: Vocabulary,
        *,
        context_length: int,
        prompt_budget: int,
        partial_reuse: bool,
        send_interval: float = 0.0,
    ) -> None:
        """Start the thread.

        Args:
            make_context: Called on the thread, which owns what it returns.
            vocabulary: The model's vocabulary.
            context_length: Tokens of one sequence at most.
            prompt_budget: Prompt tokens of one step at most.
            partial_reuse: Whether a part of a computed sequence can be reused.
            send_interval: Seconds that tokens may wait for others, so that they leave together.
        """
        self.ready: Future[int] = Future()
        self._make_context = make_context
        self._vocabulary = vocabulary
        self._context_length = context_length
        self._prompt_budget = prompt_budget
        self._partial_reuse = partial_reuse
        self._gate = threading.Lock()
        self._dead: str | None = None
        self._commands: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._jobs: set[Job] = set()
        self._newcomers = Newcomers()
        self._outbox = Outbox(send_interval)
        self._arrivals = 0
        self._failures = 0
        self._prompt_tokens = 0
        self._cached_tokens = 0
        self._generation_tokens = 0
        self._scheduler: Scheduler[Continuation] | None = None
        self._stepper: Stepper | None = None
        self._thread = threading.Thread(target=self._run, name="llama.cpp", daemon=True)
        self._thread.start()

    # -- called from other threads ---------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Queue a request; a step that reads prompts of less urgent ones is stopped for it.

        Raises:
            EngineDied: The thread has ended.
        """
        with self._gate:
            self.check()
            self._newcomers.come(job.request.priority)
            self._commands.put(lambda: self._begin(job))

    def check(self) -> None:
        """Refuse work once the thread has ended.

        Raises:
            EngineDied: It has ended.
        """
        if self._dead is not None:
            raise EngineDied(self._dead)

    def abort(self, job: Job) -> None:
        """End a request before the next step; nothing more is sent for it.

        A step that reads prompts of requests that have all ended is stopped.
        """
        self._commands.put(lambda: self._end(job))
        stepper = self._stepper
        if stepper is not None and self._partial_reuse:
            readers = stepper.readers
            if job in readers:
                readers.discard(job)
                if not readers:
                    stepper.context.interrupt.set()

    def forget_prefixes(self) -> Future[None]:
        """Forget every cached prefix before the next step; the future is done when that is done.

        Raises:
            EngineDied: The thread has ended.
        """
        forgotten: Future[None] = Future()
        with self._gate:
            self.check()
            self._commands.put(lambda: self._forget_prefixes(forgotten))
        return forgotten

    def close(self) -> None:
        """Fail what runs, free the context, end the thread."""
        self._commands.put(None)
        if self._stepper is not None:
            self._stepper.context.interrupt.set()
        self._thread.join()

    def stats(self) -> EngineStats:
        """Gauges and counters, read while the thread goes on."""
        scheduler = self._scheduler
        if scheduler is None:
            return EngineStats()
        ledger = scheduler.cache.ledger
        return EngineStats(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            kv_used=ledger.live,
            kv_total=ledger.total,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            generation_tokens=self._generation_tokens,
            prefix_queries=scheduler.cache.queries,
            prefix_hits=scheduler.cache.hits,
        )

    # -- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        context = None
        reason = "the engine has ended"
        sys.setswitchinterval(_SWITCH_INTERVAL)
        try:
            context = self._make_context()
            stepper = self._start(context)
            self.ready.set_result(context.kv_size)
            reason = self._serve(stepper)
        except BaseException as error:
            if self.ready.done():
                _log.exception("the engine thread failed")
            else:
                self.ready.set_exception(error)
        finally:
            self._die(reason)
            if context is not None:
                context.close()

    def _start(self, context: LlamaContext) -> Stepper:
        context.warm_up(self._vocabulary.bos_id or 0)
        self._scheduler = Scheduler(
            context,
            sequences=context.n_seqs,
            kv_size=context.kv_size,
            context_length=self._context_length,
            prompt_budget=self._prompt_budget,
            partial_reuse=self._partial_reuse,
            unified=context.unified,
            store_bytes=context.store_bytes,
            least_copy=context.least_copy,
        )
        self._stepper = Stepper(context, self._scheduler, self._newcomers)
        return self._stepper

    def _serve(self, stepper: Stepper) -> str:
        """Work until there is a reason to end, which is returned."""
        scheduler = stepper.scheduler
        while True:
            # Before commands are taken: who sets it later means a step that is still to come.
            stepper.context.interrupt.clear()
            while not self._commands.empty() or not (scheduler.running or scheduler.waiting):
                command = self._next_command(scheduler.cache)
                if command is None:
                    return "the engine was closed"
                command()
            if scheduler.reads:  # such a step takes long
                self._outbox.send()
            try:
                asked, logits = stepper.step()
                self._score(stepper)
                self._advance(asked, logits)
                self._failures = 0
            except Exception as error:
                _log.exception("a step of the engine failed")
                self._failures += 1
                if self._failures >= _MOST_FAILURES:
                    return f"the engine failed {self._failures} times in a row"
                self._recover(stepper, error)
            self._outbox.send_due()

    def _next_command(self, cache: PrefixCache[Continuation]) -> Callable[[], None] | None:
        """Wait for a command; when none has come for a while, use the time to store ahead."""
        try:
            return self._commands.get(timeout=_REST)
        except Empty:
            while self._commands.empty() and cache.store_ahead():
                pass
            return self._commands.get()

    def _recover(self, stepper: Stepper, error: Exception) -> None:
        reason = error.message if isinstance(error, JarvisError) else "a step could not be computed"
        for job in {c.job for c in stepper.scheduler.running}:
            self._fail(job, EngineError(f"the engine failed: {reason}; see its log"))
        stepper.recover()

    def _die(self, reason: str) -> None:
        """Fail everything that is here or still comes."""
        with self._gate:
            self._dead = reason
            while not self._commands.empty():
                command = self._commands.get()
                if command is not None:
                    command()
        for job in self._jobs:
            self._outbox.add(job.reply, EngineDied(reason))
        self._jobs.clear()
        self._outbox.send()

    # -- requests --------------------------------------------------------------------------

    def _begin(self, job: Job) -> None:
        self._newcomers.enter(job.request.priority)
        self._jobs.add(job)
        self._prompt_tokens += job.continuations[0].prompt_length
        for continuation in job.continuations:
            self._arrivals += 1
            continuation.order = (job.request.priority, self._arrivals)
            if self._scheduler is not None:
                self._scheduler.add(continuation)

    def _forget_prefixes(self, forgotten: Future[None]) -> None:
        if not forgotten.set_running_or_notify_cancel():
            return
        if self._dead is not None:
            forgotten.set_exception(EngineDied(self._dead))
            return
        if self._scheduler is not None:
            self._scheduler.forget_prefixes()
        forgotten.set_result(None)

    def _end(self, job: Job) -> None:
        """Take a request's continuations away from the scheduler."""
        if job not in self._jobs:
            return
        self._jobs.remove(job)
        self._cached_tokens += job.continuations[0].cached
        for continuation in job.continuations:
            self._finish(continuation)

    def _finish(self, continuation: Continuation) -> None:
        if not continuation.finished:
            continuation.finished = True
            continuation.job.open -= 1
            if self._scheduler is not None:
                self._scheduler.finish(continuation)

    def _fail(self, job: Job, error: JarvisError) -> None:
        if job in self._jobs:
            self._outbox.add(job.reply, error)
            self._end(job)

    # -- tokens ----------------------------------------------------------------------------

    def _advance(self, asked: list[Continuation], logits: Logits) -> None:
        """Choose the next token of each continuation."""
        if not asked:
            return
        if all(c.greedy for c in asked):
            tokens = logits.argmax(axis=1).tolist()
            if all(isfinite(row[token]) for row, token in zip(logits, tokens, strict=True)):
                for continuation, token in zip(asked, tokens, strict=True):
                    self._take(continuation, token)
                return
        for continuation, row in zip(asked, logits, strict=True):
            if continuation.finished:
                continue
            try:
                self._choose(continuation, row)
            except JarvisError as error:
                self._fail(continuation.job, error)
            except Exception:
                _log.exception("request %s: choosing a token failed", continuation.job.request.id)
                self._fail(continuation.job, EngineError("the engine failed to choose a token"))

    def _score(self, stepper: Stepper) -> None:
        """Take the logprobs of prompts; what comes after them is held back until they are whole."""
        for continuation, start, rows in stepper.scored:
            job = continuation.job
            found, top = job.prompt_logprobs, job.request.prompt_logprobs
            if found is None or top is None or continuation.finished:
                continue
            for at, row in enumerate(rows, start + 1):
                if at == len(found) < continuation.prompt_length:
                    token = int(continuation.tokens[at])
                    found.append(LogprobReader(row, top, self._vocabulary).of(token))
            if len(found) == continuation.prompt_length:
                job.prompt_logprobs = None
                self._post(job, EngineOutput(prompt_logprobs=tuple(found)))
                for output in job.held:
                    self._post(job, output)

    def _post(self, job: Job, output: EngineOutput) -> None:
        """Send an output, once those before it are sent."""
        if job.prompt_logprobs is not None:
            job.held.append(output)
            return
        self._outbox.add(job.reply, output)

    def _choose(self, continuation: Continuation, row: Row) -> None:
        wanted = continuation.job.request.logprobs
        reader = None if wanted is None else LogprobReader(row, wanted, self._vocabulary)
        sampler, matcher = continuation.sampler, continuation.matcher
        token: int | None
        if matcher is None:
            token = sampler.choose(row)
        else:
            token = matcher.choose(row, sampler.choose, greedy=sampler.plain)
        if token is None:
            self._emit(continuation, continuation.text.finish(), "stop")
            return
        if reader is not None:
            continuation.unsent_logprobs.append(reader.of(token))
        self._take(continuation, token)

    def _take(self, continuation: Continuation, token: int) -> None:
        """Add a token to its continuation, and send what is certain."""
        continuation.append(token)
        continuation.job.completion_tokens += 1
        self._generation_tokens += 1
        stream = continuation.text
        reason: Literal["stop", "length"] | None = None
        if token in continuation.end_ids:
            text, reason = stream.finish(), "stop"
            del continuation.unsent_logprobs[len(continuation.unsent) :]
        else:
            continuation.unsent.append(token)
            generated = continuation.length - continuation.prompt_length
            text = stream.add(token, may_stop=generated > continuation.min_tokens)
            if stream.stop_string is not None:
                reason = "stop"
            elif continuation.matcher is not None and continuation.matcher.complete:
                text += stream.finish()
                reason = "stop"
            elif continuation.length >= continuation.most:
                text += stream.finish()
                reason = "length"
        if text or reason:
            self._emit(continuation, text, reason)

    def _emit(
        self, continuation: Continuation, text: str, reason: Literal["stop", "length"] | None
    ) -> None:
        job = continuation.job
        usage = None
        if reason is not None:
            self._finish(continuation)
            if job.open == 0:
                usage = job.usage()
                self._end(job)
        output = EngineOutput(
            index=continuation.index,
            text=text,
            token_ids=tuple(continuation.unsent),
            logprobs=tuple(continuation.unsent_logprobs),
            finish_reason=reason,
            stop_string=continuation.text.stop_string,
            usage=usage,
        )
        continuation.unsent.clear()
        continuation.unsent_logprobs.clear()
        self._post(job, output)

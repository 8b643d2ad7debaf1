"""Computes one step: what the scheduler chose, through a batch, into logits."""

from __future__ import annotations

from jarvis_core import EngineError
from jarvis_llamacpp.batch import Batch
from jarvis_llamacpp.context import LlamaContext, Logits, StepInterrupted
from jarvis_llamacpp.job import Continuation, Job
from jarvis_llamacpp.newcomers import Newcomers
from jarvis_llamacpp.scheduler import Plan, Scheduler


class Stepper:
    """Joins a scheduler to a context.

    Attributes:
        context: llama.cpp's context.
        scheduler: Chooses what is computed.
        scored: Of the last step, continuations whose every token is scored: each with the place of
            the first token and the logits after it and the following ones.
        readers: While a step is computed, the requests whose prompts it reads.
        newcomers: Requests that have just come, for which it may be stopped.
    """

    def __init__(
        self, context: LlamaContext, scheduler: Scheduler[Continuation], newcomers: Newcomers
    ) -> None:
        """Make the batch that every step uses."""
        self.context = context
        self.scheduler = scheduler
        self._batch = Batch(context.n_batch)
        self._adapter: str | None = None
        self.scored: list[tuple[Continuation, int, Logits]] = []
        self.readers: set[Job] = set()
        self.newcomers = newcomers

    def step(self) -> tuple[list[Continuation], Logits]:
        """Compute one step.

        Returns:
            The continuations that get a token now, and the logits to choose it from, float32,
            shape ``(continuations, vocabulary)``.

        Raises:
            DecodeError: llama.cpp failed.
            EngineError: A sequence that is alone does not fit, against all reckoning.
        """
        self.scored.clear()
        plan = self.scheduler.schedule()
        if not plan:
            return [], self.context.no_logits
        if plan.adapter != self._adapter:
            self.context.use_adapter(plan.adapter)
            self._adapter = plan.adapter
        self._fill(plan)
        try:
            self.readers = {chunk.sequence.job for chunk in plan.chunks}
            self.newcomers.begin_step(self._yields_to(plan), self.context.interrupt)
            computed = self.context.decode(self._batch)
        except StepInterrupted:
            self.scheduler.retract(plan)
            return [], self.context.no_logits
        finally:
            self.readers = set()
            self.newcomers.end_step()
        if not computed:
            if not self.scheduler.relieve():
                raise EngineError("the KV cache has no room for a single request")
            return [], self.context.no_logits
        self.scheduler.commit(plan)
        if any(chunk.sequence.scored for chunk in plan.chunks):
            return self._read_scored(plan)
        asked = [chunk.sequence for chunk in plan.chunks if chunk.last]
        asked += plan.singles
        if not asked:
            return [], self.context.no_logits
        return asked, self.context.logits(len(asked))

    def _read_scored(self, plan: Plan[Continuation]) -> tuple[list[Continuation], Logits]:
        """What ``step`` returns, where more rows than those were computed."""
        logits = self.context.logits(self._batch.rows)
        asked, rows, row = [], [], 0
        for chunk in plan.chunks:
            sequence, count = chunk.sequence, int(chunk.last)
            if sequence.scored:
                count = chunk.count
                start = sequence.computed - count
                self.scored.append((sequence, start, logits[row : row + count]))
            row += count
            if chunk.last:
                asked.append(sequence)
                rows.append(row - 1)
        asked += plan.singles
        rows += range(row, row + len(plan.singles))
        return asked, logits[rows]

    def recover(self) -> None:
        """Begin anew after a step that failed: nothing runs and nothing is cached."""
        self.scheduler.reset()
        self.context.clear()

    def _yields_to(self, plan: Plan[Continuation]) -> int | None:
        """Requests of a smaller priority stop a step that reads prompts; None if none does.

        What it has read is read again, in smaller pieces. A row of such requests may hold it up for
        a while only.
        """
        if not plan.chunks or not self.scheduler.may_be_stopped(plan):
            return None
        return min(chunk.sequence.order[0] for chunk in plan.chunks)

    def _fill(self, plan: Plan[Continuation]) -> None:
        batch = self._batch
        batch.clear()
        for chunk in plan.chunks:
            sequence = chunk.sequence
            start = sequence.computed
            tokens = sequence.tokens[start : start + chunk.count]
            batch.add_chunk(
                sequence.seq, start, tokens, last_wanted=chunk.last, all_wanted=sequence.scored
            )
        singles = plan.singles
        if singles:
            batch.add_each(
                [s.seq for s in singles],
                [s.computed for s in singles],
                [s.tokens[s.computed] for s in singles],
            )

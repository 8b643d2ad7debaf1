"""vLLM's schedulers with ``LoneFirst``; imported in its engine process, which names them."""

from __future__ import annotations

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

from jarvis_vllm.lone_first import LoneFirst


class SyncLoneFirst(LoneFirst, Scheduler):  # type: ignore[misc]
    """Plans a step when the one before it is done."""


class AsyncLoneFirst(LoneFirst, AsyncScheduler):  # type: ignore[misc]
    """Plans a step while the one before it is computed."""

    @property
    def plans_ahead(self) -> bool:
        """Whether a step is planned while a single other one is computed."""
        parallel = self.parallel_config
        return bool(parallel.pipeline_parallel_size == parallel.data_parallel_size == 1)

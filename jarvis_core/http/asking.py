"""A request's hold on the model that it asks, and what is noted of calls with one result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

from jarvis_core.errors import DeadlineExceeded
from jarvis_core.http.exchange import Exchange
from jarvis_core.http.front import Front
from jarvis_core.models.lease import Lease
from jarvis_core.structs import Usage


@asynccontextmanager
async def asking(
    front: Front, exchange: Exchange, model: str
) -> AsyncIterator[tuple[Lease, asyncio.Timeout]]:
    """Hold a loaded model for no longer than a request may take.

    Raises:
        ModelNotFound: No model, alias or adapter has that name.
        DeadlineExceeded: The block took longer.
    """
    exchange.model = front.catalogue.status(model).name
    seconds = front.settings.request_timeout
    try:
        async with asyncio.timeout(seconds) as timeout, front.lease(exchange, model) as lease:
            exchange.engine = lease.info.engine
            exchange.queue_position = lease.position
            try:
                yield lease, timeout
            finally:
                exchange.queued = lease.queued
    except TimeoutError:
        raise DeadlineExceeded(f"the answer took longer than {seconds:g} seconds") from None


def note_result(exchange: Exchange, prompt_tokens: int) -> None:
    """Count a call that the engine has answered with one result."""
    exchange.accepted_at = perf_counter()
    exchange.prompt_tokens = prompt_tokens
    exchange.usage = Usage(prompt_tokens=prompt_tokens, completion_tokens=0)

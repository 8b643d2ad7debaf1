"""Lets an engine host sleep and wake; one that fails to is ended, so that it is replaced."""

from __future__ import annotations

import asyncio

import structlog

from jarvis_core.errors import EngineDied, RequestError
from jarvis_core.host.calls import KINDS, Done, SleepRequest, WakeRequest
from jarvis_core.host.client import Host

_log = structlog.get_logger("jarvis.models")


async def move(
    host: Host, request: SleepRequest | WakeRequest, *, model: str, patience: float
) -> None:
    """Let a host sleep or wake.

    Args:
        host: The host.
        request: What it is to do.
        model: Name of its model.
        patience: Seconds that it may take.

    Raises:
        RequestError: The engine refuses to sleep, and nothing has changed.
        EngineDied: It failed, and its host is ended.
    """
    what = KINDS[type(request)]
    try:
        async with asyncio.timeout(patience):
            await host.call(request, Done, what)
        if not host.lost:
            return
        reason = "its host ended"
    except TimeoutError:
        reason = f"it took longer than {patience:g} s"
    except Exception as error:
        if isinstance(error, RequestError) and isinstance(request, SleepRequest):
            raise
        reason = str(error) or type(error).__name__
    host.kill()
    await host.wait_lost()
    _log.error("engine host is replaced", model=model, failed_to=what, error=reason)
    raise EngineDied(
        f"model {model!r} failed to {what} and is loaded anew: {reason}", retry_after=2.0
    )

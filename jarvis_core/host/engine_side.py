"""The host's side of the socket pair: load one model, answer requests, end with the server."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Any

from attrs import mutable

from jarvis_core.chat import Accepted
from jarvis_core.errors import ConfigError, EngineDied, EngineError, JarvisError
from jarvis_core.host.calls import REQUESTS, HostRequest, SleepRequest, StreamRequest
from jarvis_core.host.loaded import Loaded
from jarvis_core.host.loading import load_model
from jarvis_core.host.protocol import (
    CLOSE_GRACE,
    CREDIT,
    Frame,
    FrameChannel,
    HostPlan,
    converter,
    cost,
    pack_delta,
)
from jarvis_core.structs import Delta

_log = logging.getLogger(__name__)


@mutable
class _Request:
    """A request in work.

    Attributes:
        task: Answers it.
        credit: Cost of the deltas that may still be sent.
        refilled: Set while there is credit.
        places: For sequences that are not computed yet; None where all may be at the same time.
    """

    task: asyncio.Task[None]
    credit: int
    refilled: asyncio.Event
    places: asyncio.Semaphore | None

    def widen(self, more: int) -> None:
        """Let more sequences be computed."""
        if self.places is not None:
            for _ in range(more):
                self.places.release()


class EngineSide:
    """Everything that a host does between its first frame and its end.

    Args:
        on_ping: Called whenever the server asks whether the host still answers.
    """

    def __init__(self, on_ping: Callable[[], object] = lambda: None) -> None:
        self._on_ping = on_ping
        self._channel = FrameChannel(self._on_frame, self._on_lost)
        self._running: dict[int, _Request] = {}
        self._pending: list[list[Any]] = []
        self._loaded: Loaded | None = None
        self._loading: asyncio.Task[None] | None = None
        self._stats_failed = False
        self._ended = asyncio.Event()

    async def run(self, sock: socket.socket) -> None:
        """Serve until the server closes its end or says ``shutdown``."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self._channel, sock=sock)
        await self._ended.wait()
        for request in self._running.values():
            request.task.cancel()
        if self._loading is not None:
            self._loading.cancel()
        if self._loaded is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._loaded.engine.aclose(), CLOSE_GRACE)
        self._channel.close()

    def _on_lost(self) -> None:
        self._ended.set()

    def _on_frame(self, frame: Frame) -> None:
        match frame:
            case ["request", number, request_id, kind, payload, places]:
                self._begin(number, request_id, kind, payload, places)
            case ["widen", number, more]:
                if number in self._running:
                    self._running[number].widen(more)
            case ["cancel", number]:
                if number in self._running:
                    self._running[number].task.cancel()
            case ["credit", number, more]:
                if number in self._running:
                    self._running[number].credit += more
                    self._running[number].refilled.set()
            case ["ping"]:
                self._pong()
            case ["load", plan]:
                self._loading = asyncio.create_task(self._load(converter.structure(plan, HostPlan)))
            case ["shutdown"]:
                self._ended.set()
            case _:
                raise ValueError(f"unknown frame {frame[:1]}")

    def _pong(self) -> None:
        self._on_ping()
        stats = None
        if self._loaded is not None:
            try:
                stats = converter.unstructure(self._loaded.engine.stats())
            except EngineDied as error:
                _log.error("the engine has died: %s", error.message)
                self._loaded = None  # there is nothing left to close
                self._ended.set()
                return
            except Exception:
                if not self._stats_failed:  # it is asked every second
                    _log.exception("the engine's stats failed; the model goes on without")
                self._stats_failed = True
        self._channel.send(["pong", stats])

    # -- loading ---------------------------------------------------------------------------

    async def _load(self, plan: HostPlan) -> None:
        try:
            self._loaded, found = await load_model(plan, self._progress)
        except JarvisError as error:
            self._channel.send_error("failed", error)
            return
        except (Exception, SystemExit) as error:
            _log.exception("engine %s failed to load %s", plan.engine, plan.source)
            reason = f"{type(error).__name__}: {error}"
            self._channel.send_error(
                "failed",
                ConfigError(f"engine {plan.engine!r} failed to load {plan.source}: {reason}"),
            )
            return
        # What a backend brings stays. Each full collection would look at all of it again, and no
        # request goes on meanwhile: with vLLM's 600,000 objects for a third of a second.
        gc.collect()
        gc.freeze()
        ready = converter.unstructure(self._loaded.info)
        self._channel.send(["ready", ready, self._loaded.chat_format.name, found.reason])

    def _progress(self, done: int, total: int) -> None:
        self._channel.send(["progress", done, total])

    # -- requests --------------------------------------------------------------------------

    def _begin(
        self, number: int, request_id: str, kind: str, payload: Any, places: int | None
    ) -> None:
        task = asyncio.create_task(self._answer(number, request_id, kind, payload))
        gate = None if places is None else asyncio.Semaphore(places)
        self._running[number] = _Request(task, CREDIT, asyncio.Event(), gate)
        task.add_done_callback(lambda _: self._running.pop(number, None))

    async def _answer(self, number: int, request_id: str, kind: str, payload: Any) -> None:
        try:
            if self._loaded is None:
                raise EngineError("the model is not loaded")
            request: HostRequest = converter.structure(payload, REQUESTS[kind])
            if isinstance(request, StreamRequest):
                places = self._running[number].places
                await self._stream(number, self._loaded.stream(request, request_id, places))
            else:
                if isinstance(request, SleepRequest):
                    await self._others_ended(number)
                result = await self._loaded.call(request)
                self._channel.send(["result", number, converter.unstructure(result)])
        except JarvisError as error:
            self._fail(number, error)
        except Exception:
            _log.exception("request %s failed%s", request_id, self._in_what())
            self._fail(number, _bug(request_id))

    async def _others_ended(self, number: int) -> None:
        """Wait for requests that were cut and are still ending."""
        others = [r.task for other, r in self._running.items() if other != number]
        if others:
            await asyncio.wait(others)

    async def _stream(self, number: int, answer: AsyncGenerator[Accepted | Delta, None]) -> None:
        state = self._running[number]
        async with aclosing(answer):
            async for item in answer:
                if isinstance(item, Accepted):
                    self._channel.send(["accepted", number, item.prompt_tokens])
                    continue
                self._send_delta(number, item)
                state.credit -= cost(item)
                if state.credit <= 0:
                    state.refilled.clear()
                    await state.refilled.wait()

    def _send_delta(self, number: int, delta: Delta) -> None:
        """Gather the deltas of this loop turn; they leave together in one frame."""
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._flush)
        self._pending.append(pack_delta(number, delta))

    def _flush(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, []
            self._channel.send(["deltas", pending])

    def _in_what(self) -> str:
        """Whose code a request runs through, for who reads a traceback."""
        if self._loaded is None:
            return ""
        engine, chat_format = self._loaded.info.engine, self._loaded.chat_format.name
        return f" in engine {engine!r} with chat format {chat_format!r}"

    def _fail(self, number: int, error: JarvisError) -> None:
        self._flush()
        self._channel.send_error("error", error, number)


def _bug(request_id: str) -> EngineError:
    """What a client is told of an error that is nobody's but the code's: where its details are."""
    return EngineError(
        f"internal error; the server's log has the details under request id {request_id}"
    )


def watch_lifeline(fd: int) -> None:
    """End this process group when the server is gone, even while the event loop is blocked.

    ``fd`` is the reading end of a pipe whose other end only the server holds.
    """

    def watch() -> None:
        while os.read(fd, 1):
            pass
        threading.Event().wait(CLOSE_GRACE / 2)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()

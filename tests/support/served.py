"""A whole server as a process of its own, as an operator starts it."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

_SAMPLE = re.compile(r"^(jarvis_\w+)\{(.*)\} (\S+)$", re.MULTILINE)
_OUTCOME = re.compile(r'\bstatus="([a-z]+)"')
_READY = re.compile(r"Jarvis is ready at (http://\S+)")

QUICK = {
    "JARVIS_HEARTBEAT_INTERVAL": "0.05",
    "JARVIS_HEARTBEAT_STALE": "5",
    "JARVIS_HEARTBEAT_TIMEOUT": "20",
    "JARVIS_RESTART_BACKOFF": "0.05",
}

OUTCOMES = ("ok", "failed", "aborted", "expired")
IN_FLIGHT = ("jarvis_requests_running", "jarvis_requests_waiting", "jarvis_kv_cache_usage_ratio")


class Server:
    """A running ``jarvis serve``.

    Attributes:
        url: Where it listens.
        client: An HTTP client for it.
        process: Its process.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.url = ""
        self.client = httpx.AsyncClient(timeout=30)
        self._log: list[str] = []
        self._readers = [
            asyncio.create_task(self._read(stream))
            for stream in (process.stdout, process.stderr)
            if stream is not None
        ]
        self._listening = asyncio.Event()

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            text = line.decode().rstrip()
            self._log.append(text)
            if found := _READY.search(text):
                self.url = found[1]
                self.client.base_url = httpx.URL(self.url)
                self._listening.set()

    @property
    def log(self) -> str:
        """Everything that it has printed."""
        return "\n".join(self._log)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    async def ready(self, within: float = 30) -> None:
        """Wait so many seconds until it has announced its address."""
        ended = asyncio.create_task(self.process.wait())
        listening = asyncio.create_task(self._listening.wait())
        done, _ = await asyncio.wait(
            [ended, listening], timeout=within, return_when=asyncio.FIRST_COMPLETED
        )
        for task in (ended, listening):
            task.cancel()
        assert listening in done, self.log

    async def ended(self, within: float) -> int:
        """Wait for its end; the exit code."""
        code = await asyncio.wait_for(self.process.wait(), within)
        await asyncio.gather(*self._readers)
        return code

    async def aclose(self) -> None:
        """End it, whatever it is doing."""
        await self.client.aclose()
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await asyncio.gather(*self._readers)

    # -- what a client does ----------------------------------------------------------------

    def body(self, text: str, model: str = "m", **fields: Any) -> dict[str, Any]:
        """A chat request."""
        return {"model": model, "messages": [{"role": "user", "content": text}], **fields}

    async def say(self, text: str, model: str = "m", **fields: Any) -> str:
        """The content of a whole answer."""
        response = await self.post(text, model, **fields)
        assert response.status_code == 200, response.text
        return str(response.json()["choices"][0]["message"]["content"])

    async def post(self, text: str, model: str = "m", **fields: Any) -> httpx.Response:
        """The response to a chat request."""
        return await self.client.post("/v1/chat/completions", json=self.body(text, model, **fields))

    async def stream(
        self,
        text: str,
        model: str = "m",
        begun: Callable[[], object] | None = None,
        **fields: Any,
    ) -> str:
        """Everything that a streamed answer sends, as raw text."""
        raw = []
        async with self.client.stream(
            "POST", "/v1/chat/completions", json=self.body(text, model, stream=True, **fields)
        ) as response:
            async for piece in response.aiter_text():
                raw.append(piece)
                if begun is not None and '"content"' in piece:
                    begun()
                    begun = None
        return "".join(raw)

    async def ready_status(self) -> int:
        """Status of the readiness check."""
        return (await self.client.get("/health/ready")).status_code

    async def state(self, model: str = "m") -> str:
        """State of a model."""
        return str((await self.client.get(f"/v1/models/{model}")).json()["state"])

    async def running(self, headers: dict[str, str] | None = None) -> tuple[int, int]:
        """Requests that engines run, and requests that wait for them."""
        await asyncio.sleep(2 * float(QUICK["JARVIS_HEARTBEAT_INTERVAL"]))
        values = await self.metrics(headers)
        return values["jarvis_requests_running"], values["jarvis_requests_waiting"]

    async def metrics(self, headers: dict[str, str] | None = None) -> Counter[str]:
        """Its metrics by name, those with an outcome by name and outcome; sums over all models."""
        text = (await self.client.get("/metrics", headers=headers)).text
        values: Counter[str] = Counter()
        for name, labels, value in _SAMPLE.findall(text):
            outcome = _OUTCOME.search(labels)
            values[f"{name} {outcome[1]}" if outcome else name] += math.ceil(float(value))
        return values

    async def conserved(self, headers: dict[str, str] | None = None, /, **ended: int) -> None:
        """Check that what engines accepted has ended, each request once, and nothing is held.

        Args:
            headers: For the metrics, where they need a key.
            ended: How many requests were accepted and ended so, by outcome: ok, failed, aborted,
                expired; none of those not named.
        """
        expected = dict.fromkeys(IN_FLIGHT, 0)
        expected |= {f"jarvis_requests_total {how}": ended.get(how, 0) for how in OUTCOMES}
        found: dict[str, int] = {}

        async def as_expected() -> bool:
            nonlocal found
            values = await self.metrics(headers)
            found = {name: values[name] for name in expected}
            return found == expected

        with suppress(TimeoutError):
            await until(as_expected, 5.0)
        assert found == expected

    def children(self) -> list[int]:
        """Process ids of its children."""
        table = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, check=True)
        pairs = [line.split() for line in table.stdout.decode().splitlines()]
        return [int(pid) for pid, parent in pairs if int(parent) == self.pid]

    async def host_pid(self, model: str = "m") -> int:
        """Process id of a model's engine host."""
        return int(await self.say("!pid", model))


def content(raw: str) -> str:
    """The content of a stream's chunks."""
    chunks = [json.loads(line[6:]) for line in raw.splitlines() if line.startswith("data: {")]
    return "".join(
        choice["delta"].get("content") or ""
        for chunk in chunks
        for choice in chunk.get("choices", ())
    )


async def until(condition: Callable[[], Awaitable[bool]], within: float) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(within):
        while not await condition():
            await asyncio.sleep(0.02)


async def gone(pid: int, within: float = 5.0) -> bool:
    """Whether a process ends in time."""

    async def over() -> bool:
        with suppress(ProcessLookupError):
            os.kill(pid, 0)
            return False
        return True

    try:
        await until(over, within)
    except TimeoutError:
        return False
    return True


Serve = Callable[..., Awaitable[Server]]
FAKE_MODEL = '[models.m]\nsource = "fake/m"\nengine = "fake"\n'


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[Serve]:
    """Starts servers in a directory, and ends them with the block."""
    async with AsyncExitStack() as stack:

        async def serve(toml: str = FAKE_MODEL, *, wait: bool = True, **environ: str) -> Server:
            (directory / "jarvis.toml").write_text(toml)
            kept = {k: v for k, v in os.environ.items() if not k.startswith("JARVIS_")}
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "jarvis_core",
                "serve",
                cwd=directory,
                env=kept
                | QUICK
                | {"JARVIS_PLUGINS": "jarvis_core.testing.fake", "JARVIS_PORT": "0"}
                | environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            server = Server(process)
            stack.push_async_callback(server.aclose)
            if wait:
                await server.ready()
            return server

        yield serve


def toml(**models: str) -> str:
    """A ``jarvis.toml`` with fake models; each value is the body of its settings table."""
    return "\n".join(
        f'[models.{name}]\nsource = "fake/{name}"\nengine = "fake"\n'
        f"[models.{name}.settings]\n{settings}"
        for name, settings in models.items()
    )

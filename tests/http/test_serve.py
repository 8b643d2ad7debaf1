"""The server as a process of its own: start, signals, exit codes, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from attrs import define

from jarvis_core.errors import SettingError
from jarvis_core.http.serve import bind, url
from jarvis_core.settings import ServerSettings

pytestmark = pytest.mark.anyio

PROGRAM = """
import json, sys
from jarvis_core.http.serve import run
from jarvis_core.plugins import load_plugins
from jarvis_core.settings import ModelConfig, ServerSettings, Settings

server, models = json.loads(sys.argv[1]), json.loads(sys.argv[2])
settings = Settings(
    server=ServerSettings(port=0, log_format="json", **server),
    models={
        name: ModelConfig(name=name, source="fake/" + name, engine="fake", **config)
        for name, config in models.items()
    },
)
def announce(event):
    print(json.dumps({"kind": event.kind, "message": event.message}), flush=True)
sys.exit(run(settings, load_plugins(), announce=announce))
"""


@define
class Running:
    """A server process.

    Attributes:
        process: The process.
        url: Its address.
        client: A client.
        events: What it announced so far.
    """

    process: asyncio.subprocess.Process
    url: str
    client: httpx.AsyncClient
    events: list[dict[str, str]]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def until(self, kind: str) -> dict[str, str]:
        """Wait for an event."""
        assert self.process.stdout is not None
        while not (found := [e for e in self.events if e["kind"] == kind]):
            line = await asyncio.wait_for(self.process.stdout.readline(), 20)
            assert line, f"the server ended before it was {kind}"
            self.events.append(json.loads(line))
        return found[0]

    async def exit_code(self, within: float) -> int:
        return await asyncio.wait_for(self.process.wait(), within)

    async def log(self) -> list[dict[str, Any]]:
        """The log lines of a process that has ended."""
        assert self.process.stderr is not None
        return [json.loads(line) for line in (await self.process.stderr.read()).splitlines()]

    def children(self) -> list[int]:
        """Process ids of its children."""
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        with open(path) as file:
            return [int(pid) for pid in file.read().split()]

    async def stream(self, words: int, delay: float) -> str:
        """The text of a stream of so many words."""
        body = {
            "model": "tiny",
            "stream": True,
            "messages": [{"role": "user", "content": f"!words={words} !delay={delay}"}],
        }
        async with self.client.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert answer.status_code == 200
            return "".join([part async for part in answer.aiter_text()])


Start = Callable[..., Any]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts server processes, and ends them with the test."""
    async with AsyncExitStack() as stack:

        async def begin(models: Any = None, *, ready: bool = True, **settings: Any) -> Running:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", PROGRAM),
                *(json.dumps(settings), json.dumps({"tiny": {}} if models is None else models)),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            stack.push_async_callback(_end, process)
            running = Running(process, "", httpx.AsyncClient(), [])
            running.url = (await running.until("listening"))["message"]
            running.client = await stack.enter_async_context(
                httpx.AsyncClient(base_url=running.url, timeout=30, trust_env=False)
            )
            if ready:
                await running.until("ready")
            return running

        yield begin


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@linux
async def test_a_crowd_that_comes_while_the_server_is_busy_is_connected_at_once(
    start: Start,
) -> None:
    running = await start()
    os.kill(running.process.pid, signal.SIGSTOP)
    poll, crowd = select.poll(), []
    try:
        for _ in range(500):
            sock = socket.socket()
            crowd.append(sock)
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", running.port))
            poll.register(sock, select.POLLOUT)
        # Who finds the queue of the listening socket full is sent away, and asks again after 1 s.
        connected = poll.poll(0)
    finally:
        os.kill(running.process.pid, signal.SIGCONT)
        for sock in crowd:
            sock.close()
    assert len(connected) == 500


@linux
async def test_sigterm_lets_a_stream_end_and_refuses_what_is_new(start: Start) -> None:
    """R-07."""
    running = await start()
    children = running.children()
    assert children
    idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", running.port)
    idle_writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    await idle_reader.readuntil(b'"ok"}')
    live_reader, live_writer = await asyncio.open_connection("127.0.0.1", running.port)
    streaming = asyncio.create_task(running.stream(30, 0.05))
    await asyncio.sleep(0.3)
    running.process.send_signal(signal.SIGTERM)
    await running.until("stopping")
    assert (await running.client.get("/health/ready")).status_code == 503
    live_writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await live_reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 503")
    text = await streaming
    assert "word29" in text
    assert text.endswith("data: [DONE]\n\n")
    assert await running.exit_code(10) == 0
    assert not [pid for pid in children if _alive(pid)]
    idle_writer.close()
    live_writer.close()


async def test_a_whole_answer_is_finished_too(start: Start) -> None:
    running = await start()
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "!words=20 !delay=0.05"}],
    }
    asking = asyncio.create_task(running.client.post("/v1/chat/completions", json=body))
    await asyncio.sleep(0.3)
    running.process.send_signal(signal.SIGINT)
    answer = await asking
    assert answer.status_code == 200
    assert "word19" in answer.text
    assert await running.exit_code(10) == 0


async def test_answers_are_cut_when_the_drain_takes_too_long(start: Start, kit: Any) -> None:
    """R-08."""
    running = await start(drain_timeout=0.5)
    streaming = asyncio.create_task(running.stream(1000, 0.1))
    whole = asyncio.create_task(
        running.client.post(
            "/v1/chat/completions",
            json={"model": "tiny", "messages": [{"role": "user", "content": "!wait=60"}]},
        )
    )
    await asyncio.sleep(0.3)
    began = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    events = kit.read_events(await streaming)
    assert not events.done
    assert [e["code"] for e in events.errors] == ["model_unavailable"]
    assert (await whole).status_code == 503
    assert await running.exit_code(10) == 0
    assert 0.4 < time.monotonic() - began < 7.5
    outcomes = [line.get("outcome") for line in await running.log()]
    assert outcomes.count("expired") == 2


@linux
async def test_a_second_signal_ends_everything_at_once(start: Start) -> None:
    """R-09: exit within 2 s; other processes of the group live."""
    running = await start()
    children = running.children()
    bystander = await asyncio.create_subprocess_exec("sleep", "60")
    assert os.getpgid(bystander.pid) == os.getpgid(running.process.pid)
    streaming = asyncio.create_task(running.stream(1000, 0.1))
    await asyncio.sleep(0.3)
    running.process.send_signal(signal.SIGTERM)
    await running.until("stopping")
    began = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    assert await running.exit_code(10) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 2
    with pytest.raises(httpx.RemoteProtocolError):
        await streaming
    for _ in range(100):
        if not [pid for pid in children if _alive(pid)]:
            break
        await asyncio.sleep(0.05)
    assert not [pid for pid in children if _alive(pid)]
    assert bystander.returncode is None
    bystander.kill()
    await bystander.wait()


async def test_a_signal_while_models_load_ends_the_server(start: Start) -> None:
    running = await start({"tiny": {"settings": {"load_delay": 60}}}, ready=False)
    assert (await running.client.get("/health/ready")).status_code == 503
    running.process.send_signal(signal.SIGTERM)
    assert await running.exit_code(10) == 0


async def test_if_no_model_can_be_loaded_the_exit_code_is_2(start: Start) -> None:
    running = await start({"tiny": {"settings": {"load_fault": "missing"}}}, ready=False)
    failed = await running.until("failed")
    assert "no such file" in failed["message"]
    assert await running.exit_code(10) == 2


async def test_one_model_that_cannot_be_loaded_does_not_end_the_others(start: Start) -> None:
    running = await start({"tiny": {}, "bad": {"settings": {"load_fault": "missing"}}})
    await running.until("failed")
    body = {"messages": [{"role": "user", "content": "hello"}]}
    good = await running.client.post("/v1/chat/completions", json={**body, "model": "tiny"})
    assert good.json()["choices"][0]["message"]["content"] == "hello"
    bad = await running.client.post("/v1/chat/completions", json={**body, "model": "bad"})
    assert bad.status_code == 409
    assert bad.json()["error"]["code"] == "model_load_failed"
    assert "no such file" in bad.json()["error"]["message"]
    running.process.send_signal(signal.SIGTERM)
    assert await running.exit_code(10) == 0


async def test_a_log_in_json_tells_what_becomes_of_models_and_the_server(start: Start) -> None:
    models = {"tiny": {}, "bad": {"settings": {"load_fault": "missing"}}}
    running = await start(models)
    await running.until("failed")
    running.process.send_signal(signal.SIGTERM)
    assert await running.exit_code(15) == 0
    log = await running.log()

    assert {"address": running.url, "level": "info"}.items() <= of(log, "listening").items()
    assert {"model": "tiny", "engine": "fake"}.items() <= of(log, "model ready").items()
    failed = of(log, "model cannot be loaded")
    assert (failed["level"], failed["model"]) == ("error", "bad")
    assert "no such file" in failed["reason"]
    assert of(log, "stopping")["level"] == "info"


def of(log: list[dict[str, Any]], event: str) -> dict[str, Any]:
    """The only line of that event."""
    (found,) = [line for line in log if line["event"] == event]
    return found


async def test_the_log_has_one_line_for_each_request_and_never_text(start: Start) -> None:
    """S-09."""
    running = await start(api_key="canary-key")
    headers = {"authorization": "Bearer canary-key"}
    for stream in (False, True):
        body = {
            "model": "tiny",
            "stream": stream,
            "user": "canary-user",
            "messages": [{"role": "user", "content": "canary prompt !words=3"}],
        }
        answer = await running.client.post(
            "/v1/chat/completions", json=body, headers={**headers, "x-request-id": f"r{stream}"}
        )
        assert answer.status_code == 200
    for path in ("/canary-path?canary", "/v1/models/canary"):
        assert (await running.client.get(path, headers=headers)).status_code == 404
    await running.client.get("/v1/models", headers={"authorization": "Bearer canary-wrong"})
    running.process.send_signal(signal.SIGTERM)
    assert await running.exit_code(10) == 0
    lines = await running.log()
    assert "canary" not in json.dumps(lines)
    requests = [line for line in lines if line["event"] == "request"]
    assert [line["status"] for line in requests] == [200, 200, 404, 404, 401]
    first = requests[0]
    assert first["id"] == "rFalse"
    assert first["route"] == "POST /v1/chat/completions"
    assert first["model"] == "tiny"
    assert first["completion_tokens"] == 3
    assert first["outcome"] == "ok"
    assert 0 < first["accepted_ms"] <= first["first_token_ms"] <= first["ms"]


async def test_the_log_says_which_key_of_the_file_asked(start: Start, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text('[alice]\nkey = "canary-a"\n')
    running = await start(api_key="canary-b", keys_file=str(keys))
    for key in ("canary-a", "canary-b"):
        headers = {"authorization": f"Bearer {key}"}
        assert (await running.client.get("/v1/models", headers=headers)).status_code == 200
    running.process.send_signal(signal.SIGTERM)
    assert await running.exit_code(10) == 0
    lines = await running.log()
    assert [line.get("key") for line in lines if line["event"] == "request"] == ["alice", None]
    assert "canary" not in json.dumps(lines)


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingError, match=rf"JARVIS_PORT is {port} \(default\): another"):
            bind(ServerSettings(port=port))


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "x" * 300])
def test_a_host_that_is_not_here_is_named(host: str) -> None:
    with pytest.raises(SettingError, match="JARVIS_HOST is "):
        bind(ServerSettings(port=0, host=host))


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "http://127.0.0.1:"),
        ("0.0.0.0", "http://localhost:"),
        ("localhost", "http://127.0.0.1:"),
    ],
)
def test_the_address_that_is_shown_can_be_used(host: str, shown: str) -> None:
    with bind(ServerSettings(port=0, host=host)) as sock:
        assert url(sock) == f"{shown}{sock.getsockname()[1]}"

"""An engine host as the server sees it: a real process, with the fake engine in it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from jarvis_core.chat import Fold
from jarvis_core.errors import (
    ConfigError,
    ContextLengthExceeded,
    EngineDied,
    EngineError,
    InsufficientMemory,
    ModelSourceError,
    PluginError,
    RequestError,
    SettingError,
)
from jarvis_core.host.calls import Rendered, RenderRequest
from jarvis_core.host.client import Host, HostLimits
from jarvis_core.host.protocol import CREDIT, HostPlan
from jarvis_core.host.stream import HostStream
from jarvis_core.structs import (
    ChatRequest,
    Completion,
    MediaPart,
    Message,
    SamplingParams,
    TextPart,
    Tool,
)

pytestmark = pytest.mark.anyio

Start = Callable[..., Awaitable[Host]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts hosts, and ends them with the test."""
    async with AsyncExitStack() as stack:

        async def start(limits: HostLimits = HostLimits(), **plan: Any) -> Host:
            host = Host(
                HostPlan(**({"name": "m", "source": "fake", "engine": "fake"} | plan)), limits
            )
            stack.push_async_callback(host.stop)
            await host.start()
            return host

        yield start


def request(text: str, **sampling: Any) -> ChatRequest:
    return ChatRequest(
        model="m",
        messages=(Message(role="user", content=text),),
        sampling=SamplingParams(**sampling),
    )


async def whole(stream: HostStream) -> Completion:
    fold = Fold()
    async for batch in stream:
        for delta in batch:
            fold.add(delta)
    await stream.aclose()
    return fold.completion()


async def say(host: Host, text: str, **sampling: Any) -> str | None:
    return (await whole(await host.stream(request(text, **sampling), "r"))).answers[0].content


async def gone(pid: int, within: float = 5.0) -> bool:
    """Whether a process ends in time."""
    for _ in range(int(within / 0.02)):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        await asyncio.sleep(0.02)
    return False


@pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {"use_uvloop": uvloop}) for uvloop in (False, True)]
)
async def test_a_start_that_is_given_up_leaves_no_process_and_no_open_file() -> None:
    """As when a model is unloaded that has just begun to load."""
    plan = HostPlan(name="m", source="fake", engine="fake")
    files: list[int] = []
    for turns in range(10):
        host = Host(plan, HostLimits())
        starting = asyncio.create_task(host.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])
        await asyncio.sleep(0.05)  # transports close in the next turns of the loop
        files.append(len(os.listdir("/dev/fd")))
        if host.pid is not None:
            assert await gone(host.pid)

    assert max(files[2:]) <= files[1]  # the first process makes the loop open files of its own


async def test_a_ready_host_tells_its_model_and_format(start: Start) -> None:
    host = await start(context_length=77)
    assert host.info is not None
    assert (host.info.context_length, host.chat_format) == (77, "fake")
    assert host.healthy


async def test_a_host_takes_images_if_both_engine_and_format_do(start: Start) -> None:
    host = await start(settings={"media": ["image", "audio"]})
    assert host.info is not None
    assert host.info.capabilities.media == {"image"}
    picture = MediaPart(kind="image", url="data:,x", param="messages[0].content[0]")
    asked = evolve(
        request(""),
        messages=(Message(role="user", content=(picture, TextPart(text="!media"))),),
    )
    answer = (await whole(await host.stream(asked, "r"))).answers[0]
    assert answer.content == "image data:,x "
    blind = await start(settings={"media": ["image"]}, chat_format="template")
    assert blind.info is not None
    assert blind.info.capabilities.media == set()


async def test_a_chat_comes_back_with_usage(start: Start) -> None:
    completion = await whole(await (await start()).stream(request("hello there"), "r"))
    assert completion.answers[0].content == "hello there"
    assert completion.answers[0].finish_reason == "stop"
    assert completion.usage.completion_tokens == 2


async def test_concurrent_chats_do_not_mix(start: Start) -> None:
    host = await start()
    texts = [f"answer {i} !delay=0.001" for i in range(32)]
    assert await asyncio.gather(*(say(host, t) for t in texts)) == texts


async def test_a_refused_request_raises_before_it_is_accepted(start: Start) -> None:
    host = await start()
    with pytest.raises(RequestError, match="asked to refuse"):
        await host.stream(request("!refuse"), "r")
    with pytest.raises(ContextLengthExceeded, match="context length is 4,096"):
        await host.stream(request("hi", max_tokens=99_999), "r")
    assert await say(host, "fine") == "fine"


async def test_an_engine_error_ends_its_own_stream_after_what_was_said(start: Start) -> None:
    host = await start()
    stream = await host.stream(request("!error=2 !words=5"), "r")
    said = []
    with pytest.raises(EngineError, match="asked to fail"):
        async for batch in stream:
            said += [d.content for d in batch]
    assert said == [" word0", " word1"]
    assert await say(host, "fine") == "fine"


async def test_a_bug_in_an_engine_shows_no_detail_and_harms_no_other(start: Start) -> None:
    host = await start()
    with pytest.raises(
        EngineError, match="^internal error; the server's log has the details under request id r$"
    ):
        await say(host, "!bug=1")
    assert await say(host, "fine") == "fine"


async def test_closing_a_stream_aborts_the_request(start: Start) -> None:
    host = await start(limits=HostLimits(heartbeat_interval=0.05))
    stream = await host.stream(request("!words=100000 !delay=0.01"), "r")
    await stream.__anext__()
    await stream.aclose()
    async with asyncio.timeout(5):
        while host.stats is None or host.stats.running:
            await asyncio.sleep(0.02)
    assert host.stats.generation_tokens < 1000


async def test_cancelling_a_chat_before_it_is_accepted_leaves_nothing(start: Start) -> None:
    host = await start(limits=HostLimits(heartbeat_interval=0.05))
    tasks = [asyncio.create_task(host.stream(request("!words=9 !wait=9"), "r")) for _ in range(20)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(5):
        while host.stats is None or host.stats.running:
            await asyncio.sleep(0.02)
    assert len(host._pending) == 0


async def test_a_reader_that_pauses_holds_back_its_own_stream_only(start: Start) -> None:
    host = await start()
    words = 4 * CREDIT
    stream = await host.stream(request(f"!words={words}", max_tokens=words), "r")
    assert await say(host, "meanwhile") == "meanwhile"
    await asyncio.sleep(0.2)
    assert len(stream._deltas) == CREDIT
    completion = await whole(stream)
    assert completion.usage.completion_tokens == words


async def test_log_probabilities_count_for_what_a_paused_reader_has_in_memory(
    start: Start,
) -> None:
    """R-13: twenty likeliest tokens at each place are more than twenty times the text."""
    host = await start()
    words = 2 * CREDIT
    asked = request(f"!words={words}", max_tokens=words)
    stream = await host.stream(evolve(asked, logprobs=20), "r")
    assert await say(host, "meanwhile") == "meanwhile"
    await asyncio.sleep(0.2)
    assert 1 < len(stream._deltas) <= CREDIT // 5
    completion = await whole(stream)
    assert completion.usage.completion_tokens == words


async def test_killed_host_fails_its_streams_at_once(start: Start) -> None:
    """R-01, the host's part."""
    host = await start()
    streams = [await host.stream(request("!words=9999 !delay=0.01"), "r") for _ in range(8)]
    assert host.pid is not None
    os.kill(host.pid, signal.SIGKILL)
    async with asyncio.timeout(2):
        for stream in streams:
            with pytest.raises(EngineDied, match="is being restarted"):
                await whole(stream)
    assert await host.reap() == "was ended by SIGKILL"
    assert not host.healthy
    with pytest.raises(EngineDied):
        await host.stream(request("hi"), "r")


async def test_abort_in_the_backend_leaves_its_last_words_and_no_core(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-02."""
    monkeypatch.chdir(tmp_path)
    host = await start()
    with pytest.raises(EngineDied):
        await say(host, "!abort=1 now")
    assert await host.reap() == "was ended by SIGABRT"
    assert "fake.cpp:1: ASSERT(fake) failed" in host.last_words
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stop", [signal.SIGSTOP, None])
async def test_host_that_does_not_answer_is_unhealthy_then_killed(
    start: Start, stop: signal.Signals | None
) -> None:
    """R-03: stopped as a whole, or with its event loop blocked by the backend."""
    limits = HostLimits(heartbeat_interval=0.05, heartbeat_stale=0.3, heartbeat_timeout=1.0)
    host = await start(limits)
    stream = await host.stream(request("!words=9999 !delay=0.01 !block=3"), "r")
    assert host.pid is not None
    if stop is not None:
        os.kill(host.pid, stop)
    async with asyncio.timeout(5):
        while host.healthy:
            await asyncio.sleep(0.02)
        with pytest.raises(EngineDied):
            await whole(stream)
    assert await host.reap() == "was ended by SIGKILL"
    where = [line for line in host.last_words if "fake.py" in line]
    assert bool(where) == (stop is None)  # the stack of what blocks, told before the end


async def test_host_whose_backend_has_died_ends(start: Start) -> None:
    """As vLLM's does, whose engine is a process of its own: the host itself would live on."""
    host = await start(HostLimits(heartbeat_interval=0.05))
    stream = await host.stream(request("!words=9 !perish=3"), "r")
    async with asyncio.timeout(10):
        with pytest.raises(EngineDied, match="ended while it held this request"):
            await whole(stream)

    assert await host.reap() == "exited with code 0"
    assert "the engine has died: the fake backend has died" in host.last_words


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"load_fault": "missing"}, ModelSourceError, "no such file"),
        ({"load_fault": "memory"}, InsufficientMemory, "needs 9 GB"),
        ({"load_fault": "bug"}, Exception, "RuntimeError: the fake engine cannot load"),
        ({"load_fault": "exit"}, ConfigError, "failed to load f: SystemExit: 3"),
        ({"load_fault": "die"}, EngineDied, "ended while loading"),
        ({"load_fault": "typo"}, SettingError, "load_fault"),
        ({"load_delay": "soon"}, SettingError, "load_delay"),
        ({"no_such": 1}, SettingError, "no_such"),
    ],
)
async def test_a_failed_load_says_why_and_leaves_no_process(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    host = Host(HostPlan(name="m", source="f", engine="fake", settings=settings), HostLimits())
    with pytest.raises(error, match=message):
        await host.start()
    assert host.pid is not None
    assert await gone(host.pid)


async def test_engine_and_format_that_do_not_exist_are_named_with_those_that_do() -> None:
    with pytest.raises(PluginError, match="'nope' is not installed.*fake"):
        await Host(HostPlan(name="m", source="f", engine="nope"), HostLimits()).start()
    plan = HostPlan(name="m", source="f", engine="fake", chat_format="nope")
    with pytest.raises(PluginError, match="'nope' does not exist; there are: auto, .*template"):
        await Host(plan, HostLimits()).start()


async def test_a_load_that_takes_too_long_is_ended() -> None:
    host = Host(
        HostPlan(name="m", source="f", engine="fake", settings={"load_delay": 60.0}),
        HostLimits(load_timeout=0.5),
    )
    with pytest.raises(EngineDied, match=r"took longer than 0\.5 s"):
        await host.start()
    assert host.pid is not None
    assert await gone(host.pid)


async def test_a_python_that_is_not_there_is_named() -> None:
    plan = HostPlan(name="m", source="f", engine="fake")
    with pytest.raises(EngineDied, match="cannot start /no/python"):
        await Host(plan, HostLimits(), python="/no/python").start()


async def test_stop_ends_the_process_and_its_children(start: Start) -> None:
    host = await start()
    await host.stop()
    assert host.pid is not None
    assert await gone(host.pid)


_SERVER = """
import asyncio, sys
from jarvis_core.host.client import Host, HostLimits
from jarvis_core.host.protocol import HostPlan
from jarvis_core.structs import ChatRequest, Message

async def main():
    host = Host(HostPlan(name="m", source="f", engine="fake"), HostLimits())
    await host.start()
    text = sys.argv[1]
    await host.stream(ChatRequest(model="m", messages=(Message(role="user", content=text),)), "r")
    print(host.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("text", ["!wait=60", "!words=9 !block=0"])
async def test_killed_server_leaves_no_host(text: str) -> None:
    """R-04: while the host is idle, and while its event loop is blocked."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SERVER, text, stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    pid = int(await asyncio.wait_for(server.stdout.readline(), 20))
    await asyncio.sleep(0.2)
    server.kill()
    await server.wait()
    assert await gone(pid)


async def test_a_template_that_is_set_takes_the_place_of_the_model_s_own(
    start: Start, tmp_path: Path
) -> None:
    file = tmp_path / "turns.jinja"
    file.write_text("{{ messages[0].content }} and more")
    host = await start(chat_template=str(file))
    assert host.info is not None
    assert host.info.chat_template == file.read_text()
    assert host.chat_format == "template"
    assert (host.chat_format_reason or "").startswith("chat_template is set")
    assert await say(host, "Hi") == "Hi and more"


async def test_tools_are_told_where_the_template_prints_none(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "turns.jinja"
    turns = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    told = "it prints no tools: they are told in the system text"
    tool = Tool(spec={"type": "function", "function": {"name": "look_up"}})
    message = Message(role="user", content="Hi")
    for template, is_told in ((turns, True), (turns + "{{ tools | tojson }}", False)):
        file.write_text(template)
        host = await start(chat_template=str(file))
        assert (told in (host.chat_format_reason or "")) is is_told
        chat = ChatRequest(model="m", messages=(message,), tools=(tool,))
        rendered = await host.call(RenderRequest(chat=chat), Rendered, "r")
        assert rendered.text.startswith("system: # Tools") is is_told
        assert "look_up" in rendered.text


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "No such file"), (b"\xff", "no UTF-8"), (b" \n", "empty"), (b"x" * 2**21, "bytes")],
)
async def test_a_template_file_that_is_none_fails_the_load(
    start: Start, tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    file = tmp_path / "turns.jinja"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=complaint):
        await start(chat_template=str(file))

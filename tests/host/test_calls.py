"""What a host answers with one result, and completions, in a real process."""

from __future__ import annotations

import array
import asyncio
import math
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest

from jarvis_core.errors import (
    ContextLengthExceeded,
    EngineDied,
    EngineError,
    ModelUnavailable,
    RequestError,
    UnsupportedParameter,
)
from jarvis_core.host.calls import (
    Detokenized,
    DetokenizeRequest,
    Done,
    EmbedRequest,
    PackedEmbeddings,
    Rendered,
    RenderRequest,
    RerankRequest,
    ResetPrefixCache,
    SleepRequest,
    TokenizeRequest,
    Tokens,
    WakeRequest,
    check_task,
)
from jarvis_core.host.client import Host, HostLimits
from jarvis_core.host.loaded import Loaded
from jarvis_core.host.protocol import HostPlan
from jarvis_core.interfaces import Engine
from jarvis_core.structs import (
    Capabilities,
    ChatRequest,
    CompletionRequest,
    Message,
    ModelInfo,
    ModelSpec,
    Ranking,
    SamplingParams,
    ToolChoice,
)
from jarvis_core.testing import FakeEngine, FakeFormat

pytestmark = pytest.mark.anyio

Start = Callable[..., Awaitable[Host]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts hosts, and ends them with the test."""
    async with AsyncExitStack() as stack:

        async def start(**plan: Any) -> Host:
            host = Host(
                HostPlan(name="m", source="fake", engine="fake", **plan),
                HostLimits(heartbeat_interval=0.05),
            )
            stack.push_async_callback(host.stop)
            await host.start()
            return host

        yield start


def embed(*inputs: Any, **fields: Any) -> EmbedRequest:
    return EmbedRequest(inputs=inputs, **fields)


def numbers(packed: bytes) -> list[float]:
    found = array.array("f")
    found.frombytes(packed)
    return found.tolist()


async def idle(host: Host) -> None:
    async with asyncio.timeout(5):
        while host.stats is None or host.stats.running:
            await asyncio.sleep(0.02)


async def test_texts_and_token_ids_become_vectors(start: Start) -> None:
    host = await start()
    tokens = await host.call(TokenizeRequest(text="a cat"), Tokens, "r")
    found = await host.call(embed("a cat", "law", tokens.ids), PackedEmbeddings, "r")
    cat, law, same = found.vectors

    assert (cat == same, cat == law) == (True, False)
    assert len(numbers(cat)) == 8
    assert math.hypot(*numbers(law)) == pytest.approx(1)
    assert found.prompt_tokens == 5


async def test_vectors_cut_to_fewer_dimensions_have_length_one(start: Start) -> None:
    host = await start()
    (whole,) = (await host.call(embed("a cat sat"), PackedEmbeddings, "r")).vectors
    (cut,) = (await host.call(embed("a cat sat", dimensions=3), PackedEmbeddings, "r")).vectors

    assert len(numbers(cut)) == 3
    assert math.hypot(*numbers(cut)) == pytest.approx(1)
    length = math.hypot(*numbers(whole)[:3])
    assert numbers(cut) == pytest.approx([x / length for x in numbers(whole)[:3]])


async def test_more_dimensions_than_there_are_are_refused(start: Start) -> None:
    with pytest.raises(UnsupportedParameter, match="at most 8") as caught:
        await (await start()).call(embed("a", dimensions=9), PackedEmbeddings, "r")
    assert caught.value.param == "dimensions"


async def test_a_text_too_long_to_embed_is_refused_by_the_name_of_its_parameter(
    start: Start,
) -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        await (await start(context_length=3)).call(embed("a b c d"), PackedEmbeddings, "r")
    assert caught.value.param == "input"


async def test_documents_get_scores(start: Start) -> None:
    request = RerankRequest(query="a cat", documents=("tax law", "a cat sat", "a dog"))
    found = await (await start()).call(request, Ranking, "r")

    assert tuple(found.scores) == (0.0, 1.0, 0.5)
    assert found.prompt_tokens == 13


async def test_tokens_become_text_again(start: Start) -> None:
    host = await start()
    text = "over <|end|> and over"
    tokens = await host.call(TokenizeRequest(text=text, with_texts=True), Tokens, "r")

    assert tokens.texts == ("over", " <|end|>", " and", " over")
    assert await host.call(DetokenizeRequest(ids=tokens.ids), Detokenized, "r") == Detokenized(
        text=text
    )
    with pytest.raises(RequestError, match="not in the vocabulary"):
        await host.call(DetokenizeRequest(ids=(99_999,)), Detokenized, "r")


def chat(**fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=(Message(role="user", content="hello"),), **fields)


async def test_a_chat_renders_without_being_answered(start: Start) -> None:
    host = await start()
    request = RenderRequest(chat=chat(sampling=SamplingParams(stop=("x",))), with_texts=True)
    found = await host.call(request, Rendered, "r")

    assert found.text == "<|turn|>user\nhello<|end|>\n<|turn|>assistant\n"
    assert found.stop == ("x", "<|end|>")
    assert "".join(found.tokens.texts or ()) == found.text
    await idle(host)
    assert host.stats is not None
    assert host.stats.prompt_tokens == 0


async def test_rendering_refuses_what_answering_would(start: Start) -> None:
    request = RenderRequest(chat=chat(tool_choice=ToolChoice(mode="required")))
    with pytest.raises(UnsupportedParameter, match="cannot force a tool call"):
        await (await start()).call(request, Rendered, "r")


async def test_a_completion_streams(start: Start) -> None:
    stream = await (await start()).stream(
        CompletionRequest(model="m", prompts=("one two", (0,)), echo=True), "r"
    )
    deltas = [delta async for batch in stream for delta in batch]

    assert stream.prompt_tokens == 3
    assert "".join(d.content for d in deltas if d.index == 0) == "one twoone two"
    assert deltas[-1].usage is not None


async def test_a_prefix_cache_forgets(start: Start) -> None:
    assert await (await start()).call(ResetPrefixCache(), Done, "r") == Done()


async def test_an_engine_without_the_method_of_its_task_is_named() -> None:
    class Bare:
        info = FakeEngine(ModelSpec(name="m", source="m", path="m")).info

    loaded = Loaded(engine=cast(Engine, Bare()), chat_format=FakeFormat(), info=Bare.info)
    with pytest.raises(EngineError, match="'fake' has no method for SleepRequest"):
        await loaded.call(SleepRequest())


async def test_an_engine_sleeps_and_wakes(start: Start) -> None:
    host = await start()
    text = TokenizeRequest(text="a", with_texts=False)
    assert await host.call(SleepRequest(level=2), Done, "r") == Done()
    with pytest.raises(EngineError, match="sleeps"):
        await host.call(EmbedRequest(inputs=("a",)), PackedEmbeddings, "r")
    assert await host.call(WakeRequest(), Done, "r") == Done()
    assert (await host.call(text, Tokens, "r")).ids == (0,)


async def test_what_is_cut_has_ended_before_the_engine_sleeps(start: Start) -> None:
    """The fake engine refuses to sleep while something runs."""
    host = await start()
    stream = await host.stream(CompletionRequest(model="m", prompts=("!wait=60 a",)), "r")
    call = asyncio.create_task(host.call(EmbedRequest(inputs=("!wait=60",)), PackedEmbeddings, "r"))
    await asyncio.sleep(0)
    host.cut(lambda: ModelUnavailable("cut"))

    assert await host.call(SleepRequest(), Done, "r") == Done()
    with pytest.raises(ModelUnavailable, match="cut"):
        await anext(aiter(stream))
    with pytest.raises(ModelUnavailable, match="cut"):
        await call


async def test_cancelling_a_call_ends_its_work(start: Start) -> None:
    host = await start()
    call = asyncio.create_task(host.call(embed("!wait=60"), PackedEmbeddings, "r"))
    async with asyncio.timeout(5):
        while host.stats is None or not host.stats.running:
            await asyncio.sleep(0.02)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await idle(host)
    assert len(host._pending) == 0


async def test_a_host_that_dies_fails_its_calls_and_holds_them_as_suspects(start: Start) -> None:
    """R-06, for requests that do not stream."""
    host = await start()
    waits = asyncio.create_task(host.call(embed("!wait=60"), PackedEmbeddings, "r"))
    await asyncio.sleep(0)
    assert host.pid is not None
    os.kill(host.pid, signal.SIGKILL)
    with pytest.raises(EngineDied, match="is being restarted"):
        await asyncio.wait_for(waits, 5)
    assert host.held == (embed("!wait=60"),)
    with pytest.raises(EngineDied):
        await host.call(embed("a"), PackedEmbeddings, "r")


async def test_a_bug_in_a_call_shows_no_detail(start: Start) -> None:
    host = await start()
    with pytest.raises(
        EngineError, match="^internal error; the server's log has the details under request id r$"
    ):
        await host.call(embed("!bug=0"), PackedEmbeddings, "r")
    assert (await host.call(embed("a"), PackedEmbeddings, "r")).prompt_tokens == 1


def test_a_model_is_asked_only_for_what_it_can_do() -> None:
    info = ModelInfo(
        name="m",
        source="s",
        engine="e",
        context_length=9,
        capabilities=Capabilities(tasks=frozenset({"embed", "rerank"})),
    )
    check_task(embed("a"), info)
    check_task(TokenizeRequest(text="a"), info)
    with pytest.raises(
        UnsupportedParameter, match="'m' on engine 'e' does not generate; it does: embed, rerank"
    ):
        check_task(chat(), info)

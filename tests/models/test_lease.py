"""What a lease promises holds for every kind of request: embeddings and completions too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from jarvis_core.errors import (
    ContextLengthExceeded,
    EngineDied,
    PoisonRequest,
    RequestError,
    UnsupportedParameter,
)
from jarvis_core.host.calls import (
    EmbedRequest,
    PackedEmbeddings,
    Rendered,
    RenderRequest,
    RerankRequest,
    TokenizeRequest,
    Tokens,
)
from jarvis_core.models.catalogue import Catalogue
from jarvis_core.models.turns import NOBODY, Claim
from jarvis_core.settings import ModelConfig, ServerSettings
from jarvis_core.structs import ChatRequest, CompletionRequest, Message, Ranking

pytestmark = pytest.mark.anyio

SETTINGS = ServerSettings(
    heartbeat_interval=0.05, restart_backoff=0.05, load_wait=20.0, drain_timeout=20.0
)


ALICE, BOB = (Claim(tenant=name, shared=True) for name in ("alice", "bob"))


@pytest.fixture
async def catalogue() -> AsyncIterator[Catalogue]:
    async with configured(adapters={"poet": "/a/poet"}) as catalogue:
        yield catalogue


@asynccontextmanager
async def configured(**fields: Any) -> AsyncIterator[Catalogue]:
    config = ModelConfig(name="m", source="fake/m", engine="fake", **fields)
    catalogue = Catalogue({"m": config}, SETTINGS)
    yield catalogue
    await catalogue.aclose()


async def embed(
    catalogue: Catalogue, text: str, name: str = "m", claim: Claim = NOBODY
) -> PackedEmbeddings:
    async with catalogue.lease(name, claim) as lease:
        request = EmbedRequest(inputs=(text,))
        return await lease.call(request, PackedEmbeddings, request_id="r")


async def complete(catalogue: Catalogue, text: str, name: str = "m") -> str:
    async with catalogue.lease(name) as lease:
        request = CompletionRequest(model=name, prompts=(text,))
        stream = await lease.stream(request, request_id="r")
        try:
            return "".join([delta.content async for batch in stream for delta in batch])
        finally:
            await stream.aclose()


@pytest.mark.parametrize("ask", [embed, complete])
async def test_one_that_kills_its_host_alone_is_refused(
    catalogue: Catalogue, ask: Callable[..., Any]
) -> None:
    """R-06."""
    for _ in range(2):
        with pytest.raises(EngineDied):
            await ask(catalogue, "a !die=0")
    with pytest.raises(PoisonRequest):
        await ask(catalogue, "a !die=0")
    await ask(catalogue, "harmless")


async def test_neighbours_of_one_that_kills_are_cleared_by_their_next_try(
    catalogue: Catalogue,
) -> None:
    """R-06."""
    await embed(catalogue, "the model is loaded")
    neighbour = asyncio.create_task(embed(catalogue, "a !wait=0.5"))
    while catalogue.status("m").requests == 0:
        await asyncio.sleep(0)
    with pytest.raises(EngineDied):
        await complete(catalogue, "!die=0")
    with pytest.raises(EngineDied):
        await neighbour
    assert (await embed(catalogue, "a !wait=0.5")).prompt_tokens == 2


async def test_a_call_that_the_engine_refuses_is_no_suspect(catalogue: Catalogue) -> None:
    for _ in range(3):
        with pytest.raises(RequestError):
            await embed(catalogue, "word " * 5000)


async def test_a_suspect_that_the_engine_refuses_is_cleared(catalogue: Catalogue) -> None:
    await embed(catalogue, "the model is loaded")
    text = "word " * 5000
    for _ in range(3):  # uncleared, the second time would make it poison
        request = CompletionRequest(model="m", prompts=(text,))
        catalogue._find("m").suspects.host_died([request])
        with pytest.raises(ContextLengthExceeded):
            await complete(catalogue, text)


async def test_unloading_waits_for_a_call(catalogue: Catalogue) -> None:
    await embed(catalogue, "the model is loaded")
    call = asyncio.create_task(embed(catalogue, "a !wait=0.3"))
    while catalogue.status("m").requests == 0:
        await asyncio.sleep(0)
    await catalogue.unload("m")

    assert call.done()
    assert call.result().prompt_tokens == 2
    assert (catalogue.status("m").requests, catalogue.status("m").waiting) == (0, 0)


async def test_an_adapter_renders_and_completes_but_does_not_embed(catalogue: Catalogue) -> None:
    async with catalogue.lease("poet") as lease:
        assert lease.info.name == "poet"
        chat = ChatRequest(model="poet", messages=(Message(role="user", content="a"),))
        await lease.call(RenderRequest(chat=chat), Rendered, request_id="r")
    assert await complete(catalogue, "!adapter", "poet") == "poet"
    with pytest.raises(UnsupportedParameter, match="adapter 'poet' only generates"):
        await embed(catalogue, "a", "poet")


async def running(catalogue: Catalogue, number: int) -> None:
    """Wait until the engine says that so many requests run."""
    async with asyncio.timeout(20):
        while (stats := catalogue.status("m").stats) is None or stats.running != number:
            await asyncio.sleep(0.01)


async def test_calls_of_one_key_leave_room_for_those_of_another() -> None:
    async with configured(settings={"max_num_seqs": 2}) as catalogue:
        await embed(catalogue, "the model is loaded")
        first = asyncio.create_task(embed(catalogue, "a !wait=60", claim=ALICE))
        await running(catalogue, 1)
        later = asyncio.create_task(embed(catalogue, "later", claim=ALICE))
        async with catalogue.lease("m", ALICE) as lease:
            await lease.call(TokenizeRequest(text="does not wait"), Tokens, request_id="r")
        async with catalogue.lease("m", BOB) as lease:
            ranked = RerankRequest(query="a", documents=("a", "b"))
            await lease.call(ranked, Ranking, request_id="r")
            assert lease.position == 0
        assert not later.done()
        first.cancel()
        assert (await later).prompt_tokens == 1


async def test_an_engine_that_does_not_generate_has_the_calls_of_its_next_step_too() -> None:
    async with configured(settings={"max_num_seqs": 2, "tasks": ["embed"]}) as catalogue:
        await embed(catalogue, "the model is loaded")
        calls = [asyncio.create_task(embed(catalogue, "a !wait=60", claim=ALICE)) for _ in range(9)]
        await running(catalogue, 3)
        await embed(catalogue, "b", claim=BOB)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert (catalogue.status("m").requests, catalogue.status("m").waiting) == (0, 0)


async def test_a_lease_knows_how_many_of_its_key_came_before(catalogue: Catalogue) -> None:
    await embed(catalogue, "the model is loaded")
    async with AsyncExitStack() as stack:
        leases = [
            await stack.enter_async_context(catalogue.lease("m", claim))
            for claim in (ALICE, ALICE, BOB, NOBODY, ALICE)
        ]
        assert [lease.position for lease in leases] == [0, 1, 0, 0, 2]
        leases[0].began()
        async with catalogue.lease("m", ALICE) as lease:
            assert lease.position == 2
    async with catalogue.lease("m", ALICE) as lease:
        assert lease.position == 0


async def test_a_request_for_every_place_lets_another_key_in_and_gets_all_its_answers() -> None:
    wide = CompletionRequest(model="m", prompts=("!words=20 !delay=0.02", "two"), n=8)
    single = CompletionRequest(model="m", prompts=("hello",))
    async with (
        configured(settings={"max_num_seqs": 4}) as catalogue,
        catalogue.lease("m", ALICE) as first,
        catalogue.lease("m", BOB) as second,
    ):
        stream = await first.stream(wide, request_id="wide")
        deltas = list(await anext(stream))
        other = await second.stream(single, request_id="single")
        assert "".join([d.content async for batch in other for d in batch]) == "hello"
        await other.aclose()
        assert not deltas[-1].usage
        deltas += [delta async for batch in stream for delta in batch]
        await stream.aclose()
        assert first.model.requests.turns._lines == {}
    assert sorted(d.index for d in deltas if d.finish_reason) == list(range(16))


async def test_a_request_gives_back_the_places_of_its_answers_that_have_ended() -> None:
    wide = CompletionRequest(model="m", prompts=("one", "two", "!words=2000 !delay=0.02"))
    single = CompletionRequest(model="m", prompts=("!words=2000 !delay=0.02",))
    async with (
        configured(settings={"max_num_seqs": 4}) as catalogue,
        catalogue.lease("m", ALICE) as first,
        catalogue.lease("m", BOB) as second,
        catalogue.lease("m", BOB) as third,
    ):
        stream = await first.stream(wide, request_id="wide")
        others = [await second.stream(single, request_id="second")]
        last = asyncio.create_task(third.stream(single, request_id="third"))
        ended: set[int] = set()
        while len(ended) < 2:
            assert not last.done()
            ended |= {delta.index for delta in await anext(stream) if delta.finish_reason}
        others.append(await last)
        for each in (stream, *others):
            await each.aclose()
        assert first.model.requests.turns._lines == {}
    assert ended == {0, 1}

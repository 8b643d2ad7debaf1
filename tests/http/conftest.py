"""A real server on a real socket, in front of models that live in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Sequence,
)
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
import structlog
from attrs import define, evolve, field
from sanic import Sanic

from jarvis_core.chat import Accepted
from jarvis_core.errors import JarvisError, ModelNotFound, StateConflict
from jarvis_core.host.calls import check_task
from jarvis_core.host.loaded import Loaded
from jarvis_core.host.protocol import converter
from jarvis_core.http.app import create_app
from jarvis_core.http.front import Front
from jarvis_core.http.serve import bind, listen, url
from jarvis_core.models.status import ModelState, ModelStatus
from jarvis_core.models.turns import Claim
from jarvis_core.settings import ServerSettings
from jarvis_core.structs import (
    Capabilities,
    ChatRequest,
    Delta,
    EngineStats,
    ModelInfo,
    ModelSpec,
    Usage,
)
from jarvis_core.testing import FakeEngine, FakeFormat, FakeSettings

EVERYTHING = Capabilities(
    parameters=frozenset(
        {
            *("temperature", "top_p", "top_k", "min_p", "typical_p", "max_tokens", "min_tokens"),
            *("stop", "stop_token_ids", "bad_words", "seed", "ignore_eos", "logit_bias"),
            *("presence_penalty", "frequency_penalty", "repetition_penalty"),
            *("n", "logprobs", "priority", "cache_salt", "mirostat", "mirostat_tau"),
            *("dry_multiplier", "dry_base", "dry_sequence_breakers"),
        }
    ),
    constraints=frozenset({"json_schema", "regex", "choice", "lark"}),
    media=frozenset({"image"}),
)

NOTHING = Capabilities()


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The loop that the server runs on in earnest."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Log lines go through the standard library, where ``caplog`` sees them."""
    structlog.configure(
        processors=[structlog.stdlib.render_to_log_kwargs],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    yield
    structlog.reset_defaults()


Script = Callable[[ChatRequest], AsyncIterator[Sequence[Delta]]]


async def echo(request: Any) -> AsyncIterator[Sequence[Delta]]:
    """Says the last message again, a word in each batch, as each of the ``n`` answers."""
    text = request.messages[-1].content
    words = str(text).split(" ")
    for i, word in enumerate(words):
        content = word if i == 0 else f" {word}"
        yield [Delta(index=index, content=content) for index in range(request.n)]
    usage = Usage(prompt_tokens=7, completion_tokens=len(words) * request.n, cached_tokens=3)
    yield [
        Delta(
            index=index,
            finish_reason="stop",
            usage=usage if index == request.n - 1 else None,
        )
        for index in range(request.n)
    ]


class FakeStream:
    """The answer to one chat."""

    prompt_tokens = 7

    def __init__(self, batches: AsyncIterator[Sequence[Delta]], model: FakeModel) -> None:
        self._batches = batches
        self._model = model
        self._closed = False

    def __aiter__(self) -> AsyncIterator[Sequence[Delta]]:
        return self._batches

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._model.running -= 1
            self._model.closed.set()
            await self._batches.aclose()  # type: ignore[attr-defined]


@define
class FakeModel:
    """A model that is always ready, and says what its script says."""

    status: ModelStatus
    script: Script = echo
    refusal: JarvisError | None = None
    running: int = 0
    position: int = 0
    queued: float = 0.0
    claims: list[Claim] = field(factory=list)
    requests: list[ChatRequest] = field(factory=list)
    request_ids: list[str] = field(factory=list)
    levels: list[int] = field(factory=list)
    closed: asyncio.Event = field(factory=asyncio.Event)

    @property
    def info(self) -> ModelInfo:
        assert self.status.info is not None
        return self.status.info

    chat_format = "fake"

    async def stream(self, request: ChatRequest, *, request_id: str) -> FakeStream:
        self.requests.append(request)
        self.request_ids.append(request_id)
        if self.refusal is not None:
            raise self.refusal
        self.running += 1
        return FakeStream(self.script(request), self)


@define
class EngineModel(FakeModel):
    """A ready model that runs the fake engine, as its host would."""

    loaded: Loaded = field(kw_only=True)

    async def stream(self, request: Any, *, request_id: str) -> FakeStream:
        check_task(request, self.info)
        request = travelled(request, type(request))
        self.requests.append(request)
        answer = self.loaded.stream(request, request_id)
        accepted = await anext(answer)
        assert isinstance(accepted, Accepted)
        self.running += 1
        stream = FakeStream(one_by_one(answer), self)
        stream.prompt_tokens = accepted.prompt_tokens
        return stream

    async def call(self, request: Any, result: type[Any], *, request_id: str) -> Any:
        check_task(request, self.info)
        self.requests.append(travelled(request, type(request)))
        return travelled(await self.loaded.call(self.requests[-1]), result)


def travelled(value: Any, type_: type[Any]) -> Any:
    """What becomes of a value on its way between server and host."""
    frame = msgspec.msgpack.decode(msgspec.msgpack.encode(converter.unstructure(value)))
    return converter.structure(frame, type_)


async def one_by_one(answer: AsyncGenerator[Accepted | Delta, None]) -> AsyncIterator[list[Delta]]:
    """Each delta as a batch."""
    async with aclosing(answer):
        async for delta in answer:
            assert isinstance(delta, Delta)
            yield [delta]


def make_engine_model(**settings: Any) -> EngineModel:
    """A model on the fake engine with these settings."""
    engine = FakeEngine(
        ModelSpec(name="tiny", source="org/tiny", path="tiny"), FakeSettings(**settings)
    )
    status = evolve(make_model().status, info=engine.info)
    return EngineModel(
        status, loaded=Loaded(engine=engine, chat_format=FakeFormat(), info=engine.info)
    )


class FakeCatalogue:
    """What the front door asks of a catalogue, without engine hosts."""

    def __init__(self, *models: FakeModel) -> None:
        self.models = {model.status.name: model for model in models}
        self.is_ready = True
        self.lease_error: JarvisError | None = None
        self.lease_gate: Callable[[], Awaitable[None]] | None = None

    def _find(self, name: str) -> FakeModel:
        for model in self.models.values():
            if name in (model.status.name, *model.status.aliases, model.status.source):
                return model
        raise ModelNotFound("no such model", param="model")

    def statuses(self) -> list[ModelStatus]:
        return [model.status for model in self.models.values()]

    def status(self, name: str) -> ModelStatus:
        return self._find(name).status

    def ready(self) -> bool:
        return self.is_ready

    @asynccontextmanager
    async def lease(self, name: str, claim: Claim) -> AsyncIterator[FakeModel]:
        model = self._find(name)
        model.claims.append(claim)
        if self.lease_gate is not None:
            await self.lease_gate()
        if self.lease_error is not None:
            raise self.lease_error
        yield model

    async def load(self, name: str) -> ModelStatus:
        model = self._find(name)
        model.status = evolve(model.status, state=ModelState.READY)
        return model.status

    async def sleep(self, name: str, level: int) -> ModelStatus:
        model = self._find(name)
        model.levels.append(level)
        model.status = evolve(model.status, state=ModelState.ASLEEP, healthy=False)
        return model.status

    async def wake(self, name: str) -> ModelStatus:
        return await self.load(name)

    async def reset_prefix_cache(self, name: str, request_id: str) -> ModelStatus:
        model = self._find(name)
        model.request_ids.append(request_id)
        return model.status

    async def unload(self, name: str) -> ModelStatus:
        model = self._find(name)
        if model.status.state is ModelState.UNLOADING:
            raise StateConflict("it is being unloaded already")
        model.status = evolve(model.status, state=ModelState.COLD, info=None, healthy=False)
        return model.status


def make_model(
    name: str = "tiny", capabilities: Capabilities = EVERYTHING, **changes: Any
) -> FakeModel:
    """A ready model."""
    info = ModelInfo(
        name=name,
        source=f"org/{name}",
        engine="fake",
        context_length=4096,
        capabilities=capabilities,
        backend="fake 1",
        vocab_size=1000,
        memory_bytes=12345,
    )
    status = ModelStatus(
        name=name,
        aliases=("small", "a/b"),
        source=f"org/{name}",
        engine="fake",
        chat_format="fake",
        state=ModelState.READY,
        healthy=True,
        wanted=True,
        info=info,
        error=None,
        created=1_700_000_000,
        loaded_bytes=None,
        total_bytes=None,
        stats=EngineStats(
            kv_used=10,
            kv_total=40,
            prefix_queries=5,
            prefix_hits=2,
            metrics='# TYPE fake_words counter\nfake_words_total{engine="x",rank="1"} 7\n',
        ),
        requests=3,
        waiting=1,
        load_seconds=1.5,
    )
    return FakeModel(evolve(status, **changes))


@define
class Served:
    """A server that listens.

    Attributes:
        url: Its address.
        port: Its port.
        model: Its first model.
        catalogue: All of them.
        front: Its front door.
        server: Sanic's server object.
        client: A client without a key.
    """

    url: str
    port: int
    model: FakeModel
    catalogue: FakeCatalogue
    front: Front
    server: Any
    client: httpx.AsyncClient

    async def post(self, path: str, **body: Any) -> httpx.Response:
        """Send the first model something else than a chat."""
        return await self.client.post(path, json={"model": "tiny", **body})

    async def chat(self, text: Any = "hello there", /, **parameters: Any) -> httpx.Response:
        """Ask the first model."""
        body = {"model": "tiny", "messages": [{"role": "user", "content": text}], **parameters}
        return await self.client.post("/v1/chat/completions", json=body)

    async def raw(self, data: bytes, *, timeout: float = 10.0) -> bytes:
        """Send bytes, and read until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            return await asyncio.wait_for(reader.read(), timeout)
        finally:
            writer.close()

    async def idle(self) -> None:
        """Wait until nothing is being answered."""
        await asyncio.wait_for(self.front.exchanges.none_left(), 10)


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts servers: ``await serve(make_model(), api_key="k")``."""
    async with AsyncExitStack() as stack:

        async def start(*models: FakeModel, **settings: Any) -> Served:
            made = models or (make_model(),)
            catalogue = FakeCatalogue(*made)
            configured = ServerSettings(port=0, **settings)
            app: Sanic[Any, Any] = create_app(configured, catalogue)  # type: ignore[arg-type]
            sock = bind(configured)
            server = await listen(app, sock)
            stack.push_async_callback(_stop, server)
            address = url(sock)
            client = httpx.AsyncClient(base_url=address, timeout=20, trust_env=False)
            await stack.enter_async_context(client)
            return Served(
                address, sock.getsockname()[1], made[0], catalogue, app.ctx.front, server, client
            )

        yield start


async def _stop(server: Any) -> None:
    server.server.close()
    for connection in tuple(server.connections):
        connection.abort()
    await asyncio.sleep(0)
    server.app.ctx.front.responses.close()
    Sanic.unregister_app(server.app)


def read_events(text: str) -> SimpleNamespace:
    """The events of a stream: chunks as objects, comments, errors, and whether it was whole."""
    found = SimpleNamespace(chunks=[], comments=[], errors=[], done=False)
    for block in filter(None, text.split("\n\n")):
        name, data = "", ""
        for line in block.split("\n"):
            if line.startswith(":"):
                found.comments.append(line)
            elif line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                data = line.removeprefix("data: ")
        if data == "[DONE]":
            found.done = True
        elif name == "error":
            found.errors.append(json.loads(data)["error"])
        elif data:
            found.chunks.append(json.loads(data))
    return found


@pytest.fixture
def kit() -> SimpleNamespace:
    """What tests build from; test modules cannot import each other."""
    return SimpleNamespace(
        EVERYTHING=EVERYTHING,
        NOTHING=NOTHING,
        echo=echo,
        make_engine_model=make_engine_model,
        make_model=make_model,
        read_events=read_events,
    )

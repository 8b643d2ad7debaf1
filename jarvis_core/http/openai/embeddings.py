"""POST /v1/embeddings: texts as vectors."""

from __future__ import annotations

import array
import asyncio
import base64
import sys
from typing import Annotated, Literal

import orjson
from attrs import frozen

from jarvis_core.errors import RequestError
from jarvis_core.host.calls import EmbedRequest, PackedEmbeddings
from jarvis_core.http.asking import asking, note_result
from jarvis_core.http.body import read_json
from jarvis_core.http.converter import Between, structurer
from jarvis_core.http.exchange import Exchange
from jarvis_core.http.front import Front
from jarvis_core.http.openai.parameter_table import (
    ParameterTable,
    core,
    engine,
    ignored_header,
    no_effect,
)
from jarvis_core.http.openai.texts import TextsBody, check_ids, check_number, texts
from jarvis_core.http.openai.wire import ModelName
from jarvis_core.http.responses import Response, json

AT_ONCE = 16
"""Vectors written before others get their turn: one of 4,096 numbers takes half a millisecond."""


@frozen(kw_only=True)
class EmbeddingBody:
    """The body of POST /v1/embeddings."""

    model: ModelName
    input: TextsBody
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Between(1, 1 << 20)] | None = None
    user: str | None = None


EMBEDDING_PARAMETERS = ParameterTable(
    core("model"),
    core("input", "a text, token ids, or a list of either"),
    core("encoding_format", "float or base64: little-endian float32"),
    engine("dimensions"),
    no_effect("user", "says who asks"),
)

_structure_body = structurer(EmbeddingBody)


async def create(front: Front, exchange: Exchange) -> Response:
    """Turn texts into vectors."""
    raw = await read_json(exchange.request, front.settings)
    check_number(raw.get("input"), front.settings.max_inputs, "input")
    body = _structure_body(raw)
    inputs = texts(body.input)
    for i, text in enumerate(inputs):
        if not text:
            param = "input" if isinstance(body.input, str) else f"input[{i}]"
            raise RequestError(f"{param} must not be empty", param=param)
    async with asking(front, exchange, body.model) as (lease, _):
        model = lease.info
        EMBEDDING_PARAMETERS.refuse_what_cannot_be(body, model)
        check_ids(body.input, "input", model)
        request = EmbedRequest(inputs=inputs, dimensions=body.dimensions)
        found = await lease.call(request, PackedEmbeddings, request_id=exchange.id)
    note_result(exchange, found.prompt_tokens)
    tail = {
        "model": model.name,
        "usage": {"prompt_tokens": found.prompt_tokens, "total_tokens": found.prompt_tokens},
    }
    data = await _written(found.vectors, as_base64=body.encoding_format == "base64")
    return json(
        b'{"object":"list","data":[' + data + b"]," + orjson.dumps(tail)[1:],
        headers=ignored_header(EMBEDDING_PARAMETERS.ignored(raw)),
    )


async def _written(vectors: tuple[bytes, ...], *, as_base64: bool) -> bytes:
    """The list's items, written in turns with whatever else the server does."""
    items = []
    for index, vector in enumerate(vectors):
        if index % AT_ONCE == AT_ONCE - 1:
            await asyncio.sleep(0)
        shown = base64.b64encode(vector).decode() if as_base64 else _numbers(vector)
        items.append(orjson.dumps({"object": "embedding", "index": index, "embedding": shown}))
    return b",".join(items)


def _numbers(vector: bytes) -> list[float]:
    found = array.array("f")
    found.frombytes(vector)
    if sys.byteorder == "big":
        found.byteswap()
    return found.tolist()

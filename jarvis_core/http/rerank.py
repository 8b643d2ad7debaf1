"""POST /v1/rerank: documents in the order in which they answer a query.

The shapes are those that Cohere, Jina and vLLM have in common.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from attrs import frozen

from jarvis_core.host.calls import RerankRequest
from jarvis_core.http.asking import asking, note_result
from jarvis_core.http.body import read_json
from jarvis_core.http.converter import Between, Length, structurer
from jarvis_core.http.exchange import Exchange
from jarvis_core.http.front import Front
from jarvis_core.http.openai.parameter_table import ParameterTable, core, ignored_header
from jarvis_core.http.openai.texts import MOST, check_number
from jarvis_core.http.openai.wire import ModelName
from jarvis_core.http.responses import Response, json
from jarvis_core.structs import Ranking


@frozen(kw_only=True)
class DocumentBody:
    """A document with its text under a key."""

    text: str


@frozen(kw_only=True)
class RerankBody:
    """The body of POST /v1/rerank."""

    model: ModelName
    query: Annotated[str, Length(1, MOST * 32)]
    documents: Annotated[tuple[str | DocumentBody, ...], Length(1, MOST)]
    top_n: Annotated[int, Between(1, 2**31 - 1)] | None = None
    return_documents: bool | None = None


RERANK_PARAMETERS = ParameterTable(
    core("model"),
    core("query"),
    core("documents", "texts, or objects with a text"),
    core("top_n", "how many of the documents are sent; unset sends all"),
    core("return_documents", "whether their texts are sent too, which is so unless it is false"),
)

_structure_body = structurer(RerankBody)


async def create(front: Front, exchange: Exchange) -> Response:
    """Order documents by how well they answer a query."""
    raw = await read_json(exchange.request, front.settings)
    check_number(raw.get("documents"), front.settings.max_inputs, "documents")
    body = _structure_body(raw)
    documents = tuple(d if isinstance(d, str) else d.text for d in body.documents)
    async with asking(front, exchange, body.model) as (lease, _):
        request = RerankRequest(query=body.query, documents=documents)
        found = await lease.call(request, Ranking, request_id=exchange.id)
        name = lease.info.name
    note_result(exchange, found.prompt_tokens)
    order = sorted(range(len(documents)), key=lambda i: -found.scores[i])
    results: list[dict[str, Any]] = []
    for index in order[: body.top_n]:
        result: dict[str, Any] = {"index": index, "relevance_score": found.scores[index]}
        if body.return_documents is not False:
            result["document"] = {"text": documents[index]}
        results.append(result)
    return json(
        {
            "id": f"rerank-{uuid.uuid4().hex}",
            "object": "list",
            "model": name,
            "results": results,
            "usage": {"prompt_tokens": found.prompt_tokens, "total_tokens": found.prompt_tokens},
        },
        headers=ignored_header(RERANK_PARAMETERS.ignored(raw)),
    )

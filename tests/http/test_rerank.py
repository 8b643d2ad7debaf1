"""POST /v1/rerank: order, shapes of documents and answers, refusals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

Serve = Callable[..., Awaitable[Any]]
PATH = "/v1/rerank"
DOCUMENTS = ["tax law", "a cat sat", {"text": "a dog"}]


@pytest.fixture
async def served(serve: Serve, kit: SimpleNamespace) -> Any:
    """A server with the fake engine behind it."""
    return await serve(kit.make_engine_model())


async def rerank(served: Any, **fields: Any) -> Any:
    answer = await served.post(PATH, **{"query": "a cat", "documents": DOCUMENTS, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_documents_come_best_first_with_their_place_and_text(served: Any) -> None:
    body = await rerank(served)

    assert body["id"].startswith("rerank-")
    assert body["model"] == "tiny"
    assert body["results"] == [
        {"index": 1, "relevance_score": 1.0, "document": {"text": "a cat sat"}},
        {"index": 2, "relevance_score": 0.5, "document": {"text": "a dog"}},
        {"index": 0, "relevance_score": 0.0, "document": {"text": "tax law"}},
    ]
    assert body["usage"] == {"prompt_tokens": 13, "total_tokens": 13}


async def test_only_the_best_without_their_texts(served: Any) -> None:
    body = await rerank(served, top_n=1, return_documents=False)

    assert body["results"] == [{"index": 1, "relevance_score": 1.0}]


async def test_equals_keep_their_order(served: Any) -> None:
    body = await rerank(served, documents=["a", "b", "a", "b"], query="b", top_n=9)

    assert [result["index"] for result in body["results"]] == [1, 3, 0, 2]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": ""}, "query"),
        ({"query": None}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": "a"}, "documents"),
        ({"documents": [1]}, "documents[0]"),
        ({"documents": [{"title": "a"}]}, "documents[0].text"),
        ({"documents": ["a"] * 2049}, "documents"),
        ({"top_n": 0}, "top_n"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(served: Any, fields: Any, param: str) -> None:
    answer = await served.post(PATH, **{"query": "a", "documents": ["a"], **fields})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_a_model_that_cannot_rerank_is_refused(serve: Serve, kit: SimpleNamespace) -> None:
    served = await serve(kit.make_engine_model(tasks=("generate", "embed")))
    error = (await served.post(PATH, query="a", documents=["a"])).json()["error"]

    assert "does not rerank; it does: embed, generate" in error["message"]

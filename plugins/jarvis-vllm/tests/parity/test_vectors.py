"""The same model as an embedder on both engines, and as a reranker on vLLM, over HTTP."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from served import Server

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

EMBEDDERS = ("llama-vectors", "vllm-vectors")
WIDTH = 576
TEXTS = ["The cat sat on the mat.", "Taxes are due in April.", "Katzen schlafen viel. 🐈"]


async def post(server: Server, path: str, model: str, **fields: Any) -> Any:
    return await server.client.post(path, json={"model": model, **fields}, timeout=300)


async def embed(server: Server, model: str, **fields: Any) -> Any:
    answer = await post(server, "/v1/embeddings", model, **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def ids(server: Server, model: str, text: str) -> list[int]:
    answer = await post(server, "/tokenize", model, prompt=text)
    return [int(token_id) for token_id in answer.json()["tokens"]]


def vectors(answer: Any) -> list[list[float]]:
    assert [item["index"] for item in answer["data"]] == list(range(len(answer["data"])))
    return [item["embedding"] for item in answer["data"]]


def likeness(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_both_engines_find_the_same_vectors(server: Server) -> None:
    answers = [await embed(server, model, input=TEXTS) for model in EMBEDDERS]
    llama, vllm = map(vectors, answers)

    assert answers[0]["usage"] == answers[1]["usage"]
    assert {len(vector) for vector in (*llama, *vllm)} == {WIDTH}
    for one, other in zip(llama, vllm, strict=True):
        assert likeness(other, other) == pytest.approx(1, abs=1e-3)
        assert likeness(one, other) > 0.97  # they compute with numbers of other widths
    assert likeness(vllm[0], vllm[1]) < 0.95


@pytest.mark.parametrize("model", EMBEDDERS)
async def test_usage_is_what_the_tokenizer_counts(server: Server, model: str) -> None:
    counts = [len(await ids(server, model, text)) for text in TEXTS]
    usage = (await embed(server, model, input=TEXTS))["usage"]

    assert usage == {"prompt_tokens": sum(counts), "total_tokens": sum(counts)}


@pytest.mark.parametrize("model", EMBEDDERS)
async def test_a_text_has_one_vector_however_it_travels(server: Server, model: str) -> None:
    tokens = [await ids(server, model, text) for text in TEXTS]
    batch = vectors(await embed(server, model, input=TEXTS, encoding_format="float"))
    others = [
        vectors(await embed(server, model, input=TEXTS[0])),
        vectors(await embed(server, model, input=tokens[0])),
        vectors(await embed(server, model, input=tokens)),
    ]
    packed = await embed(server, model, input=TEXTS, encoding_format="base64")
    unpacked = [
        struct.unpack(f"<{WIDTH}f", base64.b64decode(item["embedding"])) for item in packed["data"]
    ]

    for found in (*others, unpacked):
        for vector, expected in zip(found, batch, strict=False):
            assert likeness(vector, expected) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": TEXTS[0], "dimensions": 64}, "dimensions"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [1, 60_000]}, "input[1]"),
        ({"input": ["word " * 300]}, "input"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ],
)
async def test_both_engines_refuse_alike(
    server: Server, fields: dict[str, Any], param: str
) -> None:
    errors = []
    for model in EMBEDDERS:
        answer = await post(server, "/v1/embeddings", model, **fields)
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        errors.append((error["param"], error["code"], error["type"]))

    assert errors[0] == errors[1]
    assert errors[0][0] == param


@pytest.mark.parametrize("model", EMBEDDERS)
async def test_an_embedder_answers_no_chats(server: Server, model: str) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    answer = await post(server, "/v1/chat/completions", model, **body)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "model"


async def test_documents_are_ranked_by_their_vectors(server: Server) -> None:
    """llama.cpp ranks with models made for it only."""
    query, model = "A sleeping cat", "vllm-vectors"
    answer = await post(server, "/v1/rerank", model, query=query, documents=TEXTS)
    assert answer.status_code == 200, answer.text
    ranked = answer.json()
    asked, *others = vectors(await embed(server, model, input=[query, *TEXTS]))
    scores = {result["index"]: result["relevance_score"] for result in ranked["results"]}
    counts = [len(await ids(server, model, text)) for text in (query, *TEXTS)]

    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    for index, other in enumerate(others):
        assert scores[index] == pytest.approx(likeness(asked, other), abs=1e-3)
    assert ranked["usage"]["prompt_tokens"] == sum(counts)
    best = await post(
        server, "/v1/rerank", model, query=query, documents=[{"text": t} for t in TEXTS], top_n=1
    )
    assert [r["document"]["text"] for r in best.json()["results"]] == [
        TEXTS[ranked["results"][0]["index"]]
    ]

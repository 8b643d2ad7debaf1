"""POST /v1/embeddings: forms of input, float and base64, dimensions, usage, refusals."""

from __future__ import annotations

import array
import base64
import math
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

Serve = Callable[..., Awaitable[Any]]
PATH = "/v1/embeddings"


@pytest.fixture
async def served(serve: Serve, kit: SimpleNamespace) -> Any:
    """A server with the fake engine behind it."""
    return await serve(kit.make_engine_model())


async def embed(served: Any, texts: Any, **fields: Any) -> Any:
    answer = await served.post(PATH, input=texts, **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def vectors(body: Any) -> list[Any]:
    return [item["embedding"] for item in body["data"]]


async def test_a_text_becomes_a_vector_of_length_one(served: Any) -> None:
    body = await embed(served, "a cat sat")

    assert body["object"] == "list"
    assert body["model"] == "tiny"
    assert body["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert [(item["object"], item["index"]) for item in body["data"]] == [("embedding", 0)]
    assert math.hypot(*vectors(body)[0]) == pytest.approx(1)


async def test_lists_and_token_ids_are_taken_too(served: Any) -> None:
    body = await embed(served, ["a cat", "law", "a cat"])
    one, other, same = vectors(body)

    assert (one == same, one == other) == (True, False)
    assert body["usage"]["prompt_tokens"] == 5
    assert vectors(await embed(served, [0, 1])) == [one]
    assert vectors(await embed(served, [[2], [0, 1]])) == [other, one]


async def test_base64_holds_the_same_numbers(served: Any) -> None:
    floats = vectors(await embed(served, ["a cat", "law"]))
    found = []
    for text in vectors(await embed(served, ["a cat", "law"], encoding_format="base64")):
        numbers = array.array("f")
        numbers.frombytes(base64.b64decode(text, validate=True))
        found.append(numbers.tolist())

    assert found == floats


async def test_dimensions_cut_and_normalize(served: Any) -> None:
    (vector,) = vectors(await embed(served, "a cat", dimensions=4))

    assert len(vector) == 4
    assert math.hypot(*vector) == pytest.approx(1)


async def test_many_texts_keep_their_order(served: Any) -> None:
    texts = [f"text {i % 7}" for i in range(1000)]
    body = await embed(served, texts)

    assert [item["index"] for item in body["data"]] == list(range(1000))
    assert vectors(body)[:7] == vectors(body)[700:707]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": []}, "input"),
        ({"input": [[]]}, "input[0]"),
        ({"input": [1.5]}, "input[0]"),
        ({"input": [2**20]}, "input[0]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 9}, "dimensions"),
        ({"input": "a " * 5000}, "input"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(served: Any, fields: Any, param: str) -> None:
    answer = await served.post(PATH, **fields)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_a_model_that_only_generates_is_refused(serve: Serve, kit: SimpleNamespace) -> None:
    served = await serve(kit.make_engine_model(tasks=("generate",)))
    error = (await served.post(PATH, input="a")).json()["error"]

    assert (error["param"], error["code"]) == ("model", "unsupported_parameter")
    assert "'tiny' on engine 'fake' does not embed" in error["message"]


async def test_dimensions_need_an_engine_that_allows_them(
    serve: Serve, kit: SimpleNamespace
) -> None:
    served = await serve(kit.make_model(capabilities=kit.NOTHING))
    error = (await served.post(PATH, input="a", dimensions=2)).json()["error"]

    assert (error["param"], error["code"]) == ("dimensions", "unsupported_parameter")


async def test_the_tokens_are_counted_and_unknown_parameters_listed(served: Any) -> None:
    answer = await served.post(PATH, input="a cat", user="me", made_up=1)
    metrics = (await served.client.get("/metrics")).text

    assert answer.headers["x-jarvis-ignored-params"] == "made_up"
    assert 'jarvis_prompt_tokens_total{engine="fake",model="tiny"} 2.0' in metrics

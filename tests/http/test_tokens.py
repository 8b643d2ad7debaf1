"""POST /tokenize, /detokenize and the render dry run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

Serve = Callable[..., Awaitable[Any]]
RENDER = "/v1/chat/completions/render"
HELLO = [{"role": "user", "content": "hello there"}]
PROMPT = "<|turn|>user\nhello there<|end|>\n<|turn|>assistant\n"


@pytest.fixture
async def served(serve: Serve, kit: SimpleNamespace) -> Any:
    """A server with the fake engine behind it."""
    return await serve(kit.make_engine_model())


async def test_a_text_becomes_token_ids_and_a_text_again(served: Any) -> None:
    found = (await served.post("/tokenize", prompt="one two one")).json()
    back = (await served.post("/detokenize", tokens=found["tokens"])).json()

    assert found == {
        "count": 3,
        "max_model_len": 4096,
        "tokens": [0, 1, 2],
        "token_strs": None,
    }
    assert back == {"prompt": "one two one"}


async def test_the_text_of_each_token_is_sent_if_wanted(served: Any) -> None:
    found = await served.post("/tokenize", prompt="one two", return_token_strs=True)

    assert found.json()["token_strs"] == ["one", " two"]


async def test_a_chat_is_tokenized_as_it_is_answered(served: Any) -> None:
    found = await served.post(
        "/tokenize", messages=HELLO, return_token_strs=True, made_up=1, temperature=0
    )
    answer = (await served.chat("hello there")).json()

    assert "".join(found.json()["token_strs"]) == PROMPT
    assert found.json()["count"] == answer["usage"]["prompt_tokens"]
    assert found.headers["x-jarvis-ignored-params"] == "made_up"


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": HELLO}, "prompt"),
        ("/tokenize", {"prompt": 1}, "prompt"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"messages": [{"role": "user"}]}, "messages[0].content"),
        ("/tokenize", {"messages": HELLO, "add_special_tokens": True}, "add_special_tokens"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("/detokenize", {"tokens": [0, 2**20]}, "tokens[1]"),
        ("/detokenize", {"tokens": [2**40]}, "tokens[0]"),
        (RENDER, {}, "messages"),
        (RENDER, {"messages": HELLO, "n": 0}, "n"),
        (RENDER, {"messages": HELLO, "mirostat": 1}, "mirostat"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(
    served: Any, path: str, fields: Any, param: str
) -> None:
    answer = await served.post(path, **fields)

    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


async def test_no_tokens_are_no_text(served: Any) -> None:
    assert (await served.post("/detokenize", tokens=[])).json() == {"prompt": ""}


async def test_a_dry_run_tells_what_a_request_would_do(served: Any) -> None:
    answer = await served.post(
        RENDER, messages=HELLO, temperature=0.5, stop="x", user="me", made_up=1
    )
    body = answer.json()

    assert body["prompt"] == PROMPT
    assert body["prompt_tokens"] == len(body["token_ids"]) == 5
    assert (body["model"], body["engine"], body["chat_format"]) == ("tiny", "fake", "fake")
    assert (body["context_length"], body["fits"]) == (4096, True)
    assert body["stop"] == ["x", "<|end|>"]
    assert body["constraint"] is None
    assert body["parameters"] == {
        "honoured": ["model", "messages", "temperature", "stop"],
        "without_effect": ["user"],
        "ignored": ["made_up"],
    }
    assert answer.headers["x-jarvis-ignored-params"] == "made_up"
    assert served.model.loaded.engine.stats().generation_tokens == 0


async def test_a_dry_run_says_that_a_prompt_does_not_fit(served: Any) -> None:
    body = (await served.post(RENDER, messages=[{"role": "user", "content": "a " * 5000}])).json()

    assert body["prompt_tokens"] > 5000
    assert body["fits"] is False

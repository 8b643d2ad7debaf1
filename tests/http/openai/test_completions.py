"""POST /v1/completions: every form of prompt, echo, logprobs, n, best_of, streams, refusals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

Serve = Callable[..., Awaitable[Any]]
PATH = "/v1/completions"


@pytest.fixture
async def served(serve: Serve, kit: SimpleNamespace) -> Any:
    """A server with the fake engine behind it."""
    return await serve(kit.make_engine_model())


async def complete(served: Any, prompt: Any, **fields: Any) -> Any:
    answer = await served.post(PATH, prompt=prompt, **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def texts(body: Any) -> list[str]:
    return [choice["text"] for choice in body["choices"]]


async def test_a_text_is_continued(served: Any) -> None:
    body = await complete(served, "one two three")

    assert body["id"].startswith("cmpl-")
    assert body["object"] == "text_completion"
    assert body["model"] == "tiny"
    assert body["system_fingerprint"] == "fake/fake 1"
    assert body["choices"] == [
        {"index": 0, "text": "one two three", "logprobs": None, "finish_reason": "stop"}
    ]
    assert body["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 3,
        "total_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (["one two"], ["one two"]),
        (["one two", "three"], ["one two", "three"]),
        ([0, 1], ["one two"]),
        ([[0, 1], [1]], ["one two", " two"]),
        ("", [""]),
    ],
)
async def test_a_prompt_may_have_every_form(served: Any, prompt: Any, expected: Any) -> None:
    await complete(served, "one two")  # words get their ids

    body = await complete(served, prompt)
    assert texts(body) == expected
    assert [choice["index"] for choice in body["choices"]] == list(range(len(expected)))


async def test_n_answers_of_each_prompt_follow_each_other(served: Any) -> None:
    body = await complete(served, ["a !vary", "b !vary"], n=2)

    assert texts(body) == ["answer 0", "answer 1"] * 2
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert body["usage"]["prompt_tokens"] == 4
    assert body["usage"]["completion_tokens"] == 4


async def test_best_of_sends_the_likeliest(served: Any) -> None:
    body = await complete(served, "!vary", best_of=3)

    assert texts(body) == ["answer 2"]
    assert body["choices"][0]["logprobs"] is None
    assert body["usage"]["completion_tokens"] == 3


async def test_as_many_tokens_come_as_openai_sends_by_default(served: Any) -> None:
    body = await complete(served, "!words=99")

    assert body["usage"]["completion_tokens"] == 16
    assert body["choices"][0]["finish_reason"] == "length"


async def test_logprobs_have_their_old_shape(served: Any) -> None:
    body = await complete(served, "one two", logprobs=2)

    assert body["choices"][0]["logprobs"] == {
        "tokens": ["one", " two"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"one": -0.5, "one~1": -1.5}, {" two": -0.5, " two~1": -1.5}],
        "text_offset": [0, 3],
    }


async def test_logprobs_of_nothing_but_the_chosen_tokens(served: Any) -> None:
    body = await complete(served, "one", logprobs=0)

    assert body["choices"][0]["logprobs"]["top_logprobs"] == [{"one": -0.5}]


async def test_a_prompt_is_scored_by_echo_with_logprobs_and_no_tokens(served: Any) -> None:
    body = await complete(served, "one two", echo=True, logprobs=1, max_tokens=0)
    (choice,) = body["choices"]

    assert choice["text"] == "one two"
    assert choice["finish_reason"] == "length"
    assert choice["logprobs"] == {
        "tokens": ["one", " two"],
        "token_logprobs": [None, -0.5],
        "top_logprobs": [None, {" two": -0.5}],
        "text_offset": [0, 3],
    }
    assert body["usage"]["completion_tokens"] == 0


async def test_a_stream_says_what_a_whole_answer_says(served: Any, kit: SimpleNamespace) -> None:
    asked: dict[str, Any] = {"n": 2, "echo": True, "logprobs": 1, "max_tokens": 3}
    whole = await complete(served, ["a b c d", "e"], **asked)
    answer = await served.post(
        PATH, prompt=["a b c d", "e"], stream=True, stream_options={"include_usage": True}, **asked
    )
    events = kit.read_events(answer.text)
    *chunks, last = events.chunks

    assert events.done
    assert len({chunk["id"] for chunk in events.chunks}) == 1
    assert {chunk["object"] for chunk in events.chunks} == {"text_completion"}
    assert {str(chunk["usage"]) for chunk in chunks} == {"None"}
    assert (last["choices"], last["usage"]) == ([], whole["usage"])
    for choice in whole["choices"]:
        own = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        assert "".join(c["text"] for c in own) == choice["text"]
        assert [c["finish_reason"] for c in own][-1] == choice["finish_reason"]
        assert {c["finish_reason"] for c in own[:-1]} <= {None}
        for name, values in choice["logprobs"].items():
            assert [v for c in own for v in c["logprobs"][name]] == values


async def test_what_fails_before_the_first_token_is_an_http_error(served: Any) -> None:
    answer = await served.post(PATH, prompt="x " * 5000, stream=True)

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")
    assert "5,001" in error["message"]
    assert "4,096" in error["message"]


async def test_what_fails_later_is_an_error_event(served: Any, kit: SimpleNamespace) -> None:
    answer = await served.post(PATH, prompt="!words=9 !error=3", stream=True)
    events = kit.read_events(answer.text)

    assert [chunk["choices"][0]["text"] for chunk in events.chunks] == [
        " word0",
        " word1",
        " word2",
    ]
    assert events.errors[0]["code"] == "engine_error"
    assert not events.done


async def test_a_client_that_leaves_ends_every_prompt(served: Any) -> None:
    """R-10, for several prompts."""
    engine = served.model.loaded.engine
    prompts = ["!words=9999 !delay=0.01"] * 3
    body = {"model": "tiny", "prompt": prompts, "max_tokens": 2000, "stream": True}
    async with served.client.stream("POST", PATH, json=body) as response:
        async for _ in response.aiter_text():
            break
    await served.idle()

    assert (engine.stats().running, engine.aborted) == (0, 3)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt[0]"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": [1, "a"]}, "prompt[1]"),
        ({"prompt": [True]}, "prompt[0]"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": [2**20]}, "prompt[0]"),
        ({"prompt": [[1], [1, 2**20]]}, "prompt[1][1]"),
        ({"prompt": ["a"] * 65}, "prompt"),
        ({"prompt": "a", "n": 17}, "n"),
        ({"prompt": "a", "best_of": 17}, "best_of"),
        ({"prompt": "a", "n": 3, "best_of": 2}, "best_of"),
        ({"prompt": "a", "best_of": 2, "stream": True}, "best_of"),
        ({"prompt": "a", "logprobs": 21}, "logprobs"),
        ({"prompt": "a", "logprobs": True}, "logprobs"),
        ({"prompt": "a", "max_tokens": -1}, "max_tokens"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "prompt_logprobs": 1}, "prompt_logprobs"),
        ({"prompt": "a", "logit_bias": {"1": 1}}, "logit_bias"),
        ({"prompt": "a", "stop": [""]}, "stop[0]"),
        ({"prompt": "a", "response_format": {"type": "json_object"}}, "response_format"),
        ({"prompt": "a", "stream_options": {}}, "stream_options"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(served: Any, fields: Any, param: str) -> None:
    answer = await served.post(PATH, **fields)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("fields", [{"suffix": ""}, {"suffix": None}, {"best_of": 0}, {"n": 1}])
async def test_values_that_change_nothing_are_taken(served: Any, fields: Any) -> None:
    assert texts(await complete(served, "a", **fields)) == ["a"]


async def test_engines_without_logprobs_are_named(serve: Serve, kit: SimpleNamespace) -> None:
    served = await serve(kit.make_model(capabilities=kit.NOTHING))
    for fields, param in (
        ({"max_tokens": 1}, "max_tokens"),
        ({"best_of": 2}, "best_of"),
        ({"logprobs": 0}, "logprobs"),
    ):
        error = (await served.post(PATH, prompt="a", **fields)).json()["error"]
        assert (error["param"], error["code"]) == (param, "unsupported_parameter")
        assert "'tiny' on engine 'fake' cannot honour" in error["message"]


async def test_unknown_parameters_are_listed(served: Any) -> None:
    answer = await served.post(PATH, prompt="a", made_up=1, user="me")

    assert answer.headers["x-jarvis-ignored-params"] == "made_up"


async def test_a_model_that_only_embeds_is_refused(serve: Serve, kit: SimpleNamespace) -> None:
    served = await serve(kit.make_engine_model(tasks=("embed",)))
    error = (await served.post(PATH, prompt="a")).json()["error"]

    assert (error["param"], error["code"]) == ("model", "unsupported_parameter")
    assert "does not generate; it does: embed" in error["message"]

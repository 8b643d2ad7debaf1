"""What is sent validates against OpenAI's published schema, and what it names is known.

Two things that OpenAI's own API sends are not in its schema: a completion's stream has chunks whose
``finish_reason`` is null, and the first token of an echoed prompt has null for a logprob.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from schemas import faults

from jarvis_core.http.openai.completion_request import COMPLETION_PARAMETERS
from jarvis_core.http.openai.embeddings import EMBEDDING_PARAMETERS
from jarvis_core.http.openai.parameter_table import ParameterTable
from jarvis_core.http.openai.parameters import PARAMETERS
from jarvis_core.http.openai.responses.parameters import RESPONSE_PARAMETERS
from jarvis_core.structs import Delta, ToolCallDelta, Usage

pytestmark = pytest.mark.anyio

Serve = Callable[..., Awaitable[Any]]
NAMES = json.loads(
    (Path(__file__).parents[2] / "data/openai_parameters.json").read_text(encoding="utf-8")
)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = '<call>{"name": "f", "arguments": {"x": 1}}</call>'


@pytest.fixture
async def served(serve: Serve, kit: SimpleNamespace) -> Any:
    """A server with the fake engine behind it."""
    return await serve(kit.make_engine_model())


def all_faults(schema: str, values: Iterable[Any]) -> list[str]:
    return [fault for value in values for fault in faults("openai", schema, value)]


CHATS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("hello there", {}),
    ("hello there", {"n": 3, "logprobs": True, "top_logprobs": 2}),
    ("!words=9", {"max_tokens": 4, "stop": ["word2"]}),
    (f"well {CALL}{CALL}", {"tools": [TOOL]}),
    ("!vary", {"logprobs": True}),
)


@pytest.mark.parametrize(("text", "fields"), CHATS)
async def test_whole_chats_are_valid(served: Any, text: str, fields: dict[str, Any]) -> None:
    body = (await served.chat(text, **fields)).json()

    assert faults("openai", "CreateChatCompletionResponse", body) == []
    assert {"id", "created", "model", "system_fingerprint", "usage"} <= body.keys()
    for choice in body["choices"]:
        assert choice.keys() == {"index", "message", "logprobs", "finish_reason"}
        assert {"role", "content", "refusal", "annotations"} <= choice["message"].keys()


@pytest.mark.parametrize(("text", "fields"), CHATS)
@pytest.mark.parametrize("include_usage", [True, False])
async def test_streamed_chats_are_valid(
    served: Any, kit: SimpleNamespace, text: str, fields: dict[str, Any], include_usage: bool
) -> None:
    options = {"include_usage": include_usage}
    answer = await served.chat(text, stream=True, stream_options=options, **fields)
    chunks = kit.read_events(answer.text).chunks

    assert all_faults("CreateChatCompletionStreamResponse", chunks) == []
    assert len({(c["id"], c["created"], c["model"], c["system_fingerprint"]) for c in chunks}) == 1
    assert {"usage" in chunk for chunk in chunks} == {include_usage}
    for chunk in chunks:
        for choice in chunk["choices"]:
            assert choice.keys() == {"index", "delta", "logprobs", "finish_reason"}


async def test_reasoning_and_calls_in_pieces_are_valid(serve: Serve, kit: SimpleNamespace) -> None:
    async def script(request: Any) -> Any:
        yield [Delta(reasoning="hm"), Delta(content="So")]
        yield [Delta(tool_calls=(ToolCallDelta(index=0, id="call_1", name="f", arguments=""),))]
        yield [Delta(tool_calls=(ToolCallDelta(index=0, arguments="{}"),))]
        usage = Usage(prompt_tokens=1, completion_tokens=2)
        yield [Delta(finish_reason="tool_calls", usage=usage)]

    model = kit.make_model()
    model.script = script
    served = await serve(model)
    chunks = kit.read_events((await served.chat("a", stream=True)).text).chunks

    assert faults("openai", "CreateChatCompletionResponse", (await served.chat("a")).json()) == []
    assert all_faults("CreateChatCompletionStreamResponse", chunks) == []


@pytest.mark.parametrize(
    "fields",
    [{}, {"n": 2, "logprobs": 2}, {"prompt": ["a", "b c"]}, {"best_of": 2, "echo": True}],
)
async def test_whole_completions_are_valid(served: Any, fields: dict[str, Any]) -> None:
    body = (await served.post("/v1/completions", **{"prompt": "a b", **fields})).json()

    assert faults("openai", "CreateCompletionResponse", body) == []


async def test_streamed_completions_are_valid_but_for_what_openai_sends_too(
    served: Any, kit: SimpleNamespace
) -> None:
    answer = await served.post("/v1/completions", prompt="a b", logprobs=1, stream=True)
    chunks = kit.read_events(answer.text).chunks
    for chunk in chunks:
        for choice in chunk["choices"]:
            choice["finish_reason"] = choice["finish_reason"] or "stop"

    assert all_faults("CreateCompletionResponse", chunks) == []


@pytest.mark.parametrize("texts", ["a cat", ["a cat", "law"]])
async def test_embeddings_are_valid(served: Any, texts: Any) -> None:
    body = (await served.post("/v1/embeddings", input=texts)).json()

    assert faults("openai", "CreateEmbeddingResponse", body) == []


async def test_models_are_valid(served: Any) -> None:
    listed = (await served.client.get("/v1/models")).json()
    one = (await served.client.get("/v1/models/tiny")).json()

    assert faults("openai", "ListModelsResponse", listed) == []
    assert faults("openai", "Model", one) == []


async def test_errors_are_valid(served: Any, kit: SimpleNamespace) -> None:
    errors = [
        (await served.chat("!refuse")).json(),
        (await served.chat(1)).json(),
        (await served.client.get("/nothing")).json(),
        (await served.client.delete("/v1/models")).json(),
        (await served.client.post("/v1/chat/completions", content=b"{")).json(),
    ]
    streamed = kit.read_events((await served.chat("!error=1 a", stream=True)).text).errors

    assert all_faults("ErrorResponse", errors) == []
    assert all_faults("Error", streamed) == []


@pytest.mark.parametrize(
    ("schema", "table"),
    [
        ("CreateChatCompletionRequest", PARAMETERS),
        ("CreateCompletionRequest", COMPLETION_PARAMETERS),
        ("CreateEmbeddingRequest", EMBEDDING_PARAMETERS),
        ("CreateResponse", RESPONSE_PARAMETERS),
    ],
)
def test_every_published_parameter_is_known(schema: str, table: ParameterTable) -> None:
    assert set(NAMES[schema]) - set(table) == set()

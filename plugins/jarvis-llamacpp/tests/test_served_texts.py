"""Completions, tokens and usage of the small real model behind the whole server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import AsyncOpenAI
from served import Server, serving

pytestmark = pytest.mark.anyio

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
TEXT = "The capital of France is Paris. The capital of Italy is"


@pytest.fixture(scope="module")
async def server(
    anyio_backend: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    """A server with nothing configured."""
    async with serving(tmp_path_factory.mktemp("served")) as serve:
        yield await serve("", JARVIS_LLAMACPP_N_THREADS="1")


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


async def post(server: Server, path: str, **body: Any) -> Any:
    answer = await server.client.post(path, json={"model": "smollm2", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def complete(client: AsyncOpenAI, **fields: Any) -> Any:
    return await client.completions.create(
        **({"model": "smollm2", "prompt": TEXT, "temperature": 0, "max_tokens": 4} | fields)
    )


async def test_a_text_is_continued_whole_and_streamed(client: AsyncOpenAI) -> None:
    await complete(client)  # both now reuse the same prefix, so both compute the same
    whole = await complete(client)
    chunks = [chunk async for chunk in await complete(client, stream=True)]

    assert "Rome" in whole.choices[0].text
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text


async def test_the_usage_is_what_the_tokenizer_counts(server: Server, client: AsyncOpenAI) -> None:
    text = await post(server, "/tokenize", prompt=TEXT)
    chat = await post(server, "/tokenize", messages=QUESTION)
    dry = await post(server, "/v1/chat/completions/render", messages=QUESTION)
    completed = await complete(client, logprobs=0, max_tokens=7)
    answered = await client.chat.completions.create(
        model="smollm2", messages=QUESTION, max_tokens=7, logprobs=True, temperature=0
    )

    assert completed.usage.prompt_tokens == text["count"]
    assert completed.usage.completion_tokens == len(completed.choices[0].logprobs.tokens) == 7
    assert answered.usage.prompt_tokens == chat["count"] == dry["prompt_tokens"]
    assert dry["token_ids"] == chat["tokens"]
    assert answered.usage.completion_tokens == len(answered.choices[0].logprobs.content) == 7


async def test_token_ids_and_texts_are_the_same_prompt(server: Server, client: AsyncOpenAI) -> None:
    ids = (await post(server, "/tokenize", prompt=TEXT))["tokens"]
    back = await post(server, "/detokenize", tokens=ids)
    several = await complete(client, prompt=[ids, ids])

    assert back["prompt"] == TEXT
    assert several.usage.prompt_tokens == 2 * len(ids)
    assert [choice.index for choice in several.choices] == [0, 1]
    assert all("Rome" in choice.text for choice in several.choices)


async def test_echo_with_logprobs_scores_a_text(client: AsyncOpenAI) -> None:
    likely = await complete(client, prompt=f"{TEXT} Rome", echo=True, logprobs=1, max_tokens=0)
    unlikely = await complete(client, prompt=f"{TEXT} seven", echo=True, logprobs=1, max_tokens=0)
    logprobs = likely.choices[0].logprobs

    assert likely.choices[0].text == f"{TEXT} Rome"
    assert "".join(logprobs.tokens) == f"{TEXT} Rome"
    assert logprobs.token_logprobs[0] is None
    offsets = [len("".join(logprobs.tokens[:i])) for i in range(len(logprobs.tokens))]
    assert logprobs.text_offset == offsets
    assert logprobs.token_logprobs[-1] > unlikely.choices[0].logprobs.token_logprobs[-1] + 2
    assert likely.usage.completion_tokens == 0


async def test_the_best_of_several_is_likelier_than_most(client: AsyncOpenAI) -> None:
    wild: dict[str, Any] = {"temperature": 1.5, "max_tokens": 8, "logprobs": 0, "seed": 1}
    best = await complete(client, best_of=6, n=2, **wild)
    all_of_them = await complete(client, n=6, **wild)

    def likelihood(choice: Any) -> float:
        values = choice.logprobs.token_logprobs
        return float(sum(values) / len(values))

    found = [likelihood(choice) for choice in best.choices]
    assert found == sorted(found, reverse=True)
    assert len({choice.text for choice in all_of_them.choices}) > 1
    assert best.usage.completion_tokens > sum(
        len(choice.logprobs.tokens) for choice in best.choices
    )


async def test_a_stop_string_ends_a_completion(client: AsyncOpenAI) -> None:
    completion = await complete(client, prompt="1, 2, 3, 4,", stop=[" 7"], max_tokens=20)

    assert completion.choices[0].finish_reason == "stop"
    assert completion.choices[0].text == " 5, 6,"


async def test_a_text_that_cannot_fit_is_refused_by_the_name_of_its_parameter(
    server: Server,
) -> None:
    for path in ("/tokenize", "/v1/completions"):
        body = {"model": "smollm2", "prompt": "x" * 3_000_000}
        answer = await server.client.post(path, json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, "prompt")
        assert error["code"] == "context_length_exceeded"

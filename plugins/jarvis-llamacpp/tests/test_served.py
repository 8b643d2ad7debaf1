"""The small real model behind the whole server, asked by OpenAI's own client."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from served import Serve, Server, gone, serving, until
from tiny_gguf import write_with_metadata

from jarvis_llamacpp.builtin import find_smollm2

pytestmark = pytest.mark.anyio

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
async def server(
    anyio_backend: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    """A server with nothing configured but a key."""
    async with serving(tmp_path_factory.mktemp("served")) as serve:
        yield await serve("", JARVIS_API_KEY="secret", JARVIS_LLAMACPP_N_THREADS="1")


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="secret", max_retries=0, timeout=60
    ) as client:
        yield client


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    async with serving(tmp_path) as serve:
        yield serve


async def chat(client: AsyncOpenAI, **fields: Any) -> Any:
    return await client.chat.completions.create(
        **({"model": "smollm2", "messages": QUESTION, "temperature": 0, "max_tokens": 12} | fields)
    )


async def test_whole_chat(client: AsyncOpenAI) -> None:
    completion = await chat(client)
    (choice,) = completion.choices
    assert choice.message.content
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "length"
    assert completion.usage.completion_tokens == 12
    assert completion.model == "smollm2"


async def test_streamed_chat_says_what_the_whole_one_says(client: AsyncOpenAI) -> None:
    await chat(client)  # both now reuse the same prefix, so both compute the same
    whole = await chat(client)
    stream = await chat(client, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].usage.completion_tokens == 12
    assert len({chunk.id for chunk in chunks}) == 1


async def test_sixteen_at_once_each_get_their_own_answer(client: AsyncOpenAI) -> None:
    async def insist(token_id: int) -> str:
        """The answer of a request that can only say one token."""
        completion = await chat(client, max_tokens=8, logit_bias={str(token_id): 100})
        return str(completion.choices[0].message.content)

    tokens = range(5000, 6600, 100)
    alone = [await insist(token_id) for token_id in tokens]
    assert len(set(alone)) == 16
    assert await asyncio.gather(*map(insist, tokens)) == alone


async def test_models_list(client: AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["smollm2"]
    assert (await client.models.retrieve("smollm2")).object == "model"


async def test_errors_are_the_classes_that_the_sdk_has_for_them(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as raised:
        await chat(client.with_options(api_key="wrong"))
    assert raised.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as missing:
        await chat(client, model="gpt-5")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        await chat(client, temperature="hot")
    assert bad.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as refused:
        await chat(client, messages=[{"role": "critic", "content": "hm"}])
    assert refused.value.param == "messages[0].role"


async def test_prompt_that_does_not_fit_is_refused_with_both_numbers(client: AsyncOpenAI) -> None:
    long = [{"role": "user", "content": "word " * 9000}]
    with pytest.raises(openai.BadRequestError) as raised:
        await chat(client, messages=long, stream=True)
    assert raised.value.code == "context_length_exceeded"
    assert "8,192" in raised.value.message
    assert "9,0" in raised.value.message


async def test_killed_host_is_replaced_and_its_streams_break_off(serve: Serve) -> None:
    """R-01 with a real engine."""
    server = await serve("", JARVIS_LLAMACPP_N_THREADS="1")
    (host,) = server.children()
    begun = asyncio.Event()
    fields = {"model": "smollm2", "max_tokens": 4000, "ignore_eos": True}
    stream = asyncio.create_task(server.stream("Tell me a story.", begun=begun.set, **fields))
    await asyncio.wait_for(begun.wait(), 30)
    os.kill(host, signal.SIGKILL)
    raw = await asyncio.wait_for(stream, 5)
    assert "event: error" in raw
    assert "[DONE]" not in raw
    assert await server.say("Hello", "smollm2", max_tokens=4)
    assert server.children() != [host]


async def test_client_that_leaves_frees_its_place(server: Server, client: AsyncOpenAI) -> None:
    """R-10 with a real engine."""
    for _ in range(20):
        stream = await chat(client, stream=True, max_tokens=4000, extra_body={"ignore_eos": True})
        seen = 0
        async for _chunk in stream:
            seen += 1
            if seen == 4:
                break
        await stream.close()
    headers = {"Authorization": "Bearer secret"}

    async def idle() -> bool:
        return await server.running(headers) == (0, 0)

    await until(idle, 5)


async def test_terminated_server_finishes_its_stream_and_leaves_no_process(serve: Serve) -> None:
    """R-07 with a real engine."""
    server = await serve("", JARVIS_LLAMACPP_N_THREADS="1")
    (host,) = server.children()
    begun = asyncio.Event()
    fields = {"model": "smollm2", "max_tokens": 100, "ignore_eos": True}
    stream = asyncio.create_task(server.stream("Tell me a story.", begun=begun.set, **fields))
    await asyncio.wait_for(begun.wait(), 30)
    server.process.send_signal(signal.SIGTERM)
    assert (await stream).rstrip().endswith("data: [DONE]")
    assert await server.ended(10) == 0
    assert await gone(host, 1)


@pytest.mark.parametrize("kind", ["missing", "empty", "not gguf", "truncated", "safetensors"])
async def test_model_that_cannot_be_loaded_ends_the_server_with_path_and_cause(
    serve: Serve, tmp_path: Path, kind: str
) -> None:
    """R-16, at start."""
    path = broken_model(tmp_path, kind)
    server = await serve("", wait=False, JARVIS_MODEL_NAME=str(path))
    assert await server.ended(30) == 2
    assert str(path) in server.log
    assert "Traceback" not in server.log
    if kind == "safetensors":
        assert "vllm" in server.log


async def test_model_that_cannot_be_loaded_harms_no_other(serve: Serve, tmp_path: Path) -> None:
    """R-16, on demand, while another model serves."""
    sections = "".join(
        f'[models.{kind.replace(" ", "-")}]\nsource = "{broken_model(tmp_path, kind)}"\n'
        "preload = false\n"
        for kind in ("missing", "empty", "not gguf", "truncated")
    )
    server = await serve(
        sections + '[models.good]\nsource = "smollm2"\n[models.good.settings]\nn_threads = 1\n'
    )
    busy = asyncio.create_task(
        server.stream("Tell me a story.", "good", max_tokens=150, ignore_eos=True)
    )
    for name in ("missing", "empty", "not-gguf", "truncated"):
        response = await server.post("hi", name)
        assert response.status_code == 409
        assert str(tmp_path) in response.json()["error"]["message"]
        assert await server.state(name) == "failed"
    assert (await busy).rstrip().endswith("data: [DONE]")


def broken_model(directory: Path, kind: str) -> Path:
    """Something that is no model, in one of the ways that people meet."""
    path = directory / f"{kind.replace(' ', '-')}.gguf"
    match kind:
        case "empty":
            path.touch()
        case "not gguf":
            path.write_bytes(b"<html>404</html>" * 1000)
        case "truncated":
            whole = find_smollm2()
            assert whole is not None
            shutil.copy(whole, path)
            os.truncate(path, path.stat().st_size // 2)
        case "safetensors":
            path = directory / "folder"
            path.mkdir()
            (path / "model.safetensors").write_bytes(b"\0" * 100)
            (path / "config.json").write_text("{}")
    return path


async def test_what_a_file_recommends_counts_where_nobody_says_otherwise(
    serve: Serve, tmp_path: Path
) -> None:
    smollm2 = find_smollm2()
    assert smollm2 is not None
    advice = {"general.sampling.temp": 0.0, "general.sampling.top_p": 5.0}
    write_with_metadata(smollm2, tmp_path / "advised.gguf", advice)
    settings = "settings = {n_threads = 1, kv_size = 1024}\n"
    server = await serve(
        f'[models.m]\nsource = "advised.gguf"\n{settings}sampling = {{top_k = 20}}\n'
        f'[models.plain]\nsource = "advised.gguf"\n{settings}sampling = {{from_model = false}}\n'
    )
    shown = (await server.client.get("/v1/models/m")).json()["sampling"]
    plain = (await server.client.get("/v1/models/plain")).json()["sampling"]
    story = {"model": "m", "max_tokens": 12, "prompt": "Once upon a time"}
    answers = [await server.client.post("/v1/completions", json=story) for _ in range(4)]
    # Of the first the prompt was computed, of the others it was found.
    texts = {answer.json()["choices"][0]["text"] for answer in answers[1:]}

    assert shown["temperature"] == {"value": 0.0, "from": "model"}
    assert shown["top_k"] == {"value": 20, "from": "setting"}
    assert shown["top_p"] == {"value": 1.0, "from": "default"}
    assert {default["from"] for default in plain.values()} == {"default"}
    assert "left out" in server.log
    assert len(texts) == 1  # at a temperature of 1 they would differ


async def test_a_default_of_tokens_gives_way_to_a_long_prompt(serve: Serve) -> None:
    server = await serve(
        '[models.m]\nsource = "smollm2"\ncontext_length = 128\nsampling = {max_tokens = 7}\n'
        "settings = {n_threads = 1, kv_size = 1024}\n"
    )

    async def used(text: str) -> Any:
        return (await server.post(text, ignore_eos=True)).json()["usage"]

    short = await used("Count: 1")
    long = await used("Count: 1" + " 1" * ((128 - 3 - short["prompt_tokens"]) // 2))

    assert short["completion_tokens"] == 7
    assert long["prompt_tokens"] > 121
    assert long["completion_tokens"] == 128 - long["prompt_tokens"]

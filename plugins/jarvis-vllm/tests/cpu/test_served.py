"""The small real model behind the whole server: OpenAI's client, and processes that are killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from generation_config import write_advised
from openai import AsyncOpenAI
from peft import write_peft
from served import Server, gone, serving, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

LOAD = 400.0
"""Seconds that loading may take on a machine that does other things too; 30 on a quiet one."""

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
ADVICE = {"temperature": 0.0, "top_k": 50, "typical_p": 0.9, "max_new_tokens": 3}
TOML = """
[models.tiny]
source = "{source}"
engine = "vllm"
context_length = 1024
[models.tiny.settings]
dtype = "float32"
enforce_eager = true
max_num_seqs = 16
kv_cache_memory_bytes = 536870912
[models.tiny.adapters]
red = "{adapter}"
"""


@pytest.fixture(scope="module")
async def server(
    anyio_backend: str, smollm2: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    """A server with the model and an adapter."""
    folder = tmp_path_factory.mktemp("served")
    async with serving(folder) as serve:
        adapter = write_peft(folder / "red", seed=1)
        advised = write_advised(Path(smollm2), folder / "advised", **ADVICE)
        server = await serve(TOML.format(source=advised, adapter=adapter), wait=False)
        await server.ready(LOAD)
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60
    ) as client:
        yield client


async def chat(client: AsyncOpenAI, **fields: Any) -> Any:
    return await client.chat.completions.create(
        **({"model": "tiny", "messages": QUESTION, "temperature": 0, "max_tokens": 30} | fields)
    )


async def test_whole_chat(client: AsyncOpenAI) -> None:
    completion = await chat(client)
    (choice,) = completion.choices

    assert "Paris" in choice.message.content
    assert "<|im_end|>" not in choice.message.content
    assert choice.finish_reason == "stop"
    assert completion.system_fingerprint.startswith("vllm/vllm 0.")


async def test_streamed_chat_says_what_the_whole_one_says(client: AsyncOpenAI) -> None:
    whole = await chat(client)
    stream = await chat(client, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)

    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


async def test_what_the_files_recommend_counts_where_a_request_does_not_say(
    server: Server, client: AsyncOpenAI
) -> None:
    shown = (await server.client.get("/v1/models/tiny")).json()["sampling"]
    story = {"model": "tiny", "prompt": "Once upon a time", "max_tokens": 12}
    texts = {(await client.completions.create(**story)).choices[0].text for _ in range(3)}

    assert shown["temperature"] == {"value": 0.0, "from": "model"}
    assert shown["top_k"] == {"value": 50, "from": "model"}
    assert shown["top_p"] == {"value": 1.0, "from": "default"}
    assert "typical_p" not in shown
    assert "left out" in server.log
    assert len(texts) == 1  # at a temperature of 1 they would differ
    assert len(texts.pop().split()) > 3  # how long an answer may be is not the files' to say


async def test_json_obeys_a_schema(client: AsyncOpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"size": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["size"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema, "strict": True}}
    completion = await chat(client, response_format=wanted, max_tokens=60)

    assert 1 <= json.loads(completion.choices[0].message.content)["size"] <= 9


async def test_text_completion_with_token_ids_and_logprobs(client: AsyncOpenAI) -> None:
    completion = await client.completions.create(
        model="tiny", prompt="1 2 3 4 5 6 7 8 9 10 11 12", max_tokens=3, temperature=0, logprobs=2
    )

    assert completion.choices[0].text == " 13"
    assert completion.choices[0].logprobs is not None
    assert len(completion.choices[0].logprobs.tokens or ()) == 3


async def test_an_adapter_is_a_model_of_its_own(server: Server, client: AsyncOpenAI) -> None:
    listed = [model.id async for model in client.models.list()]
    own, adapter = [(await server.client.get(f"/v1/models/{name}")).json() for name in listed]
    answer = await chat(client, model="red", max_tokens=2)

    assert listed == ["tiny", "red"]
    assert (adapter["id"], adapter["parent"], adapter["state"]) == ("red", "tiny", "ready")
    assert adapter["context_length"] == own["context_length"]
    assert answer.model == "red"


async def test_beside_each_other_model_and_adapter_say_what_they_say_alone(
    client: AsyncOpenAI,
) -> None:
    async def said(model: str) -> str:
        answer = await client.completions.create(
            model=model,
            prompt="1 2 3 4 5 6 7 8 9 10 11 12",
            max_tokens=6,
            temperature=0,
            extra_body={"ignore_eos": True},
        )
        return answer.choices[0].text

    names = ("tiny", "red", "tiny")
    alone = [await said(name) for name in names]

    assert alone[0] == alone[2] == " 13 14"
    assert "13" not in alone[1]
    assert await asyncio.gather(*map(said, names * 2)) == alone * 2


async def test_an_adapter_reads_nothing_that_its_model_has_computed(client: AsyncOpenAI) -> None:
    async def cached(model: str) -> int | None:
        answer = await client.completions.create(
            model=model, prompt="Old ships of the shore. " * 24, max_tokens=1
        )
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is not None
        return answer.usage.prompt_tokens_details.cached_tokens

    first, again, others, others_again = [
        await cached(name) for name in ("tiny", "tiny", "red", "red")
    ]
    assert first == others == 0
    assert again == others_again
    assert again is not None
    assert again >= 128  # whole blocks, which are smaller on a GPU


async def test_client_errors_are_bad_requests_with_their_parameter(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as long:
        await chat(client, messages=[{"role": "user", "content": "word " * 2000}])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as bias:
        await chat(client, logit_bias={"60000": 1})
    assert bias.value.param == "logit_bias.60000"


async def test_an_image_for_a_model_of_text_is_refused_by_its_name(client: AsyncOpenAI) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with pytest.raises(openai.BadRequestError) as caught:
        await chat(client, messages=[{"role": "user", "content": [part]}])

    assert "model 'tiny' on engine 'vllm' does not take content of kind image" in str(caught.value)
    assert caught.value.param == "messages[0].content[0].image_url.url"


async def test_metrics_of_vllm_are_shown_with_the_model(
    server: Server, client: AsyncOpenAI
) -> None:
    await chat(client)

    async def counted() -> bool:
        metrics = (await server.client.get("/metrics")).text
        lines = [x for x in metrics.splitlines() if x.startswith("vllm_generation_tokens_total{")]
        return bool(lines) and 'model="tiny"' in lines[0] and float(lines[0].split()[-1]) > 0

    await until(counted, 30)


async def test_client_that_leaves_frees_its_place(server: Server) -> None:
    body = server.body("Tell me a story", "tiny", max_tokens=800, ignore_eos=True, stream=True)
    async with server.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        async for _ in answer.aiter_lines():
            break

    async def idle() -> bool:
        return await server.running() == (0, 0)

    await until(idle, 30)


# From here on, processes are killed: what they leave is what the next test begins with.


def processes() -> dict[int, tuple[int, str]]:
    """Parent and command line of every process."""
    table = subprocess.run(["ps", "-axo", "pid=,ppid=,args="], capture_output=True, text=True)
    rows = [line.split(None, 2) for line in table.stdout.splitlines()]
    return {int(row[0]): (int(row[1]), row[2]) for row in rows if len(row) == 3}


def below(pid: int) -> dict[int, str]:
    """Command lines of all processes that a process has started, and theirs."""
    table = processes()
    found: dict[int, str] = {}
    new = {pid}
    while new:
        new = {child for child, (parent, _) in table.items() if parent in new}
        found |= {child: table[child][1] for child in new}
    return found


def host_of(server: Server) -> int:
    return next(pid for pid, args in below(server.pid).items() if "jarvis_core.host" in args)


async def test_dead_engine_process_ends_its_host_which_is_replaced(server: Server) -> None:
    """vLLM cannot restart it, and the host without it would answer heartbeats for ever."""
    host = host_of(server)
    family = below(host)
    core = next(pid for pid, args in family.items() if "EngineCore" in args)
    os.kill(core, signal.SIGKILL)
    assert await gone(host, 20)
    for pid in family:
        assert await gone(pid, 20), family[pid]

    async def back() -> bool:
        return await server.ready_status() == 200

    await until(back, LOAD)
    assert "Paris" in await server.say(QUESTION[0]["content"], "tiny", temperature=0)


async def test_server_and_host_killed_together_leave_no_process_of_vllm(server: Server) -> None:
    """R-04, and what the lifeline of the host alone cannot see to."""
    family = below(server.pid)
    host = host_of(server)
    assert any("EngineCore" in args for args in family.values())
    os.kill(host, signal.SIGSTOP)  # so that the host does nothing any more, whichever dies first
    os.kill(server.pid, signal.SIGKILL)
    os.kill(host, signal.SIGKILL)
    for pid, args in family.items():
        assert await gone(pid, 20), args

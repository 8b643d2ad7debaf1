"""Images on their way through the whole server to a very small model that sees them."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import tiny_vision
from PIL import Image
from served import Server, serving, until

from jarvis_core import ModelSpec, SettingError
from jarvis_vllm import VLLM
from jarvis_vllm.settings import VllmSettings

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

LOAD = 400.0
"""Seconds that loading may take on a machine that does other things too."""

TOML = """
[models.see]
source = "{source}"
engine = "vllm"
context_length = 1024
[models.see.settings]
dtype = "float32"
enforce_eager = true
max_num_seqs = 8
kv_cache_memory_bytes = 67108864
max_image_pixels = 250000
[models.see.settings.engine_args]
limit_mm_per_prompt = {{image = 3}}
"""


@pytest.fixture(scope="module")
def model(smollm2: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Directory of the model."""
    folder = tmp_path_factory.mktemp("see")
    tiny_vision.make(folder, Path(smollm2))
    return str(folder)


@pytest.fixture(scope="module")
async def server(
    anyio_backend: str, model: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    """A server with the model."""
    async with serving(tmp_path_factory.mktemp("served")) as serve:
        server = await serve(TOML.format(source=model), wait=False)
        await server.ready(LOAD)
        server.client.timeout = httpx.Timeout(120)
        yield server


def picture(seed: int, width: int = 80, height: int = 60) -> str:
    """An image that another seed makes another one."""
    colors = Image.effect_mandelbrot((width, height), (-2, -1, 1, 1), 10 + 20 * seed)
    file = BytesIO()
    Image.merge("RGB", (colors, colors.rotate(90 * seed), colors)).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


ONE, TWO = picture(1), picture(2)
TALL = picture(1, 40, 120)


def content(*parts: str) -> list[dict[str, Any]]:
    """Parts of a message: what begins as a data URL is an image, other parts are text."""
    return [
        {"type": "image_url", "image_url": {"url": part}}
        if re.match("data:|https?:", part)
        else {"type": "text", "text": part}
        for part in parts
    ]


def body(*parts: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content(*parts)}]
    return {"model": "see", "messages": messages, "max_tokens": 2, "temperature": 0, **fields}


async def chat(server: Server, *parts: str, **fields: Any) -> dict[str, Any]:
    response = await server.client.post("/v1/chat/completions", json=body(*parts, **fields))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def seen(server: Server, *parts: str) -> list[float]:
    """How likely the likeliest first tokens of an answer are: what the model makes of it."""
    answer = await chat(server, *parts, max_tokens=1, logprobs=True, top_logprobs=5)
    (token,) = answer["choices"][0]["logprobs"]["content"]
    return [top["logprob"] for top in token["top_logprobs"]]


async def refusal(server: Server, *parts: str, **fields: Any) -> tuple[str, str]:
    """The message and the parameter of a request that is refused as the client's."""
    response = await server.client.post("/v1/chat/completions", json=body(*parts, **fields))
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    return error["message"], error["param"]


async def prompt_ids(server: Server, *parts: str) -> list[int]:
    path = "/v1/chat/completions/render"
    response = await server.client.post(path, json=body(*parts))
    assert response.status_code == 200, response.text
    ids: list[int] = response.json()["token_ids"]
    return ids


async def test_prompt_tokens_are_those_that_vllm_counts(server: Server) -> None:
    """The first test: vLLM has counted nothing yet."""
    used = 0
    for parts in ((ONE, "a"), (TALL, "b"), ("c", ONE, "d", TALL)):
        usage = (await chat(server, *parts))["usage"]
        assert usage["prompt_tokens"] == len(await prompt_ids(server, *parts))
        used += usage["prompt_tokens"]

    async def told() -> bool:
        metrics = (await server.client.get("/metrics")).text
        found = re.search(r"^vllm_prompt_tokens_total\{[^}]*\} (\S+)$", metrics, re.MULTILINE)
        return found is not None and float(found[1]) == used

    await until(told, 60)


async def test_the_model_says_that_it_takes_images(server: Server) -> None:
    shown = (await server.client.get("/v1/models/see")).json()
    assert shown["capabilities"]["media"] == ["image"]
    assert shown["chat_format"] == "template"


async def test_the_answer_depends_on_the_image(server: Server) -> None:
    one, two = await seen(server, "What?", ONE), await seen(server, "What?", TWO)
    assert max(abs(a - b) for a, b in zip(one, two, strict=True)) > 0.01
    again = await seen(server, "What?", ONE)
    assert again == pytest.approx(one, abs=1e-3)


async def test_images_are_seen_in_their_order(server: Server) -> None:
    ahead = await seen(server, "First", ONE, "then", TWO)
    assert await seen(server, "First", TWO, "then", ONE) != pytest.approx(ahead, abs=0.01)
    assert await seen(server, "First", ONE, "then", TWO) == pytest.approx(ahead, abs=1e-3)


async def test_larger_images_are_more_tokens_each_at_its_place(server: Server) -> None:
    tokens = tiny_vision.TOKENS_OF_A_TILE
    (place,) = {i for i in await prompt_ids(server, ONE) if i >= 49_152} - {49_153}
    ids = await prompt_ids(server, "a", ONE, "b")
    assert ids.count(place) % tokens == 0
    assert (await prompt_ids(server, "a", ONE, "b", TALL)).count(place) > ids.count(place)


async def test_the_text_of_a_place_is_text_where_a_user_wrote_it(server: Server) -> None:
    plain = await prompt_ids(server, "<image> and <fake_token_around_image>")
    assert max(plain) < 49_152
    ids = await prompt_ids(server, ONE)
    both = await prompt_ids(server, "<image>", ONE, "<image>")
    assert [i for i in both if i >= 49_152] == [i for i in ids if i >= 49_152]


async def test_a_stream_says_what_the_whole_answer_says(server: Server) -> None:
    whole = await chat(server, "What?", ONE, max_tokens=6)
    request = body("What?", ONE, max_tokens=6, stream=True)
    async with server.client.stream("POST", "/v1/chat/completions", json=request) as answer:
        lines = [line async for line in answer.aiter_lines() if line.startswith("data: {")]
    choices = [choice for line in lines for choice in json.loads(line[6:])["choices"]]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    assert text == whole["choices"][0]["message"]["content"]


async def test_each_of_n_answers_sees_the_image(server: Server) -> None:
    answer = await chat(server, "What?", ONE, max_tokens=3, n=2, seed=1, temperature=1)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert answer["usage"]["prompt_tokens"] == len(await prompt_ids(server, "What?", ONE))


async def test_every_api_takes_images(server: Server) -> None:
    asked = (await chat(server, ONE, "What?"))["usage"]["prompt_tokens"]
    parts = [
        {"type": "input_image", "image_url": ONE},
        {"type": "input_text", "text": "What?"},
    ]
    wanted = {
        "model": "see",
        "input": [{"role": "user", "content": parts}],
        "max_output_tokens": 16,
        "store": False,
    }
    response = (await server.client.post("/v1/responses", json=wanted)).json()
    assert response["usage"]["input_tokens"] == asked
    source = {"type": "base64", "media_type": "image/png", "data": ONE.partition(",")[2]}
    blocks = [{"type": "image", "source": source}, {"type": "text", "text": "What?"}]
    message = {"model": "see", "messages": [{"role": "user", "content": blocks}]}
    answer = await server.client.post("/v1/messages", json=message | {"max_tokens": 2})
    usage = answer.json()["usage"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == asked
    counted = await server.client.post("/v1/messages/count_tokens", json=message)
    assert counted.json() == {"input_tokens": asked}


async def test_a_prefix_with_an_image_is_found_again_under_the_same_salt_only(
    server: Server,
) -> None:
    async def cached(salt: str, *parts: str) -> int:
        usage = (await chat(server, *parts, cache_salt=salt))["usage"]
        return int(usage["prompt_tokens_details"]["cached_tokens"])

    story = "The old man walked along the shore. " * 20
    assert await cached("mine", ONE, story) == 0
    assert await cached("mine", ONE, story) >= 128  # a block
    assert await cached("yours", ONE, story) == 0
    assert await cached("mine", TWO, story) == 0


CUT = ONE[: 200 + len("data:image/png;base64,")]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("data:image/png;base64,!!!!", "not base64"),
        ("data:image/png;base64,AAAA", "none of PNG"),
        ("data:text/plain;base64,AAAA", "of the form data:image/png;base64"),
        (CUT, "damaged or cut short"),
        (picture(1, 600, 500), "600 × 500 pixels is too large.* 250,000 pixels together"),
        ("https://example.com/a.png", "must be a data: URL; nothing is fetched"),
    ],
)
async def test_a_bad_image_is_refused_by_its_place(image: str, reason: str, server: Server) -> None:
    message, param = await refusal(server, "See", ONE, image)
    assert re.search(reason, message)
    assert param == "messages[0].content[2].image_url.url"


async def test_more_images_than_the_operator_allows_are_refused(server: Server) -> None:
    message, param = await refusal(server, ONE, ONE, TWO, TWO)
    assert "has 4 images, and this model takes 3 at most" in message
    assert param == "messages[0].content[3].image_url.url"


async def test_images_that_do_not_fit_are_refused_with_both_numbers(server: Server) -> None:
    parts = (TALL, "word " * 1000)
    message, param = await refusal(server, *parts)
    (prompt,) = re.findall(r"context length is 1,024 tokens, and the prompt has ([\d,]+)", message)
    assert int(prompt.replace(",", "")) == len(await prompt_ids(server, *parts))
    assert param == "messages"
    # What was refused was seen by vLLM's image processor, and not by its engine.
    assert await seen(server, TALL, "word") == pytest.approx(await seen(server, TALL, "word"))


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1)])
async def test_images_of_odd_shapes_are_taken_or_refused(
    size: tuple[int, int], server: Server
) -> None:
    request = body("See", picture(1, *size))
    response = await server.client.post("/v1/chat/completions", json=request)
    assert response.status_code in (200, 400), response.text
    assert await server.ready_status() == 200


async def test_many_at_once_each_get_their_own_answer(server: Server) -> None:
    alone = [await seen(server, image, "?") for image in (ONE, TWO, TALL)]
    together = await asyncio.gather(
        *(seen(server, image, "?") for image in (ONE, TWO, TALL) for _ in range(4))
    )
    for k, found in enumerate(together):
        assert found == pytest.approx(alone[k // 4], abs=1e-2)
    assert await server.running() == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"limit_mm_per_prompt": {"image": "many"}}, "vLLM refuses model 'see'"),
        ({"limit_mm_per_promt": {"image": 1}}, "did you mean 'limit_mm_per_prompt'"),
        ({"media_io_kwargs": {}}, "images are decoded before vLLM gets them"),
        ({"allowed_media_domains": ["example.com"]}, "nothing is fetched for clients"),
    ],
)
async def test_arguments_for_images_are_checked_before_loading(
    arguments: dict[str, Any], reason: str, model: str
) -> None:
    spec = ModelSpec(name="see", source=model, path=model)
    with pytest.raises(SettingError, match=reason):
        await VLLM.load(spec, VllmSettings(engine_args=arguments))

"""More work than there is room for, and keys that share it."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from time import perf_counter

import pytest
from served import Serve, Server, until

pytestmark = pytest.mark.anyio

NARROW = '[models.m]\nsource = "fake/m"\nengine = "fake"\n[models.m.settings]\nmax_num_seqs = 8\n'
ANSWER = "!words=10 !delay=0.01"


async def test_overload_is_refused_at_once_and_forgotten_soon(serve: Serve) -> None:
    """R-15, shortened: the queue is full for a while, and nothing else goes wrong."""
    server = await serve(NARROW, JARVIS_QUEUE_SIZE="16")
    statuses: Counter[int] = Counter()
    slowest_refusal = 0.0

    async def client() -> None:
        nonlocal slowest_refusal
        for _ in range(5):
            began = perf_counter()
            response = await server.post(ANSWER)
            statuses[response.status_code] += 1
            if response.status_code == 503:
                slowest_refusal = max(slowest_refusal, perf_counter() - began)
                assert response.json()["error"]["code"] == "queue_full"
                assert int(response.headers["retry-after"]) >= 1
                await asyncio.sleep(0.05)

    await asyncio.gather(*(client() for _ in range(80)))
    assert set(statuses) == {200, 503}
    assert statuses[200] >= 16
    assert slowest_refusal < 2.0
    assert await server.say("hello") == "hello"
    await server.conserved(ok=statuses[200] + 1)


def keys_file(directory: Path, *names: str) -> str:
    path = directory / "keys.toml"
    path.write_text("".join(f'[{name}]\nkey = "{name}"\n' for name in names))
    return str(path)


async def ask(server: Server, key: str, text: str = ANSWER) -> int:
    """The status of an answer to a request of this key."""
    response = await server.client.post(
        "/v1/chat/completions", json=server.body(text), headers={"authorization": f"Bearer {key}"}
    )
    return response.status_code


async def test_a_burst_of_one_key_does_not_delay_the_single_request_of_another(
    serve: Serve, tmp_path: Path
) -> None:
    server = await serve(NARROW, JARVIS_KEYS_FILE=keys_file(tmp_path, "busy", "calm"))
    ended: list[str] = []

    async def busy() -> None:
        assert await ask(server, "busy") == 200
        ended.append("busy")

    burst = [asyncio.create_task(busy()) for _ in range(100)]
    headers = {"authorization": "Bearer calm"}

    async def begun() -> bool:
        return (await server.running(headers))[1] > 50

    await until(begun, 20)
    assert await ask(server, "calm", "!words=1") == 200
    before = len(ended)
    await asyncio.gather(*burst)
    assert before < 60  # without turns it would come last: all were there before it
    assert len(ended) == 100
    await server.conserved(headers, ok=101)


async def test_a_queue_that_one_key_has_filled_still_takes_the_request_of_another(
    serve: Serve, tmp_path: Path
) -> None:
    keys = keys_file(tmp_path, "busy", "calm")
    server = await serve(NARROW, JARVIS_KEYS_FILE=keys, JARVIS_QUEUE_SIZE="40")
    burst = [asyncio.create_task(ask(server, "busy", "!wait=2 x")) for _ in range(60)]
    while not any(task.done() for task in burst):
        await asyncio.sleep(0.01)
    assert await ask(server, "calm", "hello") == 200
    for task in burst:
        task.cancel()
    done = await asyncio.gather(*burst, return_exceptions=True)
    assert 503 in done


async def has(server: Server, headers: dict[str, str], *, running: int, waiting: int) -> bool:
    return await server.running(headers) == (running, waiting)


ONE_PLACE = NARROW.replace("max_num_seqs = 8", "max_num_seqs = 1")


async def test_with_one_place_an_answer_gives_way_to_the_request_of_another_key(
    serve: Serve, tmp_path: Path
) -> None:
    server = await serve(ONE_PLACE, JARVIS_KEYS_FILE=keys_file(tmp_path, "busy", "calm"))
    headers = {"authorization": "Bearer busy"}
    long = server.client.post(
        "/v1/chat/completions", json=server.body("!words=150 !delay=0.02"), headers=headers
    )
    answer = asyncio.create_task(long)
    await until(lambda: has(server, headers, running=1, waiting=0), 20)
    others = [asyncio.create_task(ask(server, "busy", "!words=1")) for _ in range(20)]
    await until(lambda: has(server, headers, running=1, waiting=20), 20)
    for _ in range(3):
        assert await ask(server, "calm", "!words=2") == 200
    assert not answer.done()
    assert not any(task.done() for task in others)
    said = (await answer).json()
    assert said["usage"]["completion_tokens"] == 150
    assert len(said["choices"][0]["message"]["content"].split()) == 150
    assert await asyncio.gather(*others) == [200] * 20
    await server.conserved(headers, ok=24)


async def test_an_engine_where_nothing_gives_way_is_sent_no_more_than_it_has_places_for(
    serve: Serve, tmp_path: Path
) -> None:
    keys = keys_file(tmp_path, "busy", "calm")
    server = await serve(ONE_PLACE + "gives_way = false\n", JARVIS_KEYS_FILE=keys)
    ended: list[str] = []

    async def timed(key: str, text: str) -> None:
        assert await ask(server, key, text) == 200
        ended.append(key)

    headers = {"authorization": "Bearer busy"}
    busy = [asyncio.create_task(timed("busy", "!words=100 !delay=0.02"))]
    await until(lambda: has(server, headers, running=1, waiting=0), 20)
    busy += [asyncio.create_task(timed("busy", "!words=1")) for _ in range(2)]
    await until(lambda: has(server, headers, running=1, waiting=2), 20)
    await timed("calm", "!words=1")
    await asyncio.gather(*busy)
    assert ended == ["busy", "calm", "busy", "busy"]
    await server.conserved(headers, ok=4)

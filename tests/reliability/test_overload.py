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

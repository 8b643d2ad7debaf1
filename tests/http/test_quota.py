from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from jarvis_core.errors import RateLimited
from jarvis_core.http.auth import ANYBODY, Caller
from jarvis_core.http.quota import Quotas
from jarvis_core.settings.keys import KeyConfig


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quotas(clock: Clock) -> Quotas:
    return Quotas(clock)


def caller(name: str = "alice", **limits: Any) -> Caller:
    return Caller(key=KeyConfig(name=name, digest=name.encode(), **limits))


def test_who_has_no_key_has_no_limit(quotas):
    for _ in range(1000):
        quotas.enter(ANYBODY)
    assert quotas.headers(ANYBODY) == {}


def test_a_key_may_have_so_many_requests_at_once_and_no_more(quotas):
    alice, bob = caller(max_concurrency=2), caller("bob", max_concurrency=2)
    quotas.enter(alice)
    quotas.enter(alice)
    with pytest.raises(RateLimited, match="2 requests") as caught:
        quotas.enter(alice)
    assert caught.value.retry_after == 1.0
    quotas.enter(bob)
    quotas.leave(alice, tokens=5)
    quotas.enter(alice)


def test_tokens_come_back_evenly(quotas, clock):
    alice = caller(tokens_per_minute=600)
    quotas.enter(alice)
    quotas.leave(alice, tokens=700)
    with pytest.raises(RateLimited, match="600 tokens per minute") as caught:
        quotas.enter(alice)
    assert caught.value.retry_after == pytest.approx(10.1)
    clock.now += 10.2
    quotas.enter(alice)


def test_what_nobody_used_is_not_saved_up(quotas, clock):
    alice = caller(tokens_per_minute=600)
    clock.now += 3600
    quotas.enter(alice)
    quotas.leave(alice, tokens=600)
    with pytest.raises(RateLimited):
        quotas.enter(alice)


def test_a_refused_request_costs_nothing(quotas, clock):
    alice = caller(tokens_per_minute=600)
    quotas.enter(alice)
    quotas.leave(alice, tokens=601)
    for _ in range(100):
        with pytest.raises(RateLimited):
            quotas.enter(alice)
    clock.now += 0.3
    quotas.enter(alice)


def test_a_changed_limit_holds_at_once(quotas):
    quotas.enter(caller(max_concurrency=1))
    with pytest.raises(RateLimited):
        quotas.enter(caller(max_concurrency=1))
    quotas.enter(caller(max_concurrency=2))


def test_the_headers_say_what_is_left(quotas):
    alice = caller(tokens_per_minute=600)
    quotas.enter(alice)
    quotas.leave(alice, tokens=100)
    assert quotas.headers(alice) == {
        "x-ratelimit-limit-tokens": "600",
        "x-ratelimit-remaining-tokens": "500",
        "x-ratelimit-reset-tokens": "10.000s",
    }


def test_keys_without_limits_leave_nothing_behind(quotas):
    alice = caller()
    quotas.enter(alice)
    quotas.leave(alice, tokens=100)
    assert quotas._accounts == {}


@pytest.fixture
def keys_file(tmp_path: Path) -> str:
    path = tmp_path / "keys.toml"
    path.write_text(
        '[narrow]\nkey = "narrow"\nmax_concurrency = 1\n'
        '[metered]\nkey = "metered"\ntokens_per_minute = 6\n'
    )
    return str(path)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.anyio
async def test_a_second_request_of_a_narrow_key_is_429_and_the_next_one_is_not(serve, keys_file):
    served = await serve(keys_file=keys_file)
    served.client.headers.update(bearer("narrow"))
    gate = asyncio.Event()
    served.catalogue.lease_gate = gate.wait
    first = asyncio.create_task(served.chat())
    while not len(served.front.exchanges):
        await asyncio.sleep(0.01)
    second = await served.chat()
    assert second.status_code == 429
    assert second.json()["error"]["code"] == "rate_limit_exceeded"
    assert second.headers["retry-after-ms"] == "1000"
    assert (await served.client.get("/v1/models")).status_code == 200
    gate.set()
    assert (await first).status_code == 200
    assert (await served.chat()).status_code == 200


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_of_answers_are_counted(serve, keys_file, stream):
    served = await serve(keys_file=keys_file)
    served.client.headers.update(bearer("metered"))
    first = await served.chat("one two three four five six seven", stream=stream)
    assert first.headers["x-ratelimit-limit-tokens"] == "6"
    assert first.status_code == 200
    second = await served.chat(stream=stream)
    assert second.status_code == 429
    assert second.headers["x-ratelimit-remaining-tokens"] == "0"

"""One key's burst, and what another key's single request notices of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from attrs import field, mutable
from figures import Figure, percentile
from load import Answer, ask
from watched import FAKE, Watched, started

BURST = 200
PLACES = 16
STEP = 0.05
"""Seconds that the fake engine takes for a word."""

BAR = 2.0
"""Step times of the engine by which a single request may be later."""

KEYS = """
[busy]
key = "busy"
[calm]
key = "calm"
[admin]
key = "admin"
scope = "admin"
"""

LLAMA_CPP = f"""
[models.bench]
source = "smollm2"
engine = "llama_cpp"
[models.bench.settings]
max_num_seqs = {PLACES}
stream_interval_ms = 0
"""


@mutable
class _Burst:
    """One key's requests, always as many.

    Attributes:
        body: Each of them.
        answers: Those that were answered.
        steady: Set once as many have been answered as the engine takes at a time.
    """

    server: Watched
    body: dict[str, Any]
    answers: list[Answer] = field(factory=list)
    steady: asyncio.Event = field(factory=asyncio.Event)

    async def run(self) -> None:
        """Send them until this is cancelled."""
        await asyncio.gather(*(self._client() for _ in range(BURST)))

    async def _client(self) -> None:
        while True:
            self.answers.append(await ask(self.server.port, self.body, key="busy"))
            if len(self.answers) >= PLACES:
                self.steady.set()

    def step(self) -> float:
        """Seconds between two tokens of one answer."""
        return median(
            (answer.seconds - answer.ttft) / (answer.completion_tokens - 1)
            for answer in self.answers
        )


async def fairness(folder: Path, seconds: float) -> list[Figure]:
    """With the fake engine, each of whose words is a step."""
    text = f"!words=20 !delay={STEP}"
    return await _measure(folder, f"{FAKE}max_num_seqs = {PLACES}\n", _chat(text), seconds)


async def fairness_of_llama_cpp(folder: Path, seconds: float, threads: int) -> list[Figure]:
    """With the small model, computed by so many threads."""
    body = {
        **_chat("Tell a story about a harbour."),
        "max_tokens": 16,
        "temperature": 0,
        "ignore_eos": True,
    }
    return await _measure(folder, f"{LLAMA_CPP}n_threads = {threads}\n", body, seconds)


def _chat(text: str) -> dict[str, Any]:
    return {"model": "bench", "messages": [{"role": "user", "content": text}]}


async def _measure(folder: Path, toml: str, body: dict[str, Any], seconds: float) -> list[Figure]:
    keys = folder.with_suffix(".keys.toml")
    keys.write_text(KEYS)
    server = Watched(folder, toml, {"JARVIS_KEYS_FILE": str(keys)}, admin="admin")
    async with started(server, key="calm"):
        alone = await _singles(server, body, min(5.0, seconds / 4))
        burst = _Burst(server, body)
        running = asyncio.create_task(burst.run())
        await burst.steady.wait()
        await server.look()
        beside = await _singles(server, body, seconds)
        lag = await server.look()
        running.cancel()  # all of them leave
        left = await server.in_flight(10)
    step = burst.step()
    first = median(answer.ttft for answer in alone)
    delays = [(answer.ttft - first) / step for answer in beside]
    others = median(answer.ttft for answer in burst.answers)
    return [
        Figure(label="step time", value=step * 1e3, unit="ms"),
        Figure(label="single requests beside the burst", value=len(beside), least=1),
        Figure(label="first token alone p50", value=first * 1e3, unit="ms"),
        Figure(label="first token of the burst p50", value=others * 1e3, unit="ms"),
        Figure(label="single request later by p50", value=median(delays), unit="steps", most=BAR),
        Figure(label="single request later by p95", **_steps(delays, 0.95)),
        Figure(label="single request later by, worst", **_steps(delays, 1.0)),
        Figure(label="event-loop lag p99.9", value=lag["p999"] * 1e3, unit="ms"),
        Figure(label="in flight once the burst left", value=left, most=0),
    ]


def _steps(delays: Sequence[float], share: float) -> dict[str, Any]:
    return {"value": percentile(delays, share), "unit": "steps", "most": BAR}


async def _singles(server: Watched, body: dict[str, Any], seconds: float) -> list[Answer]:
    """Requests of the other key, one after the other."""
    answers: list[Answer] = []
    begun = perf_counter()
    while len(answers) < 3 or perf_counter() - begun < seconds:
        answers.append(await ask(server.port, {**body, "max_tokens": 4}, key="calm"))
        await asyncio.sleep(0.05)
    return answers

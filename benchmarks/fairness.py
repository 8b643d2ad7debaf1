"""One key's burst, and what another key's single request notices of it.

By how much the burst delays a single request is the time to its first token beside the burst, less
the median of the same key's requests alone, which find as much of their prompts in the cache. That
is told in step times of the engine: the longest of the steps that it computed for the burst while
the request waited, or the usual one if that is longer. llama.cpp's steps are written down where
they are computed (``steps.py``); of other engines the gaps in the burst's streams show them, but
for gaps in which the single request got two tokens. New single requests have prompts of the same
number of tokens: one token more takes 3 ms of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from attrs import field, mutable
from figures import Figure, percentile
from load import Answer, ask
from steps import Step, StepLog, in_streams
from watched import FAKE, Watched, started
from workloads import chat, digits, words

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

MakeBody = Callable[[int], dict[str, Any]]
"""Makes the body of a request from its number."""


@mutable
class _Burst:
    """One key's requests, always as many.

    Attributes:
        make: Makes each of them.
        enough: Answers at which the engine is as busy as it will be.
        answers: Those that were answered.
        steady: Set once so many have been answered.
    """

    server: Watched
    make: MakeBody
    enough: int
    answers: list[Answer] = field(factory=list)
    steady: asyncio.Event = field(factory=asyncio.Event)
    _sent: int = 0

    async def run(self) -> None:
        """Send them until this is cancelled."""
        await asyncio.gather(*(self._client() for _ in range(BURST)))

    async def _client(self) -> None:
        while True:
            self._sent += 1
            self.answers.append(await ask(self.server.port, self.make(self._sent), key="busy"))
            if len(self.answers) >= self.enough:
                self.steady.set()


async def fairness(folder: Path, seconds: float) -> list[Figure]:
    """With the fake engine, each of whose words is a step."""
    body = chat(f"!words=20 !delay={STEP}", tokens=20)
    toml = f"{FAKE}max_num_seqs = {PLACES}\n"
    return await _measure(folder, toml, PLACES, lambda _: body, lambda _: body, seconds)


async def fairness_of_llama_cpp(
    folder: Path, seconds: float, threads: int, *, places: int = PLACES, new: bool = False
) -> list[Figure]:
    """With the small model.

    Args:
        folder: An empty folder.
        seconds: How long single requests are sent.
        threads: Threads that compute.
        places: Requests that the engine answers at the same time.
        new: Whether every prompt is new, the burst's long ones too; else all are one that is known.
    """

    def busy(number: int) -> dict[str, Any]:
        text = words(250, f"busy/{number}") if new else "Tell a story about a harbour."
        return chat(text, tokens=16)

    def calm(number: int) -> dict[str, Any]:
        text = digits(24, f"calm/{number}") if new else "Tell a story about a harbour."
        return chat(text, tokens=4)

    log = StepLog(folder)
    toml = (
        f'[models.bench]\nsource = "smollm2"\nengine = "llama_cpp"\npython = "{log.python}"\n'
        f"[models.bench.settings]\nstream_interval_ms = 0\n"
        f"max_num_seqs = {places}\nn_threads = {threads}\n"
    )
    return await _measure(folder, toml, places, busy, calm, seconds, log)


async def fairness_of_vllm(
    folder: Path,
    seconds: float,
    *,
    python: str,
    source: Path,
    dummy: bool = False,
    places: int = PLACES,
) -> list[Figure]:
    """With a model on vLLM; all prompts are new, and those of the burst are long.

    Args:
        folder: An empty folder.
        seconds: How long single requests are sent.
        python: An interpreter that has vllm and jarvis-vllm.
        source: Folder of the model.
        dummy: Whether it gets random numbers as weights.
        places: Requests that the engine answers at the same time.
    """

    def busy(number: int) -> dict[str, Any]:
        return chat(words(250, f"busy/{number}"), tokens=16)

    def calm(number: int) -> dict[str, Any]:
        return chat(digits(24, f"calm/{number}"), tokens=4)

    toml = (
        f'[models.bench]\nsource = "{source}"\nengine = "vllm"\npython = "{python}"\n'
        f"[models.bench.settings]\nstream_interval_ms = 0\nmax_num_seqs = {places}\n"
    )
    if dummy:
        toml += 'load_format = "dummy"\n'
    return await _measure(folder, toml, places, busy, calm, seconds)


async def _measure(
    folder: Path,
    toml: str,
    places: int,
    busy: MakeBody,
    calm: MakeBody,
    seconds: float,
    log: StepLog | None = None,
) -> list[Figure]:
    keys = folder.with_suffix(".keys.toml")
    keys.write_text(KEYS)
    server = Watched(folder, toml, {"JARVIS_KEYS_FILE": str(keys)}, admin="admin")
    async with started(server, key="calm"):
        alone = await _singles(server, calm, 1, min(5.0, seconds / 4))
        burst = _Burst(server, busy, places)
        running = asyncio.create_task(burst.run())
        await burst.steady.wait()
        await server.look()
        beside = await _singles(server, calm, 1 + len(alone), seconds)
        await asyncio.sleep(min(5.0, seconds / 4))  # for the answers that were written meanwhile
        lag = await server.look()
        running.cancel()  # all of them leave
        left = await server.in_flight(10)
    first = median(answer.ttft for answer in alone)
    later = [answer.ttft - first for answer in beside]
    steps = in_streams(burst.answers, "busy") if log is None else log.read()
    steps = [step for step in steps if "busy" in step.whose]
    usual = median(step.seconds for step in steps if not step.stopped)
    while_waiting = [_while_waiting(answer, steps, whole=log is not None) for answer in beside]
    longest = [max([usual, *met]) for met in while_waiting]
    delays = [late / step for late, step in zip(later, longest, strict=True)]
    others = median(answer.ttft for answer in burst.answers)
    return [
        Figure(label="steps of the burst p50", value=usual * 1e3, unit="ms"),
        Figure(label="longest steps met p95", value=percentile(longest, 0.95) * 1e3, unit="ms"),
        Figure(label="single requests beside the burst", value=len(beside), least=1),
        Figure(label="first token alone p50", value=first * 1e3, unit="ms"),
        Figure(label="first token of the burst p50", value=others * 1e3, unit="ms"),
        Figure(label="single request later by p50", value=median(later) * 1e3, unit="ms"),
        Figure(label="single request later by p95", value=percentile(later, 0.95) * 1e3, unit="ms"),
        Figure(label="single request later by, worst", value=max(later) * 1e3, unit="ms"),
        Figure(label="the same in steps, p50", value=median(delays), unit="steps", most=BAR),
        Figure(label="the same in steps, p95", **_steps(delays, 0.95)),
        Figure(label="the same in steps, worst", **_steps(delays, 1.0)),
        Figure(label="event-loop lag p99.9", value=lag["p999"] * 1e3, unit="ms"),
        Figure(label="in flight once the burst left", value=left, most=0),
    ]


def _while_waiting(answer: Answer, steps: Sequence[Step], *, whole: bool) -> list[float]:
    """Seconds of the steps that were computed while an answer's first token was waited for.

    Args:
        answer: The answer.
        steps: All steps.
        whole: Whether those must have ended by then. Else they are gaps in streams, which end when
            the first token comes or later: that is computed in one of them.
    """
    until = answer.begun + answer.ttft
    met = [step for step in steps if step.began < until and step.ended > answer.begun]
    if whole:
        return [step.seconds for step in met if step.ended <= until]
    tokens = [came for came in answer.came if came >= until]
    return [step.seconds for step in met if sum(token <= step.ended for token in tokens) < 2]


def _steps(delays: Sequence[float], share: float) -> dict[str, Any]:
    return {"value": percentile(delays, share), "unit": "steps", "most": BAR}


async def _singles(server: Watched, make: MakeBody, first: int, seconds: float) -> list[Answer]:
    """Requests of the other key, one after the other."""
    answers: list[Answer] = []
    begun = perf_counter()
    while len(answers) < 3 or perf_counter() - begun < seconds:
        body = make(first + len(answers))
        answers.append(await ask(server.port, body, key="calm"))
        await asyncio.sleep(0.05)
    return answers

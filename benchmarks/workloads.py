"""What the servers are asked: the rows of the benchmark, each a workload with its measures."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import orjson
from attrs import field, frozen, mutable
from load import Answer, ask, ask_all
from processes import Server

Measures = dict[str, float]
"""Name of a measure and its value; of those in ``HIGHER`` more is better, of others less."""

HIGHER = ("tok/s", "tok/cpu-s")

ANSWER_TOKENS = 64
REQUESTS = {1: 6, 4: 16, 16: 32, 32: 64}
"""Requests of a round, by how many are sent at a time."""

PEER = "llama-server"
"""The server that most rows compare with."""

FIELDS = ("name", "colour", "sizes", "notes", "fragile")
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 8, "maxLength": 24},
        "colour": {"enum": ["red", "green", "blue", "yellow"]},
        "sizes": {"type": "array", "items": {"type": "integer"}, "minItems": 4, "maxItems": 6},
        "notes": {"type": "string", "minLength": 40, "maxLength": 80},
        "fragile": {"type": "boolean"},
    },
    "required": FIELDS,
    "additionalProperties": False,
}
CONSTRAINED_AT_A_TIME = 8
CONSTRAINED_REQUESTS = 16

BURST_USERS = 8
BURST_WORDS = 700
CONVERSATIONS = 64
CONVERSATION_WORDS = 350
RESUMED = 8
"""Conversations that are resumed in each round."""

_TEXT = """
harbour keeps its lights on while boats from every island bring fish, salt and letters; children
count them at night, and old sailors say which storm will come before morning, because wind turns
early over cold water and birds leave first. Bakers open shops near a market where people talk
about prices, weather, music, trains and long roads through green hills toward another town
"""
_WORDS = tuple(_TEXT.split())


def words(count: int, seed: str) -> str:
    """Text of so many words that a seed determines."""
    return " ".join(random.Random(seed).choices(_WORDS, k=count))


def digits(count: int, seed: str) -> str:
    """So many digits that a seed determines, each of them a token of most vocabularies."""
    return "".join(random.Random(seed).choices("0123456789", k=count))


def chat(*texts: str, system: str = "Answer the user.", tokens: int) -> dict[str, Any]:
    """A greedy chat of exactly so many tokens; ``texts`` are user's and model's by turns."""
    turns = [
        {"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)
    ]
    return {
        "model": "bench",
        "messages": [{"role": "system", "content": system}, *turns],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
    }


@frozen(kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        name: How it is selected.
        title: What is done.
        measure: Does it once: a server and a round's number to measures.
        bars: The least ratio to the peer for each measure that has one.
        most_more: What it may be more than the peer's, for each measure that has such a bar.
        peer: Name of the server that Jarvis is compared with.
        starts: How often the servers are started anew: each process has its luck with memory, which
            is worth 5 % of the tokens/s for as long as it lives.
    """

    name: str
    title: str
    measure: Callable[[Server, int], Awaitable[Measures]]
    bars: dict[str, float] = field(factory=dict)
    most_more: dict[str, float] = field(factory=dict)
    peer: str = PEER
    starts: int = 1


def decode(concurrency: int) -> Row:
    """Many short chats, so many at a time."""

    async def measure(server: Server, number: int) -> Measures:
        bodies = [
            chat(words(60, f"{concurrency}/{number}/{at}"), tokens=ANSWER_TOKENS)
            for at in range(REQUESTS[concurrency])
        ]
        cpu, begun = server.cpu_seconds(), perf_counter()
        answers = await ask_all(server.port, bodies, concurrency)
        seconds, cpu = perf_counter() - begun, server.cpu_seconds() - cpu
        tokens = sum(a.completion_tokens for a in answers)
        return {"tok/s": tokens / seconds, "tok/cpu-s": tokens / cpu, **_ttft(answers)}

    return Row(
        name=f"c{concurrency}",
        title=f"60 words, {ANSWER_TOKENS} tokens, {concurrency} at a time",
        measure=measure,
        bars={"tok/s": 0.98, "ttft p50": 1.0, "ttft p95": 1.0},
        starts=3,
    )


async def sequential(server: Server, number: int) -> Measures:
    """Short chats, 16 at a time, few enough for a server that answers one by one."""
    bodies = [chat(words(60, f"one/{number}/{at}"), tokens=ANSWER_TOKENS) for at in range(16)]
    begun = perf_counter()
    answers = await ask_all(server.port, bodies, 16)
    seconds = perf_counter() - begun
    return {"tok/s": sum(a.completion_tokens for a in answers) / seconds, **_ttft(answers)}


async def constrained(server: Server, number: int) -> Measures:
    """Chats whose answers obey a JSON schema.

    Raises:
        ValueError: An answer is no such JSON.
    """
    named = {"name": "thing", "schema": SCHEMA, "strict": True}
    bodies = [
        {
            **chat(f"Describe a {words(8, f'json/{number}/{at}')} as JSON.", tokens=256),
            "response_format": {"type": "json_schema", "json_schema": named},
            "ignore_eos": False,
        }
        for at in range(CONSTRAINED_REQUESTS)
    ]
    cpu, begun = server.cpu_seconds(), perf_counter()
    answers = await ask_all(server.port, bodies, CONSTRAINED_AT_A_TIME)
    seconds, cpu = perf_counter() - begun, server.cpu_seconds() - cpu
    for answer in answers:
        if set(orjson.loads(answer.text)) != set(FIELDS):
            raise ValueError(f"{server.name} answered {answer.text!r}")
    tokens = sum(a.completion_tokens for a in answers)
    return {"tok/s": tokens / seconds, "tok/cpu-s": tokens / cpu, **_ttft(answers)}


async def burst(server: Server, number: int) -> Measures:
    """Users who come at once to a system prompt that nobody has used."""
    system = words(BURST_WORDS, f"system/{number}")
    bodies = [
        chat(words(20, f"burst/{number}/{user}"), system=system, tokens=16)
        for user in range(BURST_USERS)
    ]
    return _ttft(await ask_all(server.port, bodies, BURST_USERS))


@mutable
class Resume:
    """Conversations that go on after others had the server's slots.

    Attributes:
        begun: The first turn of each conversation, by the name of the server.
    """

    begun: dict[str, list[tuple[str, str]]] = field(factory=dict)

    async def measure(self, server: Server, number: int) -> Measures:
        """Resume those that rested the longest, one after the other."""
        if server.name not in self.begun:
            self.begun[server.name] = await self._begin(server)
        answers = []
        for at in range(number * RESUMED, (number + 1) * RESUMED):
            question, answer = self.begun[server.name][at % CONVERSATIONS]
            turn = words(15, f"resume/{number}/{at}")
            answers.append(await ask(server.port, chat(question, answer, turn, tokens=8)))
        return _ttft(answers)

    async def _begin(self, server: Server) -> list[tuple[str, str]]:
        questions = [words(CONVERSATION_WORDS, f"talk/{at}") for at in range(CONVERSATIONS)]
        answers = await ask_all(server.port, [chat(q, tokens=16) for q in questions], 8)
        return [(q, a.text) for q, a in zip(questions, answers, strict=True)]


async def load(server: Server, number: int) -> Measures:
    """Start the server again; ``number`` is not used."""
    server.stop()
    await server.start(chat("Hello", tokens=1))
    return {"load s": server.load_seconds}


def rows() -> list[Row]:
    """Every row, in order."""
    return [
        *map(decode, REQUESTS),
        Row(
            name="python",
            title=f"60 words, {ANSWER_TOKENS} tokens, 16 at a time, against llama_cpp.server",
            measure=sequential,
            bars={"tok/s": 5.0},
            peer="llama_cpp.server",
        ),
        Row(
            name="schema",
            title=f"answers that obey a JSON schema, {CONSTRAINED_AT_A_TIME} at a time",
            measure=constrained,
            bars={"tok/s": 0.98},
        ),
        Row(
            name="burst",
            title=f"{BURST_USERS} users at once on a new system prompt of {BURST_WORDS} words",
            measure=burst,
            bars={"ttft p50": 3.0},
        ),
        Row(
            name="resume",
            title=f"one of {CONVERSATIONS} conversations, of {CONVERSATION_WORDS} words, goes on",
            measure=Resume().measure,
            bars={"ttft p50": 1.0},
        ),
        Row(
            name="load",
            title="start of the program to the first token",
            measure=load,
            most_more={"load s": 1.0},
        ),
    ]


def _ttft(answers: list[Answer]) -> Measures:
    times = [a.ttft * 1e3 for a in answers]
    return {"ttft p50": median(times), "ttft p95": quantiles(times, n=20, method="inclusive")[-1]}

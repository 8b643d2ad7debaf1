"""Mixed traffic with clients that leave, for minutes: memory stays flat, and all is given back.

    python benchmarks/soak.py [--minutes 8] [--clients 12] [--set NAME=VALUE]

Starts Jarvis with its llama.cpp engine, and lets clients chat: short and long prompts, answers that
are read and answers that are left after a moment, conversations that go on, sampling and JSON
schemas. Prints the memory of the server and of its engine host while it goes on. Ends with 1 if
memory grew in the second half, a request failed, or something was still held at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import sys
import tempfile
from pathlib import Path
from time import monotonic

import llamacpp
import uvloop
from attrs import field, mutable
from load import Answer, LoadError, ask
from processes import Server
from workloads import SCHEMA, chat, words

MOST_GROWTH = 40e6
"""Bytes that both processes together may grow by in the second half."""

HELD = tuple(
    f"jarvis_{name}" for name in ("requests_running", "requests_waiting", "kv_cache_usage_ratio")
)


@mutable
class Tally:
    """What happened.

    Attributes:
        whole: Answers that were read to the end.
        left: Answers that the client left.
        failed: What went wrong otherwise.
    """

    whole: int = 0
    left: int = 0
    failed: list[str] = field(factory=list)


def main() -> int:
    """Soak, and say what was seen."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE for jarvis serve")
    return uvloop.run(_soak(parser.parse_args()))


async def _soak(args: argparse.Namespace) -> int:
    # A small store is full soon, so that its growth is not taken for a leak.
    settings = ["JARVIS_LLAMACPP_STATE_STORE_MIB=64", *args.set]
    with tempfile.TemporaryDirectory(prefix="jarvis-soak-") as folder:
        server = llamacpp.servers(args.threads, settings, Path(folder))[0]
        await server.start(chat("Hello", tokens=1))
        try:
            return await _watch(server, args)
        finally:
            server.stop()


async def _watch(server: Server, args: argparse.Namespace) -> int:
    tally, begun = Tally(), monotonic()
    end = begun + args.minutes * 60
    sizes: list[tuple[float, float]] = []
    async with asyncio.TaskGroup() as group:
        for number in range(args.clients):
            group.create_task(_client(server, number, end, tally))
        while (now := monotonic()) < end:
            sizes.append((now, _resident(server)))
            print(
                f"{now - begun:6.0f} s  {sizes[-1][1] / 1e6:8.1f} MB  {tally.whole} whole, "
                f"{tally.left} left, {len(tally.failed)} failed, load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
            await asyncio.sleep(min(15.0, max(0.1, end - now)))
    held = await _settled(server)
    late = [size for at, size in sizes if at > begun + args.minutes * 30]
    growth = max(late) - late[0]
    print(f"grown in the second half: {growth / 1e6:.1f} MB, at most {MOST_GROWTH / 1e6:.0f}")
    print(f"held at the end: {held}, should be nothing")
    for failure in tally.failed[:10]:
        print(f"failed: {failure}")
    return int(growth > MOST_GROWTH or any(held.values()) or bool(tally.failed))


async def _client(server: Server, number: int, end: float, tally: Tally) -> None:
    """Asks one thing after the other, and leaves a third of the answers."""
    rng = random.Random(number)
    talk: list[str] = []
    while monotonic() < end:
        body, continues = _body(rng, talk)
        patience = rng.uniform(0.02, 2.0) if rng.random() < 0.35 else None
        try:
            async with asyncio.timeout(patience):
                answer = await ask(server.port, body)
        except TimeoutError:
            tally.left += 1
            continue
        except (LoadError, OSError) as error:
            tally.failed.append(f"{type(error).__name__}: {error}")
            await asyncio.sleep(0.5)
            continue
        tally.whole += 1
        talk = _next_turn(talk, body, answer) if continues else talk


def _body(rng: random.Random, talk: list[str]) -> tuple[dict[str, object], bool]:
    """A request, and whether it goes on with the client's conversation."""
    seed = f"{rng.random()}"
    tokens = rng.randint(1, 96)
    match rng.randrange(5):
        case 0:
            return chat(words(rng.randint(200, 700), seed), tokens=tokens), False
        case 1:
            schema = {"name": "thing", "schema": SCHEMA, "strict": True}
            text = f"Describe a {words(6, seed)} as JSON."
            body = {**chat(text, tokens=256), "ignore_eos": False}
            return {
                **body,
                "response_format": {"type": "json_schema", "json_schema": schema},
            }, False
        case 2:
            body = chat(words(rng.randint(3, 40), seed), tokens=tokens)
            return {**body, "temperature": 1.0, "top_p": 0.9, "seed": rng.randrange(99)}, False
        case _:
            return chat(*talk, words(rng.randint(3, 40), seed), tokens=tokens), True


def _next_turn(talk: list[str], body: dict[str, object], answer: Answer) -> list[str]:
    messages = body["messages"]
    assert isinstance(messages, list)
    said = [*talk, messages[-1]["content"], answer.text]
    return said if len(said) < 8 else []


async def _settled(server: Server) -> dict[str, float]:
    """What the engine holds once all clients are gone."""
    deadline = monotonic() + 30
    while True:
        await asyncio.sleep(1.5)  # the server hears of it with each heartbeat
        held = await _held(server.port)
        if not any(held.values()) or monotonic() > deadline:
            return held


async def _held(port: int) -> dict[str, float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    found = re.findall(rf"^({'|'.join(HELD)}){{[^}}]*}} (\S+)$", text, re.MULTILINE)
    if len(found) != len(HELD):
        raise RuntimeError(f"the metrics have {[name for name, _ in found]} of {HELD}")
    return {name: float(value) for name, value in found}


def _resident(server: Server) -> float:
    """Bytes of memory of all its processes."""
    pages = 0
    for pid in server.pids:
        pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


if __name__ == "__main__":
    sys.exit(main())

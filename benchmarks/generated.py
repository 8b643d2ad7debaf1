"""S-05: requests made of right and wrong values, of which nothing but answers and refusals come."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson
from attrs import field, mutable
from connection import CHAT, Connection, chat, request
from figures import Figure
from watched import FAKE, Watched, started

CLIENTS = 8
_USER = b'[{"role":"user","content":"hi"}]'

BODIES: dict[str, dict[str, bytes]] = {
    CHAT: {
        "messages": _USER,
        "max_tokens": b"4",
        "temperature": b"0.5",
        "n": b"2",
        "stop": b'["x"]',
        "stream": b"true",
        "stream_options": b'{"include_usage":true}',
        "logprobs": b"true",
        "tools": b'[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]',
        "response_format": b'{"type":"json_object"}',
        "seed": b"7",
        "logit_bias": b'{"1":5}',
    },
    "/v1/completions": {
        "prompt": b'["a b","c"]',
        "max_tokens": b"4",
        "echo": b"true",
        "n": b"2",
        "best_of": b"2",
        "logprobs": b"2",
        "suffix": b'"x"',
    },
    "/v1/embeddings": {
        "input": b'["a","b"]',
        "dimensions": b"4",
        "encoding_format": b'"base64"',
    },
    "/v1/rerank": {"query": b'"a"', "documents": b'["a","b"]', "top_n": b"1"},
    "/v1/responses": {
        "input": b'"hi"',
        "instructions": b'"x"',
        "max_output_tokens": b"16",
        "store": b"false",
        "stream": b"true",
        "previous_response_id": b'"resp_1"',
        "tools": b'[{"type":"function","name":"f","parameters":{"type":"object"}}]',
    },
    "/v1/messages": {
        "messages": _USER,
        "max_tokens": b"4",
        "system": b'"x"',
        "stop_sequences": b'["x"]',
        "tools": b'[{"name":"f","input_schema":{"type":"object"}}]',
        "thinking": b'{"type":"enabled","budget_tokens":1024}',
    },
    "/v1/messages/count_tokens": {"messages": _USER, "system": b'"x"'},
    "/tokenize": {"prompt": b'"a b"', "add_special_tokens": b"true"},
    "/detokenize": {"tokens": b"[0,1]"},
}
"""Paths, and the fields of a right request to each as JSON."""

WRONG = (
    *(b"null", b"true", b"0", b"-1", b"0.5", b"1e400", b"-0.0", b"NaN", b"Infinity", b"-Infinity"),
    *(b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809", b"1" * 400),
    *(b'""', b'"\\ud800"', b'"\\u0000"', b'"\xff"', b'"true"', b'"1"', b'"' + b"x" * 9000 + b'"'),
    *(b"[]", b"{}", b"[null]", b"[[]]", b"[{}]", b'{"":{}}', b'[{"role":1}]', b"[0.5,true]"),
    *(b"[" * 300 + b"]" * 300, b"[" * 100_000, b'{"type":"function"}', b'[{"type":"x"}]', b"["),
    *(b'[{"role":"user","content":null}]', b'[{"role":"tool","content":"\\udfff"}]'),
    *(b'[{"role":"user","content":[{"type":"text"}]}]', b'[{"role":"assistant"}]'),
)
"""Values as JSON, or what is not quite JSON."""


FAILURES = (b"\nevent: error\n", b"\nevent: response.failed\n")
"""What stands in a stream that fails."""


@mutable
class _Seen:
    """What came back.

    Attributes:
        statuses: How often each status came; 0 is no answer.
        samples: One request for each status that should not be.
        broken: Streams that ended with an error.
    """

    statuses: Counter[int] = field(factory=Counter)
    samples: dict[int, bytes] = field(factory=dict)
    broken: int = 0


async def generated(folder: Path, requests: int) -> list[Figure]:
    """Send so many requests."""
    server = Watched(folder, FAKE)
    seen = _Seen()
    rng = random.Random(5)
    sent = (_request(rng) for _ in range(requests))
    async with started(server):
        host = await _host(server)
        await asyncio.gather(*(_client(server, sent, seen) for _ in range(CLIENTS)))
        same = await _host(server) == host
        left = await server.in_flight(10)
        tracebacks = server.log.read_text(errors="replace").count("Traceback")
    for status, sample in seen.samples.items():
        print(f"  status {status}: {sample[:300]!r}")
    wrong = sum(seen.statuses[status] for status in seen.samples)
    return [
        Figure(label="answered with 200", value=seen.statuses[200], least=1),
        Figure(label="refused with 4xx", value=requests - seen.statuses[200] - wrong, least=1),
        Figure(label="any other answer, or none", value=wrong, most=0),
        Figure(label="streams that ended with an error", value=seen.broken, most=0),
        Figure(label="hosts that died", value=float(not same), most=0),
        Figure(label="tracebacks in the log", value=tracebacks, most=0),
        Figure(label="in flight at the end", value=left, most=0),
    ]


def _request(rng: random.Random) -> bytes:
    """A request with some of its fields, and wrong values in up to three of them."""
    path = rng.choice(list(BODIES))
    known = {"model": b'"bench"', **BODIES[path]}
    required = list(known)[:3]
    fields = {k: v for k, v in known.items() if k in required or rng.random() < 0.3}
    for _ in range(rng.randrange(4)):
        fields[rng.choice([*known, "unknown"])] = rng.choice(WRONG)
    body = b"{" + b",".join(b'"%b":%b' % (k.encode(), v) for k, v in fields.items()) + b"}"
    if rng.random() < 0.05:
        body = body[: rng.randrange(len(body))]
    raw = request(path, body)
    return raw.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


async def _client(server: Watched, sent: Iterator[bytes], seen: _Seen) -> None:
    """Send what is left, each request on a connection of its own."""
    for raw in sent:
        connection = await Connection.open(server.port)
        connection.writer.write(raw)
        try:
            answer = await connection.reader.read()
        except ConnectionError:
            answer = b""
        connection.leave()
        status = int(answer.split(None, 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0
        seen.statuses[status] += 1
        seen.broken += status == 200 and any(event in answer for event in FAILURES)
        if status != 200 and not 400 <= status < 500:
            seen.samples.setdefault(status, raw.partition(b"\r\n\r\n")[2])


async def _host(server: Watched) -> str:
    """Process id of the engine host."""
    connection = await Connection.open(server.port)
    reply = await connection.ask(CHAT, chat("!pid"))
    connection.leave()
    return str(orjson.loads(reply.body)["choices"][0]["message"]["content"])

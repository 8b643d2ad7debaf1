"""What a turn of a stored conversation costs on both engines, and what another key may reuse."""

from __future__ import annotations

from typing import Any

import pytest
from served import Server

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

KEYS = ("one", "two")
BLOCKS = {"llama": 1, "vllm": 128}
"""Tokens that each engine reuses at a time."""

STORY = (
    "Tell me more of the lighthouse keeper who found a map inside a bottle on the shore one "
    "morning after the great storm, and who had never left the island before. "
)


async def respond(server: Server, model: str, text: str, key: str = KEYS[0], **fields: Any) -> Any:
    body = {"model": model, "input": text, "temperature": 0, "max_output_tokens": 4} | fields
    answer = await server.client.post(
        "/v1/responses", json=body, headers={"authorization": f"Bearer {key}"}, timeout=300
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def cached(response: Any) -> int:
    return int(response["usage"]["input_tokens_details"]["cached_tokens"])


@pytest.mark.parametrize("model", BLOCKS)
async def test_a_turn_computes_only_what_is_new(server: Server, model: str) -> None:
    before = await respond(server, model, STORY * 5)
    found = []
    for turn in range(3):
        question = f"And what happened on day {turn}? {STORY}"
        after = await respond(server, model, question, previous_response_id=before["id"])
        read = before["usage"]["input_tokens"] + before["usage"]["output_tokens"]
        # The last token of an answer is never read, and an answer that was cut has no end of turn.
        assert cached(after) > read - 2 - BLOCKS[model]
        assert cached(after) % BLOCKS[model] == 0
        found.append(cached(after))
        before = after

    assert found == sorted(found)
    assert found[-1] > found[0]


@pytest.mark.parametrize("model", BLOCKS)
async def test_a_turn_reuses_nothing_of_another_key(server: Server, model: str) -> None:
    text = "Count the boats in the harbour. " + STORY * 5
    first = await respond(server, model, text)
    again = await respond(server, model, text)
    other = await respond(server, model, text, KEYS[1])
    other_again = await respond(server, model, text, KEYS[1])

    assert cached(again) > first["usage"]["input_tokens"] - 1 - BLOCKS[model]
    assert cached(other) == 0
    assert cached(other_again) == cached(again)

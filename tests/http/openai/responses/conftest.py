"""A client of /v1/responses whose every answer is checked against both published schemas."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import define
from schemas import event_faults, faults, response_faults

from jarvis_core.errors import JarvisError
from jarvis_core.structs import ChatRequest, Delta, FinishReason, ToolCallDelta, Usage

Script = Callable[[ChatRequest], AsyncIterator[Sequence[Delta]]]

USAGE = Usage(prompt_tokens=7, completion_tokens=4, cached_tokens=3, reasoning_tokens=2)


def says(*deltas: Delta, finish_reason: FinishReason = "stop") -> Script:
    """A script: these deltas, each in a batch of its own."""

    async def script(request: ChatRequest) -> AsyncIterator[Sequence[Delta]]:
        for delta in deltas:
            yield [delta]
        yield [Delta(finish_reason=finish_reason, usage=USAGE)]

    return script


def calls(name: str, *arguments: str, index: int = 0, id: str = "call_1") -> list[Delta]:  # noqa: A002
    """The deltas of one call."""
    first = ToolCallDelta(index=index, id=id, name=name)
    rest = [ToolCallDelta(index=index, arguments=text) for text in arguments]
    return [Delta(tool_calls=(piece,)) for piece in (first, *rest)]


TOOL = {
    "type": "function",
    "name": "weather",
    "description": "The weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


FILES = {
    "type": "namespace",
    "name": "mcp__files",
    "description": "Files of this machine",
    "tools": [
        {"type": "function", "name": "read", "description": "Read a file", "strict": None},
        {"type": "function", "name": "list", "parameters": {"type": "object"}},
    ],
}


@define
class Responses:
    """Asks for responses.

    Attributes:
        served: The server.
    """

    served: Any

    async def create(self, sent: Any = "hello there", /, **parameters: Any) -> dict[str, Any]:
        """A whole response."""
        answer = await self.post(sent, **parameters)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        assert response_faults(body) == []
        return body

    async def post(self, sent: Any = "hello there", /, **parameters: Any) -> Any:
        """What the server answers, whatever it is."""
        body = {"model": "tiny", "input": sent, **parameters}
        return await self.served.client.post("/v1/responses", json=body)

    async def refused(self, sent: Any = "hello there", /, **parameters: Any) -> dict[str, Any]:
        """The error of a request that is refused with 400."""
        answer = await self.post(sent, **parameters)
        assert answer.status_code == 400, answer.text
        assert faults("openai", "ErrorResponse", answer.json()) == []
        error: dict[str, Any] = answer.json()["error"]
        return error

    async def stream(self, sent: Any = "hello there", /, **parameters: Any) -> list[dict[str, Any]]:
        """The events of a streamed response, ``[DONE]`` among them where it was whole."""
        return checked(await self.post(sent, stream=True, **parameters))

    async def told(self, id: str) -> list[dict[str, Any]]:  # noqa: A002
        """The events of a stored response."""
        path = f"/v1/responses/{id}"
        return checked(await self.served.client.get(path, params={"stream": "true"}))

    async def get(self, path: str, **query: Any) -> Any:
        """The JSON below /v1/responses."""
        answer = await self.served.client.get(f"/v1/responses/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()


def checked(answer: Any) -> list[dict[str, Any]]:
    """The events of a stream, valid by both publications."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = read_events(answer.text)
    assert event_faults(event for event in events if event["type"] != "[DONE]") == []
    return events


def read_events(text: str) -> list[dict[str, Any]]:
    """The events of a stream, numbered without a gap and named as their data says."""
    events = []
    for block in text.strip().split("\n\n"):
        lines = [line for line in block.split("\n") if not line.startswith(":")]
        if lines == ["data: [DONE]"]:
            events.append({"type": "[DONE]"})
        elif lines:
            name, data = lines
            event = json.loads(data.removeprefix("data: "))
            assert name == f"event: {event['type']}"
            assert event["sequence_number"] == len(events)
            events.append(event)
    return events


@pytest.fixture
def responses() -> type[Responses]:
    """Makes clients: ``responses(await serve())``."""
    return Responses


@pytest.fixture
def script(kit: SimpleNamespace) -> SimpleNamespace:
    """What scripts are made of; test modules cannot import each other."""

    def model(said: Script | None = None, refusal: JarvisError | None = None) -> Any:
        made = kit.make_model()
        made.script = said or made.script
        made.refusal = refusal
        return made

    return SimpleNamespace(says=says, calls=calls, model=model, TOOL=TOOL, FILES=FILES)

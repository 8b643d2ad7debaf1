"""A stored response, told as events again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jarvis_core.http.openai.responses.output import Event, Output, Status
from jarvis_core.http.openai.responses.tools import full_name
from jarvis_core.structs import Delta, TokenLogprob, ToolCallDelta

ENDINGS = frozenset({"completed", "incomplete", "failed"})
"""Statuses for which there is an event."""


def replay(body: Mapping[str, Any]) -> Iterator[Event]:
    """The events of a response that ended in one of ``ENDINGS``, each item in one piece."""
    began = {
        **body,
        **dict.fromkeys(("completed_at", "error", "incomplete_details")),
        "status": "in_progress",
        "output": [],
    }
    yield "response.created", {"response": began}
    yield "response.in_progress", {"response": began}
    items = body["output"]
    output = Output(
        lambda _, index: str(items[index]["id"]),
        logprobs=True,
        tells_reasoning=any(item.get("summary") for item in items),
        namespaces={
            full_name(item["name"], item["namespace"]): (item["namespace"], item["name"])
            for item in items
            if item.get("namespace")
        },
    )
    calls = 0
    for item in items:
        yield from output.add(_delta(item, calls))
        calls += item["type"] == "function_call"
    last: Status = "incomplete" if items and items[-1]["status"] == "incomplete" else "completed"
    if items:
        yield from output.finish(last)
    yield f"response.{body['status']}", {"response": body}


def _delta(item: Mapping[str, Any], calls: int) -> Delta:
    match item["type"]:
        case "reasoning":
            (part,) = item["summary"] or item["content"]
            return Delta(reasoning=part["text"])
        case "function_call":
            name = full_name(item["name"], item.get("namespace"))
            call = ToolCallDelta(
                index=calls, id=item["call_id"], name=name, arguments=item["arguments"]
            )
            return Delta(tool_calls=(call,))
    (part,) = item["content"]
    return Delta(content=part["text"], logprobs=tuple(map(_logprob, part["logprobs"])))


def _logprob(told: Mapping[str, Any]) -> TokenLogprob:
    return TokenLogprob(
        token_id=0,  # not told
        token=told["token"],
        logprob=told["logprob"],
        data=bytes(told["bytes"]),
        top=tuple(map(_logprob, told.get("top_logprobs", ()))),
    )

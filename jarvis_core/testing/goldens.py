"""How golden cases of chat formats are judged: prompts and parsed answers of their publishers.

A render case has ``messages``, perhaps ``tools``, ``kwargs``, and either the ``expected`` prompt or
the ``error`` with which the publisher's template refuses. ``artefact`` marks a prompt that nobody
means; ``normalized`` is what a server may print instead. A parse case has the ``raw`` answer of a
model, the ``engine_finish``, what is ``expected`` of it, and perhaps ``alternatives``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Case = Mapping[str, Any]


def render_agrees(case: Case, outcome: str | Exception) -> bool:
    """Whether a prompt, or the error instead of one, is right.

    A refused conversation may be refused or normalized. So may one whose prompt is an artefact;
    any other prompt has to be equal to the last byte.
    """
    normalized = case.get("normalized", {}).get("expected")
    exact = "expected" in case
    if isinstance(outcome, Exception):
        return not exact or "artefact" in case
    if exact and outcome == case["expected"]:
        return True
    return (not exact or "artefact" in case) and outcome == normalized


def parse_agrees(case: Case, result: Mapping[str, Any]) -> bool:
    """Whether a parsed answer is what the case expects, or one of its alternatives."""
    wanted = [case["expected"], *case.get("alternatives", [])]
    return any(_agrees(want, result, case["ws"]) for want in wanted)


def chunkings(raw: str) -> Iterator[list[str]]:
    """Ways to cut a text: whole, by character, in two at every place, in runs of 2 to 7."""
    yield [raw]
    for size in range(1, 8):
        yield [raw[i : i + size] for i in range(0, len(raw), size)]
    for at in range(1, len(raw)):
        yield [raw[:at], raw[at:]]


def _agrees(want: Mapping[str, Any], got: Mapping[str, Any], space: str) -> bool:
    if want["finish_reason"] != got["finish_reason"]:
        return False
    if _spaced(want.get("reasoning"), space) != _spaced(got.get("reasoning"), space):
        return False
    content = got.get("content") or ""
    if "content_contains" in want:
        if not all(piece in content for piece in want["content_contains"]):
            return False
    elif _spaced(want.get("content"), space) != _spaced(content, space):
        return False
    partial = want.get("tool_calls_partial")
    calls = want["tool_calls"] if partial is None else partial
    made = got.get("tool_calls") or []
    return len(calls) == len(made) and all(map(_same_call, calls, made))


def _spaced(text: str | None, space: str) -> str:
    text = text or ""
    if space == "exact":
        return text
    return text.strip() if space == "strip" else "".join(text.split())


def _same_call(want: Mapping[str, Any], got: Mapping[str, Any]) -> bool:
    if want["name"] != got["name"]:
        return False
    if "id" in want and got.get("id") not in (None, want["id"]):
        return False
    if "arguments_text" in want:
        return "".join(want["arguments_text"].split()) == "".join(got["arguments"].split())
    try:
        return bool(json.loads(got["arguments"]) == want["arguments"])
    except ValueError:
        return False

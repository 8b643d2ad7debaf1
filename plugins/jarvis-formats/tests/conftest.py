"""Golden cases and short ways to use a format, which the tests share.

The cases were made with the templates of the publishers. ``jarvis_core.testing`` tells how they are
judged.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from jarvis_core import ChatRequest, FormatContext, Message, ModelInfo, Prompt
from jarvis_formats import jarvis_detect_chat_format, jarvis_register_chat_formats

GOLDEN = Path(__file__).with_name("golden")


def _read(kind: str, name: str) -> list[dict[str, Any]]:
    """The cases of a file, each with what the file says of all of them."""
    file = json.loads((GOLDEN / kind / f"{name}.json").read_text(encoding="utf-8"))
    head = {key: value for key, value in file.items() if key not in ("cases", "notes")}
    return [head | case for case in file["cases"]]


@pytest.fixture(scope="session")
def render_cases() -> Callable[[str], list[dict[str, Any]]]:
    """The golden prompts of a variant."""
    return lambda name: _read("render", name)


@pytest.fixture(scope="session")
def parse_cases() -> Callable[[str], list[dict[str, Any]]]:
    """The golden answers of a family."""
    return lambda name: _read("parse", name)


FORMATS = {f.name: f for f in jarvis_register_chat_formats()}


def _context(model: dict[str, Any] | None) -> FormatContext:
    info = {"name": "m", "source": "/m", "engine": "fake", "context_length": 8, **(model or {})}
    return FormatContext(model=ModelInfo(**info), now=datetime(2031, 5, 6))


@pytest.fixture(scope="session")
def render() -> Callable[..., Prompt]:
    """Renders messages: ``render("qwen3", message, model={...}, tools=...)``."""

    def made(name: str, *messages: Message, model: Any = None, **more: Any) -> Prompt:
        request = ChatRequest(model="m", messages=messages, **more)
        return FORMATS[name].render(request, _context(model))

    return made


@pytest.fixture(scope="session")
def answer() -> Callable[..., tuple[str, str, list[str]]]:
    """Reasoning, content, names of calls in an answer: ``answer("qwen3", "Yes", message)``."""

    def made(
        name: str, raw: str, *messages: Message, model: Any = None, **more: Any
    ) -> tuple[str, str, list[str]]:
        request, context = ChatRequest(model="m", messages=messages, **more), _context(model)
        prompt = FORMATS[name].render(request, context)
        parser = FORMATS[name].parser(request, context, prompt)
        deltas = [*parser.feed(raw), *parser.finish()]
        names = [call.name for d in deltas for call in d.tool_calls if call.name]
        return "".join(d.reasoning for d in deltas), "".join(d.content for d in deltas), names

    return made


@pytest.fixture(scope="session")
def detected() -> Callable[..., str | None]:
    """The format that is found for a model: ``detected(chat_template=..., source=...)``."""
    return lambda **known: jarvis_detect_chat_format(_context(known).model)

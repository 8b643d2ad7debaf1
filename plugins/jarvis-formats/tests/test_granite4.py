"""Granite 4: its system turn, which always stands there, and parts that are empty."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jarvis_core import Message, Prompt, TextPart, Tool, UnsupportedParameter
from jarvis_formats.granite4 import DEFAULT_SYSTEM

USER = Message(role="user", content="Hi")
PING = Tool(spec={"type": "function", "function": {"name": "ping"}})
TEMPLATE = (
    f"<|start_of_role|> g4_default_system_message {DEFAULT_SYSTEM} "
    "If a tool does not exist in the provided list of tools"
)
Render = Callable[..., Prompt]


def test_an_empty_system_message_gives_the_default_one(render: Render) -> None:
    empty = Message(role="system", content="")
    start = f"<|start_of_role|>system<|end_of_role|>{DEFAULT_SYSTEM}<|end_of_text|>\n"
    assert render("granite4", empty, USER).text.startswith(start)
    with_tools = render("granite4", empty, USER, tools=(PING,)).text
    assert with_tools.startswith("<|start_of_role|>system<|end_of_role|>\n\nYou are a helpful")


def test_tools_and_documents_stand_together(render: Render) -> None:
    documents = [{"text": "Owls <hunt>."}]
    prompt = render("granite4", USER, tools=(PING,), template_kwargs={"documents": documents})
    first = prompt.text.index("access to the following tools")
    second = prompt.text.index("\n\nYou are a helpful assistant with access to the following doc")
    assert first < second < prompt.text.index('\n{"text": "Owls <hunt>."}\n</documents>')


def test_empty_parts_before_the_first_text_are_skipped(render: Render) -> None:
    parts = tuple(TextPart(text=text) for text in ("", "", "a", "", "b"))
    text = render("granite4", Message(role="user", content=parts)).text
    assert "<|end_of_role|>a\n\nb<|end_of_text|>" in text


def test_it_cannot_be_told_to_think(render: Render) -> None:
    with pytest.raises(UnsupportedParameter, match="does not know enable_thinking"):
        render("granite4", USER, template_kwargs={"enable_thinking": True})
    assert render("granite4", USER, template_kwargs={"enable_thinking": False}).text


def test_it_is_found_by_template_or_name(detected: Callable[..., str | None]) -> None:
    tokens = ("<|start_of_role|>", "<|end_of_role|>")
    assert detected(chat_template=TEMPLATE) == "granite4"
    assert detected(chat_template=TEMPLATE + "<think>") is None
    assert detected(control_tokens=tokens, title="Granite 4.0 H Tiny") == "granite4"
    assert detected(control_tokens=tokens, title="Granite 3.3 2B Instruct") is None
    assert detected(title="Granite 4.0 Micro") is None

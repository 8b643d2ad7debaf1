"""SmolLM3: its two templates, and the flags in its system text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jarvis_core import Message, Prompt, RequestError, Tool, ToolCall

USER = Message(role="user", content="Hi")
PING = Tool(spec={"type": "function", "function": {"name": "ping", "strict": True}})
CALL = '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>'
EDITED = (
    "<|im_start|> Knowledge Cutoff Date: June 2025 /no_think "
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face."
)
PUBLISHED = EDITED + ' "Today Date: " ~ today "### Tools" "/system_override"'
Render = Callable[..., Prompt]
Parse = Callable[..., tuple[str, str, list[str]]]


def system(text: str) -> Message:
    return Message(role="system", content=text)


@pytest.mark.parametrize(
    ("text", "asked", "thinks"),
    [
        ("Be brief.", {}, True),
        ("Be brief.", {"enable_thinking": False}, False),
        ("Be brief. /no_think", {}, False),
        ("Be brief. /no_think", {"enable_thinking": True}, False),
        ("/think Be brief.", {"enable_thinking": False}, True),
    ],
)
@pytest.mark.parametrize("name", ["smollm3-edited", "smollm3-published"])
def test_a_flag_in_the_system_text_has_the_last_word(
    render: Render, name: str, text: str, asked: dict[str, Any], thinks: bool
) -> None:
    prompt = render(name, system(text), USER, template_kwargs=asked)
    assert f"Reasoning Mode: {'/think' if thinks else '/no_think'}\n" in prompt.text
    assert "Be brief.\n\n" in prompt.text
    assert prompt.text.endswith("<think>\n\n</think>\n") is not thinks


def test_effort_none_is_no_thinking(render: Render) -> None:
    assert "Mode: /no_think" in render("smollm3", USER, reasoning_effort="none").text


def test_the_publishers_template_has_the_date_and_ends_the_system_turn_after_tools_only(
    render: Render,
) -> None:
    text = render("smollm3-published", system("Be brief."), USER).text
    assert "Today Date: 06 May 2031\n" in text
    assert "Be brief.\n\n<|im_start|>user" in text
    with_tools = render("smollm3-published", system("Be brief."), USER, tools=(PING,)).text
    spec = "{'type': 'function', 'function': {'name': 'ping', 'strict': True}}"
    assert f"<tools>\n{spec}\n</tools>" in with_tools
    assert "</tool_call>\n\n<|im_end|>\n<|im_start|>user" in with_tools
    alone = render("smollm3-published", system("Be /no_think a cat. /system_override"), USER).text
    assert alone.startswith("<|im_start|>system\nBe  a cat.<|im_end|>\n<|im_start|>user\n")


def test_past_calls_stand_as_the_model_wrote_them_where_it_is_shown_tools(render: Render) -> None:
    made = (ToolCall(id="1", name="ping", arguments="{}"),)
    turn = Message(role="assistant", content="Wait.", tool_calls=made)
    text = render("smollm3-published", USER, turn, tools=(PING,)).text
    assert f"<|im_start|>assistant\nWait.\n{CALL}<|im_end|>\n" in text
    with pytest.raises(RequestError, match="cannot print tool calls") as caught:
        render("smollm3-edited", USER, turn)
    assert caught.value.param == "messages[1].tool_calls"


def test_a_second_system_message_is_refused(render: Render) -> None:
    with pytest.raises(RequestError, match="one system message") as caught:
        render("smollm3", system("a"), USER, system("b"))
    assert caught.value.param == "messages[2].role"


def test_the_models_own_template_decides(render: Render) -> None:
    assert "Today" in render("smollm3", USER, model={"chat_template": PUBLISHED}).text
    assert "Today" not in render("smollm3", USER, model={"chat_template": EDITED}).text


def test_reasoning_and_calls_are_told_from_the_answer(answer: Parse) -> None:
    raw = f"<think>\nHm.\n</think>\nNow.\n{CALL}"
    assert answer("smollm3", raw, USER, tools=(PING,)) == ("Hm.", "Now.\n", ["ping"])


def test_it_is_found_by_template_or_name(detected: Callable[..., str | None]) -> None:
    tokens = ("<|im_start|>", "<|im_end|>")
    assert detected(chat_template=PUBLISHED) == "smollm3"
    assert detected(chat_template=EDITED) == "smollm3"
    assert detected(control_tokens=tokens, source="/m/SmolLM3-Q4_K_M.gguf") == "smollm3"
    assert detected(control_tokens=tokens, title="SmolLM3 3B Base") is None
    assert detected(title="SmolLM3 3B") is None
    assert detected(chat_template=EDITED + "### Tools") is None

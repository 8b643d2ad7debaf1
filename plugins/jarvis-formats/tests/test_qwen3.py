"""Qwen 3: when it thinks, and which past thoughts it sees."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jarvis_core import Message, Prompt, RequestError, Tool, ToolCall, UnsupportedParameter

USER = Message(role="user", content="Hi")
PING = Tool(spec={"type": "function", "function": {"name": "ping"}})
NO_THOUGHT = "<think>\n\n</think>\n\n"
CALL = '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>'
TEMPLATE = """
multi_step_tool last_query_index message.content.startswith('<tool_response>')
"You may call one or more functions to assist with the user query."
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<|im_start|>assistant\\n' }}{{- '<think>\\n\\n</think>\\n\\n' }}
"""
Render = Callable[..., Prompt]
Parse = Callable[..., tuple[str, str, list[str]]]


@pytest.mark.parametrize(
    ("asked", "thinks"),
    [
        ({}, True),
        ({"template_kwargs": {"enable_thinking": True}}, True),
        ({"template_kwargs": {"enable_thinking": False}}, False),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "high"}, True),
    ],
)
def test_it_thinks_unless_it_is_told_not_to(
    render: Render, asked: dict[str, object], thinks: bool
) -> None:
    prompt = render("qwen3", USER, **asked)
    assert prompt.text.endswith(f"<|im_start|>assistant\n{'' if thinks else NO_THOUGHT}")
    assert not prompt.starts_in_reasoning


def test_thoughts_are_seen_behind_the_last_question_only(render: Render) -> None:
    call = ToolCall(id="1", name="ping", arguments="{}")
    turn = Message(role="assistant", reasoning="Let us see.", tool_calls=(call,))
    result = Message(role="tool", content="pong", tool_call_id="1")
    assert f"<think>\nLet us see.\n</think>\n\n{CALL}" in render("qwen3", USER, turn, result).text
    wrapped = Message(role="user", content="<tool_response>\npong\n</tool_response>")
    assert "Let us see." in render("qwen3", USER, turn, wrapped).text
    later = render("qwen3", USER, turn, result, USER).text
    assert "Let us see." not in later
    assert f"<|im_start|>assistant\n{CALL}" in later


def test_thoughts_that_came_as_text_are_told_from_the_answer(render: Render) -> None:
    both = Message(role="assistant", content="<think>\nHm.\n</think>\n\nYes.")
    assert "<think>\nHm.\n</think>\n\nYes.<|im_end|>" in render("qwen3", USER, both).text
    later = render("qwen3", USER, both, USER).text
    assert "<|im_start|>assistant\nYes.<|im_end|>" in later
    assert "Hm." not in later


def test_reasoning_and_calls_are_told_from_the_answer(answer: Parse) -> None:
    raw = f"<think>\nHm.\n</think>\n\nNow.\n{CALL}"
    assert answer("qwen3", raw, USER, tools=(PING,)) == ("Hm.", "Now.\n", ["ping"])
    assert answer("qwen3", raw, USER) == ("Hm.", f"Now.\n{CALL}", [])


def test_a_thought_that_a_client_has_begun_goes_on_as_a_thought(
    render: Render, answer: Parse
) -> None:
    begun = Message(role="assistant", content="<think>\nIt may be")
    prompt = render("qwen3", USER, begun, continue_final_message=True)
    assert prompt.starts_in_reasoning
    raw = " so.\n</think>\n\nYes."
    asked = {"continue_final_message": True}
    assert answer("qwen3", raw, USER, begun, **asked)[:2] == ("so.", "Yes.")


def test_other_template_kwargs_are_refused(render: Render) -> None:
    with pytest.raises(UnsupportedParameter, match="does not know thinking_budget"):
        render("qwen3", USER, template_kwargs={"thinking_budget": 5})
    with pytest.raises(RequestError, match="no role 'critic'"):
        render("qwen3", USER, Message(role="critic", content="Hm"))


def test_hybrid_models_are_found(detected: Callable[..., str | None]) -> None:
    tokens = ("<|im_start|>", "<|im_end|>")
    assert detected(chat_template=TEMPLATE) == "qwen3"
    assert detected(control_tokens=tokens, source="/m/Qwen3-0.6B-Q8_0.gguf") == "qwen3"
    assert detected(control_tokens=tokens, title="Qwen3 30B A3B") == "qwen3"


@pytest.mark.parametrize(
    "name",
    [
        "Qwen3-4B-Instruct-2507",
        "Qwen3-4B-Thinking-2507",
        "Qwen3-Coder-30B-A3B",
        "Qwen3-8B-Base",
        "Qwen3-VL-8B",
        "Qwen3-Embedding-0.6B",
        "Qwen3.5-4B",
        "Qwen3-Next-80B-A3B",
    ],
)
def test_models_of_its_name_that_print_something_else_are_left_alone(
    detected: Callable[..., str | None], name: str
) -> None:
    assert detected(control_tokens=("<|im_start|>", "<|im_end|>"), title=name) is None


@pytest.mark.parametrize(
    "more",
    ["<function=", "<|vision_start|>", "{{ bos_token }}", "'<|im_start|>assistant\\n<think>"],
)
def test_templates_that_print_more_are_left_alone(
    detected: Callable[..., str | None], more: str
) -> None:
    assert detected(chat_template=TEMPLATE + more) is None

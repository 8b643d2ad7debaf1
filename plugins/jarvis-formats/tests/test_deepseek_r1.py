"""DeepSeek R1: it always thinks, and its template has slips that are printed too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jarvis_core import Message, Prompt, RequestError, Tool, ToolCall

USER = Message(role="user", content="Hi")
PING = Tool(spec={"type": "function", "function": {"name": "ping"}})
RESULT = Message(role="tool", content="pong", tool_call_id="1")
CALL = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>ping\n```json\n{}\n```<｜tool▁call▁end｜>"
TEMPLATE = (
    "ns.is_output_first <｜tool▁calls▁begin｜> content.split('</think>')[-1] "
    "{{'<｜Assistant｜><think>\\n'}}"
)
Render = Callable[..., Prompt]
Parse = Callable[..., tuple[str, str, list[str]]]


def calls(count: int = 1, **more: Any) -> Message:
    made = (ToolCall(id="1", name="ping", arguments=""),) * count
    return Message(role="assistant", tool_calls=made, **more)


def test_an_answer_starts_inside_the_reasoning(render: Render, answer: Parse) -> None:
    prompt = render("deepseek_r1", USER)
    assert prompt.text.endswith("<｜Assistant｜><think>\n")
    assert prompt.starts_in_reasoning
    assert answer("deepseek_r1", "Hm.\n</think>\n\nYes", USER) == ("Hm.", "Yes", [])


def test_after_a_result_the_reasoning_is_not_opened(render: Render, answer: Parse) -> None:
    prompt = render("deepseek_r1", USER, calls(), RESULT)
    assert prompt.text.endswith("pong<｜tool▁output▁end｜><｜tool▁outputs▁end｜>")
    assert not prompt.starts_in_reasoning
    assert answer("deepseek_r1", "Yes", USER, calls(), RESULT) == ("", "Yes", [])
    assert answer("deepseek_r1", "<think>Hm.</think>Yes", USER, calls(), RESULT)[0] == "Hm."


def test_a_continued_answer_is_no_reasoning(render: Render) -> None:
    said = Message(role="assistant", content="I say")
    thought = Message(role="assistant", content="<think>\nI guess")
    go_on = {"continue_final_message": True}
    assert not render("deepseek_r1", USER, said, **go_on).starts_in_reasoning
    assert render("deepseek_r1", USER, thought, **go_on).starts_in_reasoning
    assert not render("deepseek_r1", USER, add_generation_prompt=False).starts_in_reasoning


def test_it_cannot_be_told_not_to_think(render: Render) -> None:
    with pytest.raises(RequestError, match="always thinks") as caught:
        render("deepseek_r1", USER, template_kwargs={"enable_thinking": False})
    assert caught.value.param == "chat_template_kwargs.enable_thinking"
    with pytest.raises(RequestError, match="always thinks") as caught:
        render("deepseek_r1", USER, reasoning_effort="none")
    assert caught.value.param == "reasoning_effort"
    assert render("deepseek_r1", USER, template_kwargs={"enable_thinking": True}).text


def test_only_the_first_calls_and_results_are_opened_as_the_template_has_it(
    render: Render,
) -> None:
    text = render("deepseek_r1", USER, calls(2), RESULT, calls(), RESULT).text
    assert text.count("<｜tool▁calls▁begin｜>") == 1
    assert text.count("<｜tool▁outputs▁begin｜>") == 1
    assert f"{CALL}\n{CALL}<｜tool▁calls▁end｜><｜end▁of▁sentence｜>" in text


def test_what_the_template_would_lose_is_refused(render: Render) -> None:
    with pytest.raises(RequestError, match="text beside tool calls") as caught:
        render("deepseek_r1", USER, calls(content="Wait"))
    assert caught.value.param == "messages[1].content"
    system = Message(role="system", content="Be brief.")
    developer = Message(role="developer", content="Be kind.")
    with pytest.raises(RequestError, match="one system message only") as caught:
        render("deepseek_r1", system, developer, USER)
    assert caught.value.param == "messages[1].role"
    assert render("deepseek_r1", USER, system).text.startswith(
        "<｜begin▁of▁sentence｜>Be brief.<｜User｜>"
    )


def test_calls_are_read_with_and_without_what_stands_around_them(answer: Parse) -> None:
    asked = {"tools": (PING,)}
    whole = f"</think>Wait.\n<｜tool▁calls▁begin｜>{CALL}\n{CALL}<｜tool▁calls▁end｜>"
    assert answer("deepseek_r1", whole, USER, **asked) == ("", "Wait.\n", ["ping", "ping"])
    as_printed = f"</think>{CALL}\n{CALL}"
    assert answer("deepseek_r1", as_printed, USER, **asked) == ("", "", ["ping", "ping"])
    assert answer("deepseek_r1", whole, USER)[2] == []


def test_models_whose_template_opens_the_reasoning_are_found(
    detected: Callable[..., str | None],
) -> None:
    assert detected(chat_template=TEMPLATE) == "deepseek_r1"
    for more in ("{% if thinking %}", "ns.is_first_sp", "ns.is_last_user", "{% if tools %}"):
        assert detected(chat_template=TEMPLATE + more) is None
    assert detected(title="DeepSeek R1 Distill Qwen 7B") is None

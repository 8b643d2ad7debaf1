"""Command R7B: blocks of reasoning, action and response."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jarvis_core import Message, Prompt, RequestError, Tool, ToolCall

USER = Message(role="user", content="Hi")
PING = Tool(spec={"type": "function", "function": {"name": "ping"}})
ACTION = (
    '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "ping", "parameters": {}}\n]'
    "<|END_ACTION|>"
)
TEMPLATE = (
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|> <|START_THINKING|> <|END_THINKING|> "
    "<|START_RESPONSE|> <|END_RESPONSE|> <|START_ACTION|> <|END_ACTION|> direct-injected-document "
    "You are in contextual safety mode. # Default Preamble Your name is Command."
)
Render = Callable[..., Prompt]
Parse = Callable[..., tuple[str, str, list[str]]]


def calls(*ids: str, **more: Any) -> Message:
    made = tuple(ToolCall(id=i, name="ping", arguments="{}") for i in ids)
    return Message(role="assistant", tool_calls=made, **more)


def result(call_id: str, text: str) -> Message:
    return Message(role="tool", content=text, tool_call_id=call_id)


@pytest.mark.parametrize(
    ("asked", "thinks"),
    [
        ({}, False),
        ({"template_kwargs": {"enable_thinking": True}}, True),
        ({"reasoning_effort": "medium"}, True),
        ({"reasoning_effort": "none"}, False),
    ],
)
def test_it_thinks_if_it_is_told_to(render: Render, asked: dict[str, object], thinks: bool) -> None:
    text = render("command_r", USER, **asked).text
    nothing = "<|START_THINKING|><|END_THINKING|>"
    assert text.endswith("<|CHATBOT_TOKEN|>" + ("" if thinks else nothing))


def test_calls_are_numbered_over_the_conversation(render: Render) -> None:
    text = render("command_r", USER, calls("a", "b"), result("b", "1"), calls("c")).text
    assert '[\n    {"tool_call_id": "0", "tool_name"' in text
    assert '},\n    {"tool_call_id": "1", "tool_name"' in text
    assert '[\n    {"tool_call_id": "2", "tool_name"' in text
    assert '"tool_call_id": "1",\n        "results": {\n            "0": "1"\n' in text


def test_neighbouring_results_share_a_turn_and_none_is_lost(render: Render) -> None:
    one, two = result("a", "one"), result("b", "two")
    text = render("command_r", USER, calls("a", "b"), one, two, calls("a"), result("b", "3")).text
    assert text.count("<|START_TOOL_RESULT|>[") == text.count("]<|END_TOOL_RESULT|>") == 2
    assert all(f'"0": "{word}"' in text for word in ("one", "two", "3"))


def test_reasoning_is_shown_with_calls_and_text_beside_them_is_refused(render: Render) -> None:
    text = render("command_r", USER, calls("a", reasoning="Look <first>.")).text
    assert "<|START_THINKING|>Look <first>.<|END_THINKING|><|START_ACTION|>[" in text
    with pytest.raises(RequestError, match="text beside tool calls") as caught:
        render("command_r", USER, calls("a", content="Wait"))
    assert caught.value.param == "messages[1].content"


def test_documents_count_as_the_result_of_a_call(render: Render) -> None:
    documents = {"documents": [{"text": "Owls"}]}
    text = render("command_r", USER, calls("a"), tools=(PING,), template_kwargs=documents).text
    assert '"0": {"text": "Owls"}' in text
    assert '{"tool_call_id": "1", "tool_name": "ping"' in text
    assert text.count("direct-injected-document") == 2


def test_blocks_are_told_from_each_other(answer: Parse) -> None:
    thought = "<|START_THINKING|>Hm.<|END_THINKING|>"
    asked = {"tools": (PING,)}
    assert answer("command_r", thought + ACTION, USER, **asked) == ("Hm.", "", ["ping"])
    said = "<|START_RESPONSE|> a <|START_ACTION|> b <|END_RESPONSE|>"
    assert answer("command_r", thought + said, USER, **asked) == (
        "Hm.",
        " a <|START_ACTION|> b ",
        [],
    )
    assert answer("command_r", ACTION, USER) == ("", ACTION, [])


def test_a_response_that_was_cut_is_not_lost(answer: Parse) -> None:
    assert answer("command_r", "<|START_RESPONSE|>Yes <|END_", USER)[1] == "Yes <|END_"
    assert answer("command_r", "<|START_RES", USER)[1] == "<|START_RES"


def test_a_continued_response_ends_where_it_ends(answer: Parse) -> None:
    begun = Message(role="assistant", content="I am")
    raw = " here.<|END_RESPONSE|>"
    asked = {"continue_final_message": True}
    assert answer("command_r", raw, USER, begun, **asked) == ("", " here.", [])


def test_it_is_found_by_template_or_name(detected: Callable[..., str | None]) -> None:
    tokens = ("<|START_THINKING|>",)
    assert detected(chat_template=TEMPLATE) == "command_r"
    assert detected(chat_template=TEMPLATE + "<|START_TEXT|>") is None
    assert detected(control_tokens=tokens, source="c4ai-command-r7b-12-2024") == "command_r"
    assert detected(control_tokens=tokens, source="c4ai-command-r-plus") is None
    assert detected(source="c4ai-command-r7b-12-2024") is None

"""What one message holds, spread over several: nothing lost, nothing made up."""

from __future__ import annotations

from datetime import datetime

import pytest

from jarvis_core import (
    ChatRequest,
    FormatContext,
    Message,
    ModelInfo,
    Prompt,
    PromptBuilder,
    RequestError,
    TextPart,
    ToolCall,
    call_by_call,
    system_as_user,
    text_before_calls,
    text_of,
)
from jarvis_core.chat import prompt_of
from jarvis_core.testing import FakeFormat

USER = Message(role="user", content="Hi")
ONE = ToolCall(id="1", name="f", arguments="{}")
TWO = ToolCall(id="2", name="g", arguments='{"x": 1}')


def result(call_id: str | None, text: str) -> Message:
    return Message(role="tool", content=text, tool_call_id=call_id)


def called(*calls: ToolCall, content: str | None = None, reasoning: str | None = None) -> Message:
    return Message(role="assistant", content=content, tool_calls=calls, reasoning=reasoning)


def request(*messages: Message) -> ChatRequest:
    return ChatRequest(model="m", messages=messages)


def test_text_beside_calls_comes_before_them() -> None:
    told = text_before_calls(request(USER, called(ONE, TWO, content="Wait.", reasoning="Hm")))
    assert told.messages == (
        USER,
        Message(role="assistant", content="Wait."),
        called(ONE, TWO, reasoning="Hm"),
    )


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_calls_without_text_stay_as_they_are(content: str | None) -> None:
    asked = request(USER, called(ONE, content=content), result("1", "42"))
    assert text_before_calls(asked) == asked


def test_each_call_has_its_own_message_and_its_result_behind_it() -> None:
    told = call_by_call(
        request(
            called(ONE, TWO, content="Wait.", reasoning="Hm"),
            result("2", "second"),
            result("1", "first"),
            USER,
        )
    )
    assert told.messages == (
        called(ONE, content="Wait.", reasoning="Hm"),
        result("1", "first"),
        called(TWO),
        result("2", "second"),
        USER,
    )


def test_results_of_no_call_are_kept() -> None:
    told = call_by_call(request(called(ONE, TWO), result("9", "odd"), result(None, "odder")))
    assert [m.content for m in told.messages] == [None, None, "odd", "odder"]


def test_single_calls_stay_as_they_are() -> None:
    asked = request(USER, called(ONE, content="Wait."), result("1", "42"), USER)
    assert call_by_call(asked) == asked


@pytest.mark.parametrize(("last", "at"), [(False, 0), (True, 2)])
def test_the_system_text_stands_before_a_text_of_the_user(last: bool, at: int) -> None:
    reply = Message(role="assistant", content="Yes?")
    parts = Message(role="user", content=(TextPart(text="Hi"),))
    system = Message(role="developer", content="Be brief.")
    told = system_as_user(request(system, parts, reply, parts), last=last).messages
    assert [m.role for m in told] == ["user", "assistant", "user"]
    assert text_of(told[at]) == "Be brief.\n\nHi"
    assert text_of(told[2 - at]) == "Hi"


def test_without_a_system_text_or_a_user_nothing_changes() -> None:
    for asked in (request(USER), request(), request(Message(role="system", content="A"))):
        assert system_as_user(asked) == asked


# -- what the core does with it ----------------------------------------------------------------


class Strict(FakeFormat):
    """Refuses text beside calls, and a developer."""

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        for i, message in enumerate(request.messages):
            if (message.tool_calls and message.content) or message.role == "developer":
                raise RequestError("not so", param=f"messages[{i}]")
        texts = (text_of(m) + "".join(c.name for c in m.tool_calls) for m in request.messages)
        return PromptBuilder().scaffold("|".join(texts)).build()


class Retelling(Strict):
    """Knows another way for the first of both."""

    def retold(self, request: ChatRequest, context: FormatContext) -> list[ChatRequest]:
        return [request, text_before_calls(request)]


def prompt(chat_format: FakeFormat, *messages: Message) -> str:
    model = ModelInfo(name="m", source="/m", engine="fake", context_length=8)
    context = FormatContext(model=model, now=datetime(2025, 1, 2))
    return prompt_of(request(*messages), chat_format, context).text


def test_a_refused_conversation_is_rendered_as_the_format_retells_it() -> None:
    turn = called(ONE, content="Wait.")
    assert prompt(Retelling(), USER, turn) == "Hi|Wait.|f"
    with pytest.raises(RequestError, match="not so"):
        prompt(Strict(), USER, turn)


def test_the_refusal_is_the_first_one_where_no_other_way_is_taken() -> None:
    turn = called(ONE, content="Wait.")
    with pytest.raises(RequestError, match="not so") as caught:
        prompt(Retelling(), USER, turn, Message(role="developer", content="No."))
    assert caught.value.param == "messages[1]"

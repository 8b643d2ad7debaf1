"""What the templates do beyond the golden samples."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from jarvis_core import (
    ChatRequest,
    FormatContext,
    MediaPart,
    Message,
    ModelInfo,
    Prompt,
    RequestError,
    SegmentKind,
    TextPart,
    Tool,
    ToolCall,
)
from jarvis_formats import jarvis_register_chat_formats

PING = Tool(spec={"type": "function", "function": {"name": "ping"}})
FORMATS = {f.name: f for f in jarvis_register_chat_formats()}
USER = Message(role="user", content="Hi")


def render(name: str, *messages: Message, model: Any = None, **more: Any) -> Prompt:
    return FORMATS[name].render(
        ChatRequest(model="m", messages=messages, **more),
        FormatContext(model=about(model or {}), now=datetime(2031, 5, 6)),
    )


def about(model: Any) -> ModelInfo:
    info = {"name": "m", "source": "/m", "engine": "fake", "context_length": 8, **model}
    return ModelInfo(**info)


def call(arguments: str = "{}", call_id: str = "abcdefghi") -> Message:
    made = ToolCall(id=call_id, name="ping", arguments=arguments)
    return Message(role="assistant", tool_calls=(made,))


def test_a_plain_chatml_model_gets_no_system_prompt_that_nobody_wrote() -> None:
    prompt = render("chatml", USER)
    assert prompt.text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    with_tools = render("chatml", USER, tools=(PING,))
    assert with_tools.text.startswith("<|im_start|>system\n# Tools\n\nYou may call")


def test_the_models_own_template_beats_its_name() -> None:
    model = {"source": "Qwen/Qwen2.5-7B-Instruct", "chat_template": "<|im_start|>"}
    assert "Qwen" not in render("chatml", USER, model=model).text
    model["chat_template"] = "{{ strftime_now('%d') }}"
    assert "06 May 2031" in render("llama3", USER, model=model).text


def test_todays_date_is_the_clocks_where_the_template_reads_it() -> None:
    assert "Today Date: 06 May 2031" in render("llama3.2", USER).text
    assert "Today Date: 26 Jul 2024" in render("llama3.1", USER).text
    assert "current date is 2031-05-06." in render("mistral-small-3.2", USER).text


@pytest.mark.parametrize("name", ["llama3.1", "mistral-nemo"])
def test_the_models_own_special_tokens_are_printed(name: str) -> None:
    model = {"bos_token": "<BOS>", "eos_token": "<EOS>"}
    answer = Message(role="assistant", content="Yes")
    prompt = render(name, USER, answer, USER, model=model)
    assert prompt.text.startswith("<BOS>")
    assert ("<EOS>" in prompt.text) is (name == "mistral-nemo")


@pytest.mark.parametrize("name", ["chatml", "chatml-qwen2.5", "chatml-smollm2"])
def test_chatml_answers_end_where_the_turn_ends_whatever_the_metadata_says(name: str) -> None:
    assert {"<|im_end|>", "<|im_start|>"} <= set(render(name, USER).stop)


def test_other_answers_end_where_the_turn_ends() -> None:
    assert {"<|eot_id|>", "<|eom_id|>"} <= set(render("llama3", USER).stop)
    assert render("mistral", USER).stop == ("</s>",)
    known = {"eos_token": "</s>"}
    assert render("mistral", USER, model=known).stop == ()


ALL = [
    "chatml",
    "chatml-qwen2.5",
    "chatml-smollm2",
    "llama3.1",
    "llama3.2",
    "mistral-nemo",
    "mistral-small-3.2",
    "hermes",
    "qwen3",
    "granite4",
    "deepseek_r1",
    "smollm3-published",
    "smollm3-edited",
    "command_r",
    "mistral-v0.3",
    "gemma4",
    "phi3",
    "gpt_oss",
    "zephyr",
    "vicuna",
    "alpaca",
]
WITH_CALLS = [
    "chatml",
    "llama3.1",
    "mistral-nemo",
    "mistral-small-3.2",
    "hermes",
    "qwen3",
    "granite4",
    "deepseek_r1",
    "smollm3-published",
    "command_r",
    "mistral-v0.3",
    "gemma4",
    "gpt_oss",
]


@pytest.mark.parametrize("name", ALL)
def test_pictures_are_refused_by_place(name: str) -> None:
    picture = MediaPart(kind="image", url="data:image/png;base64,")
    message = Message(role="user", content=(TextPart(text="See"), picture))
    with pytest.raises(RequestError, match="text only, not image") as caught:
        render(name, message)
    assert caught.value.param == "messages[0].content"


def test_gemma4_has_a_place_for_pictures_where_its_template_prints_one() -> None:
    picture = MediaPart(kind="image", url="data:image/png;base64,")
    message = Message(role="user", content=(TextPart(text=" See "), picture, TextPart(text="?")))
    model = {"placeholders": {"image": "<|image|>"}, "chat_template": "{{- '<|image|>' -}}"}
    prompt = render("gemma4", message, model=model)
    assert prompt.media == (picture,)
    assert prompt.text == (
        "<bos><|turn>user\nSee?<turn|>\n<|turn>model\n<|channel>thought\n<channel|>"
    )
    assert [s.text for s in prompt.segments if s.kind is SegmentKind.CONTENT] == [
        "user",
        "See",
        "?",
    ]
    with_lines = model | {"chat_template": "{{- '\\n\\n<|image|>\\n\\n' -}}"}
    for other in (with_lines, model | {"placeholders": {}}, {}):
        assert FORMATS["gemma4"].media(about(other)) == ()
        with pytest.raises(RequestError, match="text only, not image"):
            render("gemma4", message, model=other)


@pytest.mark.parametrize("name", ALL)
def test_text_that_a_user_wrote_is_content(name: str) -> None:
    messages = (Message(role="system", content="sys<>tem"), Message(role="user", content="us<>er"))
    prompt = render(name, *messages)
    scaffold = "".join(s.text for s in prompt.segments if s.kind is SegmentKind.SCAFFOLD)
    content = "".join(s.text for s in prompt.segments if s.kind is SegmentKind.CONTENT)
    assert "<>" not in scaffold
    assert "sys<>tem" in content
    assert "us<>er" in content


@pytest.mark.parametrize(
    "name",
    [
        "chatml-qwen2.5",
        "llama3.1",
        "mistral-nemo",
        "hermes",
        "qwen3",
        "granite4",
        "smollm3-published",
        "command_r",
    ],
)
def test_what_a_tool_call_holds_is_content(name: str) -> None:
    spec = {"type": "function", "function": {"name": "n<>", "description": "d<>"}}
    made = ToolCall(id="<>3456789", name="n<>", arguments='{"k<>": "v<>"}')
    prompt = render(
        name,
        USER,
        Message(role="assistant", tool_calls=(made,)),
        Message(role="tool", content="r<>", tool_call_id="<>3456789"),
        tools=(Tool(spec=spec),),
    )
    scaffold = "".join(s.text for s in prompt.segments if s.kind is SegmentKind.SCAFFOLD)
    assert "<>" not in scaffold
    assert all(f"{word}<>" in prompt.text for word in "ndkvr")


@pytest.mark.parametrize("name", WITH_CALLS)
@pytest.mark.parametrize("arguments", ["{", '{"x": NaN}', '{"x": 1e9999}', '{"x": "\\ud800"}'])
def test_arguments_that_are_not_json_are_refused_by_place(name: str, arguments: str) -> None:
    with pytest.raises(RequestError, match="not valid JSON") as caught:
        render(name, USER, call(arguments))
    assert caught.value.param == "messages[1].tool_calls[0].function.arguments"


@pytest.mark.parametrize("name", WITH_CALLS)
def test_no_arguments_are_an_empty_object(name: str) -> None:
    assert "{}" in render(name, USER, call("")).text


@pytest.mark.parametrize("name", ALL)
def test_only_text_of_user_or_assistant_can_be_continued(name: str) -> None:
    with pytest.raises(RequestError):
        render(name, Message(role="system", content="x"), continue_final_message=True)
    with pytest.raises(RequestError):
        render(name, USER, call(), continue_final_message=True)


@pytest.mark.parametrize("name", ALL)
def test_a_continued_answer_is_the_end_of_the_prompt(name: str) -> None:
    answer = Message(role="assistant", content="The first word is")
    prompt = render(name, USER, answer, continue_final_message=True)
    assert prompt.text.endswith("The first word is")


def test_system_text_that_nemo_would_lose_is_refused() -> None:
    system = Message(role="system", content="Be brief.")
    result = Message(role="tool", content="pong", tool_call_id="abcdefghi")
    with pytest.raises(RequestError, match="message of the user comes last"):
        render("mistral-nemo", system, USER, call(), result)
    blank = Message(role="system", content="")
    assert render("mistral-nemo", blank, USER, call(), result).text


def test_nemo_shows_tools_with_every_message_equal_to_the_last() -> None:
    answer = Message(role="assistant", content="Yes")
    prompt = render("mistral-nemo", USER, answer, USER, tools=(PING,))
    assert prompt.text.count("[AVAILABLE_TOOLS]") == 2


@pytest.mark.parametrize("name", ["mistral-nemo", "mistral-small-3.2"])
def test_tools_that_nobody_would_see_are_refused(name: str) -> None:
    result = Message(role="tool", content="pong", tool_call_id="abcdefghi")
    with pytest.raises(RequestError, match="message of the user"):
        render(name, result, tools=(PING,))


@pytest.mark.parametrize("name", ["mistral-nemo", "mistral-small-3.2"])
def test_mistral_wants_identifiers_of_nine_characters(name: str) -> None:
    with pytest.raises(RequestError, match="9 characters") as caught:
        render(name, USER, call(call_id="call_1"))
    assert caught.value.param == "messages[1].tool_calls[0].id"
    with pytest.raises(RequestError, match="9 characters") as caught:
        render(name, USER, Message(role="tool", content="pong"))
    assert caught.value.param == "messages[1].tool_call_id"


def test_llama_needs_a_first_message_to_show_tools_in() -> None:
    system = Message(role="system", content="Be brief.")
    with pytest.raises(RequestError, match="tools_in_user_message"):
        render("llama3.1", system, tools=(PING,))
    with pytest.raises(RequestError, match="cannot be a tool call"):
        render("llama3.1", call(), tools=(PING,))
    shown = {"tools_in_user_message": False}
    prompt = render("llama3.1", system, tools=(PING,), template_kwargs=shown)
    assert '"name": "ping"' in prompt.text


@pytest.mark.parametrize("name", ["builtin_tools", "custom_tools"])
def test_llama_refuses_what_it_would_not_print(name: str) -> None:
    with pytest.raises(RequestError, match="give functions as tools") as caught:
        render("llama3.1", USER, template_kwargs={name: "brave_search"})
    assert caught.value.param == f"chat_template_kwargs.{name}"


def test_llama_wants_its_date_as_text() -> None:
    with pytest.raises(RequestError) as caught:
        render("llama3.1", USER, template_kwargs={"date_string": 7})
    assert caught.value.param == "chat_template_kwargs.date_string"


@pytest.mark.parametrize("name", ALL)
def test_template_kwargs_that_a_format_does_not_look_at_are_refused(name: str) -> None:
    with pytest.raises(RequestError, match="does not know speed") as caught:
        render(name, USER, template_kwargs={"speed": 5})
    assert caught.value.param == "chat_template_kwargs.speed"

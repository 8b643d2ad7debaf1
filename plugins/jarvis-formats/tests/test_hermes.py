"""Hermes: its two templates, and the signatures of its tools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jarvis_core import Message, Prompt, RequestError, Tool, ToolCall

USER = Message(role="user", content="Hi")
PLAIN = (
    "{{bos_token}}{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
)
TOOL_USE = (
    "{%- macro json_to_python_type(spec) %}{{ bos_token }}<|im_start|>system\n"
    "You are a function calling AI model.{{- '<|im_start|>tool\n' }}"
)
Render = Callable[..., Prompt]


def tool(**function: Any) -> Tool:
    return Tool(spec={"type": "function", "function": {"name": "f", **function}})


def test_without_tools_it_is_chatml_after_a_first_token(render: Render) -> None:
    prompt = render("hermes", USER, model={"bos_token": "<s>"})
    assert prompt.text == "<s><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert render("hermes", USER).text.startswith("<|im_start|>user")


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        ({"type": "string"}, "str"),
        ({"type": "number"}, "float"),
        ({"type": "integer"}, "int"),
        ({"type": "boolean"}, "bool"),
        ({"type": "array", "items": {"type": "string"}}, "list[Union[]]"),
        ({"type": "object"}, "dict"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "dict[str, int]"),
        ({"type": ["string", "integer"]}, "Union[str,int]"),
        ({"type": ["string", "null"]}, "Union[str,Any]"),
        ({"type": "null"}, "Any"),
        ({}, "Union[]"),
        (True, "Union[]"),
    ],
)
def test_tools_have_signatures_as_in_python(render: Render, schema: Any, shown: str) -> None:
    parameters = {"type": "object", "properties": {"x": schema}}
    text = render("hermes", USER, tools=(tool(parameters=parameters),)).text
    assert f'"description": "f(x: {shown}) - \n\n    Args:\n        x({shown}): "' in text


def test_what_a_tool_gives_back_is_shown(render: Render) -> None:
    returns = {"type": "integer", "description": "A number."}
    text = render("hermes", USER, tools=(tool(description="Count.", **{"return": returns}),)).text
    expected = '"f() -> int - Count.\n\n\n    Returns:\n        A number.", "parameters": {}}'
    assert expected in text


def test_what_the_template_would_lose_is_refused(render: Render) -> None:
    call = ToolCall(id="1", name="f", arguments="{}")
    with pytest.raises(RequestError, match="text beside tool calls") as caught:
        render("hermes", USER, Message(role="assistant", content="Wait", tool_calls=(call,)))
    assert caught.value.param == "messages[1].content"
    with pytest.raises(RequestError, match="before all other messages") as caught:
        render("hermes", Message(role="tool", content="1", tool_call_id="1"))
    assert caught.value.param == "messages[0].role"


def test_it_is_found_by_either_template(detected: Callable[..., str | None]) -> None:
    assert detected(chat_template=TOOL_USE) == "hermes"
    assert detected(chat_template=PLAIN, title="Hermes 3 Llama 3.1 8B") == "hermes"
    assert detected(chat_template=PLAIN, source="/m/Hermes-2-Pro-Mistral-7B.Q4.gguf") == "hermes"
    tokens = ("<|im_start|>", "<|im_end|>")
    assert detected(control_tokens=tokens, title="Hermes-3-Llama-3.2-3B") == "hermes"


def test_others_of_its_name_are_left_alone(detected: Callable[..., str | None]) -> None:
    assert detected(chat_template=PLAIN) is None
    assert detected(chat_template=PLAIN, title="Nous-Hermes-2-Yi-34B") is None
    assert detected(chat_template=PLAIN + "<think>", title="DeepHermes 3 Llama 3 8B") is None
    assert detected(chat_template=PLAIN, title="Hermes 30") is None
    assert detected(title="Hermes 3 Llama 3.1 8B") is None
    assert detected(chat_template=TOOL_USE + "{% if thinking %}") is None
    hermes = {"title": "Hermes 3 Llama 3.2 3B"}
    assert detected(chat_template=PLAIN.removeprefix("{{bos_token}}"), **hermes) != "hermes"
    own_text = "{{'<|im_start|>system\nYou are kind.<|im_end|>\n'}}"
    assert detected(chat_template=PLAIN + own_text, **hermes) is None

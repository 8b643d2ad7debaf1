"""Formats without golden prompts print their publishers' documented examples."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from jarvis_core import (
    ChatRequest,
    FormatContext,
    Message,
    ModelInfo,
    Prompt,
    RequestError,
    Tool,
    ToolCall,
)
from jarvis_core.plugins import load_plugins
from jarvis_formats import jarvis_register_chat_formats

FORMATS = {f.name: f for f in jarvis_register_chat_formats()}
NAMES = ["zephyr", "vicuna", "alpaca"]


def say(*turns: str) -> tuple[Message, ...]:
    """Messages written as ``role: text``."""
    split = (turn.partition(": ") for turn in turns)
    return tuple(Message(role=role, content=text) for role, _, text in split)


def render(name: str, *messages: Message, known: Any = None, **more: Any) -> Prompt:
    model = {"bos_token": "<s>", "eos_token": "</s>"} if known is None else known
    info = ModelInfo(name="m", source="/m", engine="fake", context_length=8, **model)
    request = ChatRequest(model="m", messages=messages, **more)
    return FORMATS[name].render(request, FormatContext(model=info, now=datetime(2025, 1, 2)))


def test_zephyr_prints_the_example_of_its_model_card() -> None:
    pirate = "You are a friendly chatbot who always responds in the style of a pirate."
    question = "How many helicopters can a human eat in one sitting?"
    prompt = render("zephyr", *say(f"system: {pirate}", f"user: {question}"))
    assert prompt.text == (f"<|system|>\n{pirate}</s>\n<|user|>\n{question}</s>\n<|assistant|>\n")


def test_vicuna_prints_the_example_of_its_weights() -> None:
    turns = say("user: Hello!", "assistant: Hello!", "user: How are you?")
    prompt = render("vicuna", *turns)
    assert prompt.text == (
        "<s>A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions. "
        "USER: Hello! ASSISTANT: Hello!</s>USER: How are you? ASSISTANT:"
    )


def test_alpaca_prints_the_prompt_of_its_data() -> None:
    prompt = render("alpaca", *say("user: Name a colour."))
    first = (
        "<s>Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nName a colour.\n\n### Response:"
    )
    assert prompt.text == first
    again = render("alpaca", *say("user: Name a colour.", "assistant: Red.", "user: Why?"))
    assert again.text == f"{first}Red.</s>\n\n### Instruction:\nWhy?\n\n### Response:"


CALCULATOR = {
    "name": "calculator",
    "description": "Performs mathematical calculations",
    "parameters": {
        "type": "object",
        "properties": {
            "operation": {
                "type": "string",
                "description": "The operation to be done in python format.",
            }
        },
        "required": ["operation"],
    },
}


def test_mistral_v03_prints_the_example_of_its_tokenizer() -> None:
    call = ToolCall(
        id="VvvODy9mT",
        name="calculator",
        arguments='{"operation": "2+2", "format": "celsius"}',
    )
    prompt = render(
        "mistral-v0.3",
        *say("user: What's 2+2?"),
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", content="4", tool_call_id="VvvODy9mT"),
        *say("assistant: 2+2=4"),
        tools=(Tool(spec={"type": "function", "function": CALCULATOR}),),
        add_generation_prompt=False,
    )
    assert prompt.text == (
        '<s>[AVAILABLE_TOOLS] [{"type": "function", "function": {"name": "calculator", '
        '"description": "Performs mathematical calculations", "parameters": {"type": "object", '
        '"properties": {"operation": {"type": "string", "description": "The operation to be done '
        'in python format."}}, "required": ["operation"]}}}][/AVAILABLE_TOOLS]'
        "[INST] What's 2+2?[/INST]"
        '[TOOL_CALLS] [{"name": "calculator", "arguments": {"operation": "2+2", "format": '
        '"celsius"}, "id": "VvvODy9mT"}]</s>'
        '[TOOL_RESULTS] {"content": 4, "call_id": "VvvODy9mT"}[/TOOL_RESULTS] 2+2=4</s>'
    )


def test_mistral_v03_puts_the_system_text_into_the_last_message() -> None:
    turns = say("system: Be brief.", "user: Hello", "assistant:  Hi \n", "user: Again")
    prompt = render("mistral-v0.3", *turns)
    assert prompt.text == "<s>[INST] Hello[/INST] Hi</s>[INST] Be brief.\n\nAgain[/INST]"


def test_mistral_v03_is_known_by_its_name_or_the_space_in_its_template() -> None:
    for known in ({"title": "Mistral-7B-Instruct-v0.3"}, {"chat_template": '"[INST] "'}):
        prompt = render("mistral", *say("user: Hello"), known=known)
        assert prompt.text == "<s>[INST] Hello[/INST]"


@pytest.mark.parametrize("name", NAMES)
def test_a_system_message_takes_the_place_of_the_usual_text(name: str) -> None:
    for role in ("system", "developer"):
        prompt = render(name, *say(f"{role}: Talk like a pirate.", "user: Hello"))
        assert "Talk like a pirate." in prompt.text
        assert "curious user" not in prompt.text
        assert "Below is" not in prompt.text


@pytest.mark.parametrize("name", ["vicuna", "alpaca"])
def test_a_second_system_message_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="one system message") as caught:
        render(name, *say("user: Hello", "system: Be brief."))
    assert caught.value.param == "messages[1].role"


@pytest.mark.parametrize("name", [*NAMES, "phi3"])
def test_roles_and_calls_that_would_be_lost_are_refused(name: str) -> None:
    with pytest.raises(RequestError, match="no role 'tool'") as caught:
        render(name, *say("user: Hello", "tool: pong"))
    assert caught.value.param == "messages[1].role"
    call = Message(role="assistant", tool_calls=(ToolCall(id="x", name="f", arguments="{}"),))
    with pytest.raises(RequestError, match="cannot print tool calls") as caught:
        render(name, *say("user: Hello"), call)
    assert caught.value.param == "messages[1].tool_calls"


def test_gemma2_names_what_it_cannot_print() -> None:
    with pytest.raises(RequestError, match="no system role") as caught:
        render("gemma2", *say("developer: Be brief.", "user: Hello"))
    assert caught.value.param == "messages[0].role"
    with pytest.raises(RequestError, match="by turns") as caught:
        render("gemma2", *say("user: Hello", "user: Again"))
    assert caught.value.param == "messages[1].role"


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_does_not_know_its_end_gets_it_as_a_stop_string(name: str) -> None:
    assert "</s>" in render(name, *say("user: Hello"), known={}).stop
    assert "</s>" not in render(name, *say("user: Hello")).stop


@pytest.mark.parametrize(
    ("name", "made_up"),
    [
        ("zephyr", "<|user|>"),
        ("vicuna", "USER:"),
        ("alpaca", "### Instruction:"),
        ("phi3", "<|user|>"),
        ("gemma2", "<start_of_turn>"),
    ],
)
def test_a_made_up_turn_ends_the_answer(name: str, made_up: str) -> None:
    assert made_up in render(name, *say("user: Hello")).stop


@pytest.mark.parametrize("name", [*NAMES, "phi3", "gemma2", "mistral-v0.3"])
def test_a_continued_answer_is_the_end_of_the_prompt(name: str) -> None:
    turns = say("user: Hello", "assistant: The first")
    assert render(name, *turns, continue_final_message=True).text.endswith("The first")
    with pytest.raises(RequestError):
        render(name, *say("system: Hello"), continue_final_message=True)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("llama-3", "llama3"),
        ("Llama-3.1", "llama3.1"),
        ("mistral-instruct", "mistral"),
        ("mistral-v0.3", "mistral-v0.3"),
        ("phi-3", "phi3"),
        ("phi-3.5", "phi3"),
        ("chat-ml", "chatml"),
        ("gpt-oss", "gpt_oss"),
        ("harmony", "gpt_oss"),
        ("gemma-4", "gemma4"),
        ("gemma", "gemma2"),
        ("tinyllama", "zephyr"),
        ("vicuna-v1.5", "vicuna"),
        ("deepseek-r1", "deepseek_r1"),
        ("command-r", "command_r"),
        ("qwen-3", "qwen3"),
        ("granite-4", "granite4"),
    ],
)
def test_people_may_spell_names_their_way(spelling: str, name: str) -> None:
    assert load_plugins().chat_format(spelling).name == name

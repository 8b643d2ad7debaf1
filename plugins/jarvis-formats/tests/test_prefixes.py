"""A conversation's next prompt begins with the one before, so an engine computes what is new."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

import pytest

from jarvis_core import ChatFormat, ChatRequest, FormatContext, Message, ModelInfo
from jarvis_formats import jarvis_register_chat_formats

FORMATS = list(jarvis_register_chat_formats())

# Their publishers' templates leave marks of reasoning out of earlier answers, or print an answer
# otherwise than it is generated: the answer itself is read again, and nothing before it.
ANSWER_IS_READ_AGAIN = {
    "command_r",
    "deepseek_r1",
    "gemma4",
    "gpt_oss",
    "mistral-v0.3",
    "vicuna",
}


def render(chat_format: ChatFormat, *messages: Message) -> str:
    model = ModelInfo(
        name=chat_format.name,
        source=chat_format.name,
        engine="none",
        context_length=4096,
        bos_token="<s>",
        eos_token="</s>",
    )
    request = ChatRequest(model=model.name, messages=messages)
    context = FormatContext(model=model, now=datetime(2026, 1, 2))
    return chat_format.render(request, context).text


def turns(number: int) -> list[Message]:
    """A question, and before it so many others with their answers."""
    before = [
        Message(role=role, content=f"{role} {i}")
        for i in range(number)
        for role in ("user", "assistant")
    ]
    return [*before, Message(role="user", content=f"user {number}")]


@pytest.mark.parametrize("chat_format", FORMATS, ids=lambda f: f.name)
def test_a_prompt_begins_with_the_one_before(chat_format: ChatFormat) -> None:
    prompts = [render(chat_format, *turns(number)) for number in range(4)]
    for number, (before, after) in enumerate(pairwise(prompts)):
        question = before.index(f"user {number}") + len(f"user {number}")
        assert after.startswith(before[:question])
        if chat_format.name not in ANSWER_IS_READ_AGAIN:
            assert after.startswith(f"{before}assistant {number}")


@pytest.mark.parametrize("chat_format", FORMATS, ids=lambda f: f.name)
def test_what_is_read_again_is_known(chat_format: ChatFormat) -> None:
    before, after = (render(chat_format, *turns(number)) for number in (0, 1))
    exact = after.startswith(f"{before}assistant 0")
    assert exact is (chat_format.name not in ANSWER_IS_READ_AGAIN)

"""The format transcript against the kit that every chat format has to pass."""

from datetime import datetime

import pytest

from jarvis_core import ChatFormat, ChatRequest, FormatContext, Message, ModelInfo
from jarvis_core.testing import ChatFormatConformance
from jarvis_echo import jarvis_detect_chat_format
from jarvis_echo.chat_format import TranscriptFormat

PARROT = ModelInfo(name="parrot", source="parrot", engine="echo", context_length=100)


class TestTranscriptConforms(ChatFormatConformance):
    @pytest.fixture
    def chat_format(self) -> ChatFormat:
        return TranscriptFormat()


def test_a_turn_is_a_line() -> None:
    request = ChatRequest(
        model="parrot",
        messages=(
            Message(role="system", content="Repeat."),
            Message(role="user", content="Hello"),
        ),
    )
    context = FormatContext(model=PARROT, now=datetime(2025, 1, 2))

    prompt = TranscriptFormat().render(request, context)

    assert prompt.text == "system: Repeat.\nuser: Hello\nassistant: "


def test_models_of_other_engines_are_left_to_others() -> None:
    other = ModelInfo(name="m", source="m", engine="llama_cpp", context_length=100)

    assert jarvis_detect_chat_format(PARROT) == "transcript"
    assert jarvis_detect_chat_format(other) is None

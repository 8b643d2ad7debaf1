"""Answers to templates are read by the markers that the templates hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from attrs import evolve

from jarvis_core import ChatFormat, ChatRequest, FormatContext, ModelInfo, ToolChoice
from jarvis_core.template import TemplateFormat
from jarvis_core.template.markers import STYLES, markers_of
from jarvis_core.testing import ChatFormatConformance
from jarvis_core.testing.constrained_answers import TOOLS, Asked, read_answer
from jarvis_core.testing.format_samples import chat

TURNS = (
    "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}"
    "{% for m in messages %}<turn>{{ m.role }}\n{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}%CALL%{% endfor %}</turn>{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n%OPEN%{% endif %}"
)
JSON_CALL = '{{ {"name": c.function.name, "arguments": c.function.arguments} | tojson }}'
TEMPLATES = {
    "list in tags": TURNS.replace("%CALL%", f"<tool_calls>[{JSON_CALL}]</tool_calls>"),
    "list in capitals": TURNS.replace("%CALL%", f"<TOOLCALL>[{JSON_CALL}]</TOOLCALL>"),
    "tags": TURNS.replace("%CALL%", f"<tool_call>\n{JSON_CALL}\n</tool_call>"),
    "named": TURNS.replace(
        "%CALL%", "[TOOL_CALLS]{{ c.function.name }}[ARGS]{{ c.function.arguments | tojson }}"
    ),
    "array": TURNS.replace("%CALL%", f"[TOOL_CALLS][{JSON_CALL}]"),
    "separated": TURNS.replace(
        "%CALL%",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>{{ c.function.name }}<｜tool▁sep｜>"
        "{{ c.function.arguments | tojson }}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    "fenced": TURNS.replace(
        "%CALL%",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>{{ c.function.name }}"
        "\n```json\n{{ c.function.arguments | tojson }}\n```<｜tool▁call▁end｜>"
        "<｜tool▁calls▁end｜>",
    ),
    "listed in tags": TURNS.replace("%CALL%", f"<|tool_call|>[{JSON_CALL}]<|/tool_call|>"),
    "listed": TURNS.replace("%CALL%", f"<|tool_call|>[{JSON_CALL}]"),
    "bare": TURNS.replace(
        "%CALL%", JSON_CALL.replace("arguments", "parameters", 1) + "{# <|python_tag|> #}"
    ),
}
"""A template for each style, in the order of ``STYLES``."""


@pytest.fixture(scope="module")
def template() -> Iterator[TemplateFormat]:
    chat_format = TemplateFormat()
    yield chat_format
    chat_format.close()


def model(name: str, opening: str = "") -> ModelInfo:
    source = TEMPLATES[name].replace("%OPEN%", opening)
    return evolve(ChatFormatConformance.model, chat_template=source)


class OfTemplate(ChatFormatConformance):
    @pytest.fixture
    def chat_format(self, template: TemplateFormat) -> ChatFormat:
        return template


class TestTags(OfTemplate):
    model = model("tags", "{# <think></think> #}")


class TestNamed(OfTemplate):
    model = model("named")


class TestArray(OfTemplate):
    model = model("array")


class TestFencedAndThinking(OfTemplate):
    model = model("fenced", "<think>\n{# </think> #}")


class TestListedInTags(OfTemplate):
    model = model("listed in tags")


class TestListed(OfTemplate):
    model = model("listed")


class TestSeparated(OfTemplate):
    model = model("separated")


class TestListInCapitals(OfTemplate):
    model = model("list in capitals")


class TestBare(OfTemplate):
    model = model("bare")


def test_each_style_is_known_by_its_template() -> None:
    found = [markers_of(source).calls for source in TEMPLATES.values()]
    assert found == list(STYLES)
    assert markers_of("{{ messages }}").calls is None
    assert markers_of("<tool_call><function=f><parameter=arguments>").calls is None


ANSWERS = {
    "tags": 'A <tool_call>{"name": "now", "arguments": {}}</tool_call>',
    "named": "A [TOOL_CALLS]now[ARGS]{}",
    "array": 'A [TOOL_CALLS] [{"name": "now", "arguments": {}}]',
    "listed": 'A <|tool_call|> [{"name": "now", "arguments": {}}]',
    "bare": ' {"name": "now", "parameters": {}}',
    "list in tags": 'A\n<tool_calls>[{"name": "now", "arguments": {}}]</tool_calls>',
    "separated": "A <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}"
    "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
}


def read(template: TemplateFormat, info: ModelInfo, raw: str, **fields: Any) -> Any:
    request = evolve(chat("Hello", tools=TOOLS[:1]), **fields)
    context = FormatContext(model=info, now=ChatFormatConformance().context.now)
    return read_answer(Asked.of(template, request, context), list(raw))[0]


@pytest.mark.parametrize("name", ANSWERS)
def test_a_call_that_nobody_forced_is_read(template: TemplateFormat, name: str) -> None:
    answer = read(template, model(name), ANSWERS[name])
    assert [(c.name, c.arguments) for c in answer.tool_calls] == [("now", "{}")]
    assert (answer.content or "").strip() in ("A", "")
    if "TOOL_CALLS" in ANSWERS[name]:
        assert len(answer.tool_calls[0].id) == 9  # their templates refuse any other


@pytest.mark.parametrize("name", ANSWERS)
def test_without_tools_an_answer_is_text(template: TemplateFormat, name: str) -> None:
    for fields in ({"tools": ()}, {"tool_choice": ToolChoice(mode="none")}):
        answer = read(template, model(name), ANSWERS[name], **fields)
        assert answer.content == ANSWERS[name]


def test_reasoning_is_told_from_the_answer(template: TemplateFormat) -> None:
    info = model("tags", "{# <think></think> #}")
    answer = read(template, info, "<think>\nHm.\n</think>\n\nYes.")
    assert (answer.reasoning, answer.content) == ("Hm.", "Yes.")
    opened = model("tags", "<think>\n{# </think> #}")
    answer = read(template, opened, "Hm.\n</think>\n\nYes.")
    assert (answer.reasoning, answer.content) == ("Hm.", "Yes.")
    plain = read(template, model("tags"), "<think>\nHm.\n</think>\n\nYes.")
    assert plain.content == "<think>\nHm.\n</think>\n\nYes."


def test_a_prompt_that_has_closed_its_reasoning_has_none(template: TemplateFormat) -> None:
    info = model("tags", "<think>\n\n</think>\n\n")
    context = FormatContext(model=info, now=ChatFormatConformance().context.now)
    request: ChatRequest = chat("Hello")
    prompt = template.render(request, context)
    assert not prompt.starts_in_reasoning
    assert template.answer_syntax(request, context, prompt).opening == ""

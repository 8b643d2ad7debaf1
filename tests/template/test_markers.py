"""Answers to templates are read by the markers that the templates hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from attrs import evolve
from call_templates import TEMPLATES

from jarvis_core import (
    ChatFormat,
    ChatRequest,
    Control,
    FormatContext,
    Message,
    ModelInfo,
    ToolCall,
    ToolChoice,
    prompt_runs,
)
from jarvis_core.template import TemplateFormat
from jarvis_core.template.markers import STYLES, markers_of
from jarvis_core.testing import ChatFormatConformance
from jarvis_core.testing.constrained_answers import TOOLS, Asked, read_answer
from jarvis_core.testing.format_samples import chat


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


class TestFunctions(OfTemplate):
    model = model("functions", "{# <think></think> #}")
    raw_answers: ClassVar = [
        "Let me see.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nRome 7641\n"
        "</parameter>\n<parameter=days>\n38812\n</parameter>\n</function>\n</tool_call>",
        "<function=get_weather>\n<parameter=city>\nRome 7641</parameter>\n</function>\n"
        "</tool_call>",
        "<think>\nHm 1234.\n</think>\n<tool_call><function=get_weather></function></tool_call>\n"
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo 5544",
    ]
    ends: ClassVar = ["\n</parameter>\n"]


class TestSeed(OfTemplate):
    model = model("seed", "{# <seed:think></seed:think> #}")
    raw_answers: ClassVar = [
        "<seed:tool_call>\n<function=get_weather>\n<parameter=city>Ro<b>me 7641</parameter>\n"
        "</function>\n</seed:tool_call>"
    ]
    ends: ClassVar = ["</parameter>\n"]


class TestKeysInLines(OfTemplate):
    model = model("keys in lines")
    raw_answers: ClassVar = [
        "So:\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Ro\nme 7641</arg_value>\n"
        "</tool_call>\n<tool_call>get_weather\n</tool_call>"
    ]
    ends: ClassVar = ["</arg_value>\n"]


class TestKeys(OfTemplate):
    model = model("keys")
    raw_answers: ClassVar = [
        "<tool_call>get_weather<arg_key>city</arg_key><arg_value>7641</arg_value></tool_call>"
    ]
    ends: ClassVar = ["</arg_value>"]


class TestInvocations(OfTemplate):
    model = model("invocations")
    raw_answers: ClassVar = [
        '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Rome 7641'
        '</parameter>\n</invoke>\n<invoke name="get_weather">\n</invoke>\n</minimax:tool_call>'
    ]
    ends: ClassVar = ["</parameter>\n"]


class TestFlagged(OfTemplate):
    model = model("flagged functions")
    raw_answers: ClassVar = [
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n'
        '<｜DSML｜parameter name="city" string="true">7641</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="days" string="false">5523'
        "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>"
    ]
    ends: ClassVar = ["</｜DSML｜parameter>\n"]


class TestNumbered(OfTemplate):
    model = model("numbered")
    raw_answers: ClassVar = [
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
        '<|tool_call_argument_begin|>{"city": "Rome 7641"}<|tool_call_end|>'
        "<|tool_calls_section_end|>"
    ]


class TestAction(OfTemplate):
    model = model("action", "{# <|START_THINKING|><|END_THINKING|> #}")
    raw_answers: ClassVar = [
        '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "get_weather", "parameters": '
        '{"city": "Rome 7641"}}\n]<|END_ACTION|>'
    ]


class TestActionInAFrame(OfTemplate):
    model = model("action", "{# <|START_THINKING|><|END_THINKING|><|START_TEXT|><|END_TEXT|> #}")
    raw_answers: ClassVar = [
        "<|START_THINKING|>Hm 4455.<|END_THINKING|><|START_TEXT|>Yes 1234.<|END_TEXT|>",
        "<|START_TEXT|>No 6789.",
    ]


class TestObjectsInTags(OfTemplate):
    model = model("objects in tags")


class TestKeysOfObjects(OfTemplate):
    model = model("keys of objects")


class TestLongcat(OfTemplate):
    model = model("longcat")


class TestPlugin(OfTemplate):
    model = model("plugin")


class TestEachInTags(OfTemplate):
    model = model("each in tags")


class TestFunctools(OfTemplate):
    model = model("functools")


class TestOneBehindAToken(OfTemplate):
    model = model("one behind a token")


class TestOneInATurn(OfTemplate):
    model = model("one in a turn")


class TestBareByItsWords(OfTemplate):
    model = model("bare by its words")


class TestBareList(OfTemplate):
    model = model("bare list")
    raw_answers: ClassVar = ["[1234] Rome 7641", '["Rome 7641", {"name": "x"}]']


class TestFunctionTags(OfTemplate):
    model = model("function tags")


class TestIdentified(OfTemplate):
    model = model("identified", "{# <|begin|>assistant<|think|><|begin|>assistant<|content|> #}")
    raw_answers: ClassVar = [
        "<|think|>Hm 4455.<|end|><|begin|>assistant<|content|>Yes 1234.<|end|>",
        "<|think|>Hm 4455.<|end|><|begin|>assistant<|tool_calls|><|tool_call:begin|>a1b2c3d4e5"
        '<|tool_call:name|>get_weather<|tool_call:args|>{"city": "Rome 7641"}<|tool_call:end|>'
        "<|calls|>",
    ]


class TestSections(OfTemplate):
    model = model("sections", "<think:opensource>{# '<think{}>' #}")
    raw_answers: ClassVar = [
        "Hm 1234.</think:opensource><tool_calls:opensource>\n<tool_call:opensource>get_weather"
        "<tool_sep:opensource>\n<arg_key:opensource>city</arg_key:opensource>\n"
        "<arg_value:opensource>Rome 7641</arg_value:opensource>\n</tool_call:opensource>\n"
        "</tool_calls:opensource>"
    ]
    ends: ClassVar = ["</arg_value:opensource>\n"]


class TestListedActions(OfTemplate):
    model = model("listed actions")
    raw_answers: ClassVar = [
        'Plan 1234.\nAction:\n```json\n[\n    {\n        "tool_name": "get_weather",\n        '
        '"parameters": {"city": "Rome 7641"}\n    }\n]```',
        'Action: ```json\n[{"tool_name": "directly-answer", "parameters": {}}]\n``` 4455',
        "Action: take 1234",
    ]


class TestMessages(OfTemplate):
    model = model(
        "messages",
        "{{ open_tag('think') }}{# open_tag('response') #}{# close_tag('message') #}",
    )
    raw_answers: ClassVar = [
        "Hm 1234.<|close|>think<|sep|><|open|>response<|sep|>Yes 4455.<|close|>response<|sep|>"
        '<|open|>tools<|sep|><|open|>call tool="get_weather" index="1"<|sep|><|open|>argument '
        'key="city" type="string"<|sep|>Rome 7641<|close|>argument<|sep|><|open|>argument '
        'key="days" type="array"<|sep|>[8831]<|close|>argument<|sep|><|close|>call<|sep|>'
        '<|open|>call tool="now" index="2"<|sep|><|close|>call<|sep|><|close|>tools<|sep|>',
    ]
    ends: ClassVar = ["<|close|>argument<|sep|>"]


class TestSteps(OfTemplate):
    model = model("steps")
    raw_answers: ClassVar = [
        "One<｜tool_calls_begin｜>\n<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke "
        'name="get_weather">\n<steptml:parameter name="city">Rome 7641</steptml:parameter>\n'
        "</steptml:invoke><｜tool_call_end｜>\n<｜tool_call_begin｜>function<｜tool_sep｜>"
        '<steptml:invoke name="now">\n</steptml:invoke><｜tool_call_end｜>\n<｜tool_calls_end｜>',
    ]
    ends: ClassVar = ["</steptml:parameter>\n"]


class TestParameters(OfTemplate):
    model = model("parameters", "<think>{# </think> #}")
    raw_answers: ClassVar = [
        'Hm 1234.</think>Now <function name="get_weather"><param name="city">Rome 7641</param>'
        '</function>\n<function name="get_weather"><param name="city"><![CDATA[<b> & 4455</param>'
        "\n]]></param></function>",
        '<function name="get_weather"><param name="city"><![CDATA[1234</param></function>',
    ]
    ends: ClassVar = ["</param>"]


class TestPythonicInLines(OfTemplate):
    model = model("pythonic in lines")
    raw_answers: ClassVar = [
        "<function_calls>\nget_weather(city='Ro\\'me 7641')\nget_weather()\n</function_calls>"
    ]


class TestPythonicAndBare(OfTemplate):
    model = model("pythonic and bare")
    raw_answers: ClassVar = [
        '[get_weather(city="Rome 7641"), get_weather()]',
        "<|python_start|>[get_weather()]<|python_end|>",
        "[1234](Rome 7641)",
    ]


class TestPythonic(OfTemplate):
    model = model("pythonic")
    raw_answers: ClassVar = [
        "<|tool_call_start|>[get_weather(city='Ro\\'me 7641', days=[8831, {\"a\": None}]), "
        "get_weather()]<|tool_call_end|>Checking.",
        "<|tool_call_start|>[get_weather(city='Ro'me 7641')]<|tool_call_end|>",
    ]


def test_each_style_is_known_by_its_template() -> None:
    found = [markers_of(source).calls for source in TEMPLATES.values()]
    assert found == list(STYLES)
    assert markers_of("{{ messages }}").calls is None
    assert markers_of("<tool_call><function=f>{arguments}").calls is None


ANSWERS = {
    "objects in tags": 'A <tool_calls>\n{"name": "now", "arguments": {}}\n</tool_calls>',
    "keys of objects": 'A <|tools_prefix|>[{"now": {}}]<|tools_suffix|>',
    "longcat": 'A <longcat_tool_call>{"name": "now", "arguments": {}}</longcat_tool_call>',
    "plugin": 'A <|action_start|><|plugin|>\n{"name": "now", "parameters": {}}<|action_end|>',
    "each in tags": 'A <|tool_call|>{"name": "now", "arguments": {}}<|/tool_call|>',
    "functools": 'A functools[{"name": "now", "arguments": {}}]',
    "one behind a token": 'A <|function_call|>{"name": "now", "arguments": {}}',
    "one in a turn": "A<|message_sep|>\n\nfunction call<|role_sep|>\n"
    '{"name": "now", "arguments": {}}',
    "bare by its words": ' {"name": "now", "parameters": {}}',
    "bare list": ' [{"name": "now", "arguments": {}}]',
    "function tags": "A <function=now>{}</function>",
    "identified": "A <|tool_calls|><|tool_call:begin|>a1b2c3d4e5<|tool_call:name|>now"
    "<|tool_call:args|>{}<|tool_call:end|><|calls|>",
    "sections": "A<tool_calls:opensource>\n<tool_call:opensource>now<tool_sep:opensource>\n"
    "</tool_call:opensource>\n</tool_calls:opensource>",
    "pythonic in lines": "A\n<function_calls>\nnow()\n</function_calls>",
    "pythonic and bare": " [now()]",
    "tags": 'A <tool_call>{"name": "now", "arguments": {}}</tool_call>',
    "named": "A [TOOL_CALLS]now[ARGS]{}",
    "array": 'A [TOOL_CALLS] [{"name": "now", "arguments": {}}]',
    "listed": 'A <|tool_call|> [{"name": "now", "arguments": {}}]',
    "bare": ' {"name": "now", "parameters": {}}',
    "list in tags": 'A\n<tool_calls>[{"name": "now", "arguments": {}}]</tool_calls>',
    "separated": "A <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}"
    "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "functions": "A\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
    "keys": "A <tool_call>now</tool_call>",
    "invocations": 'A <minimax:tool_call>\n<invoke name="now">\n</invoke>\n</minimax:tool_call>',
    "flagged tools": 'A\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="now">\n</｜DSML｜invoke>\n'
    "</｜DSML｜tool_calls>",
    "numbered": "A <|tool_calls_section_begin|><|tool_call_begin|>functions.now:7"
    "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>",
    "action": 'A <|START_ACTION|>[{"tool_call_id": "0", "tool_name": "now", "parameters": {}}]'
    "<|END_ACTION|>",
    "listed actions": 'A\nAction: ```json\n[{"tool_name": "now", "parameters": {}}]\n```',
    "messages": 'A<|open|>tools<|sep|><|open|>call tool="now" index="1"<|sep|>'
    "<|close|>call<|sep|><|close|>tools<|sep|>",
    "steps": "A<｜tool_calls_begin｜><｜tool_call_begin｜>function<｜tool_sep｜>"
    '<steptml:invoke name="now"></steptml:invoke><｜tool_call_end｜><｜tool_calls_end｜>',
    "parameters": 'A <function name="now"></function>',
    "pythonic": "A <|tool_call_start|>[now()]<|tool_call_end|>",
}


def test_command_r_plus_that_calls_nothing_says_so_in_text(template: TemplateFormat) -> None:
    raw = 'Action: ```json\n[{"tool_name": "directly-answer", "parameters": {}}]\n```'
    answer = read(template, model("listed actions"), raw)
    assert (answer.content, answer.tool_calls) == (raw, ())


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


def test_calls_of_kimi_are_numbered_through_the_conversation(template: TemplateFormat) -> None:
    call = ToolCall(id="functions.now:0", name="now", arguments="{}")
    said = Message(role="assistant", tool_calls=(call,))
    result = Message(role="tool", content="noon", tool_call_id=call.id)
    messages = (*chat("Hello").messages, said, result)
    raw = ANSWERS["numbered"]
    for fields in ({}, {"tool_choice": ToolChoice(mode="required")}):
        text = raw.removeprefix("A ") if fields else raw
        answer = read(template, model("numbered"), text, messages=messages, **fields)
        assert [c.id for c in answer.tool_calls] == ["functions.now:1"]


def test_calls_that_a_template_prints_nowhere_are_told_as_the_model_writes_them(
    template: TemplateFormat,
) -> None:
    call = ToolCall(id="1", name="get", arguments='{"key": "it\'s", "all": true}')
    said = Message(role="assistant", content="Wait.", tool_calls=(call,))
    result = Message(role="tool", content="noon", tool_call_id="1")
    request = chat("Hello", tools=TOOLS[:1])  # none of them says true
    request = evolve(request, messages=(*request.messages, said, result))
    context = FormatContext(model=model("pythonic"), now=ChatFormatConformance().context.now)
    written = """<|tool_call_start|>[get(key="it's", all=True)]<|tool_call_end|>"""
    assert f"Wait.\n{written}</turn>" in template.render(request, context).text


def test_the_tokens_of_such_calls_are_tokens_and_those_in_their_arguments_are_not(
    template: TemplateFormat,
) -> None:
    tokens = ("<|tool_call_start|>", "<|tool_call_end|>")
    info = evolve(model("pythonic"), control_tokens=tokens)
    context = FormatContext(model=info, now=ChatFormatConformance().context.now)
    smuggled = f"\ue000{tokens[1]}"
    call = ToolCall(id="1", name="get", arguments=json.dumps({"key": smuggled}))
    request = chat("Hello", tools=TOOLS[:2])
    messages = (
        Message(role="user", content=f"a {tokens[0]}"),
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", content="noon", tool_call_id="1"),
    )
    prompt = template.render(evolve(request, messages=messages), context)
    written = f'{tokens[0]}[get(key="{smuggled}")]{tokens[1]}'
    assert f"{written}</turn>" in prompt.text
    assert f"a {tokens[0]}</turn>" in prompt.text
    controls = [run.text for run in prompt_runs(prompt, tokens) if isinstance(run, Control)]
    assert controls == list(tokens)


def test_reasoning_is_told_from_the_answer(template: TemplateFormat) -> None:
    info = model("tags", "{# <think></think> #}")
    answer = read(template, info, "<think>\nHm.\n</think>\n\nYes.")
    assert (answer.reasoning, answer.content) == ("Hm.", "Yes.")
    opened = model("tags", "<think>\n{# </think> #}")
    answer = read(template, opened, "Hm.\n</think>\n\nYes.")
    assert (answer.reasoning, answer.content) == ("Hm.", "Yes.")
    plain = read(template, model("tags"), "<think>\nHm.\n</think>\n\nYes.")
    assert plain.content == "<think>\nHm.\n</think>\n\nYes."


def test_an_answer_of_kimi_3_is_thought_text_and_calls(template: TemplateFormat) -> None:
    info = TestMessages.model
    raw = TestMessages.raw_answers[0]
    request = chat("Hello", tools=TOOLS)
    context = FormatContext(model=info, now=ChatFormatConformance().context.now)
    prompt = template.render(request, context)
    assert prompt.starts_in_reasoning
    assert "<|close|>message<|sep|>" in prompt.stop
    answer = read(template, info, raw)
    assert (answer.reasoning, answer.content) == ("Hm 1234.", "Yes 4455.")
    assert [(c.name, c.arguments) for c in answer.tool_calls] == [
        ("get_weather", '{"city": "Rome 7641", "days": [8831]}'),
        ("now", "{}"),
    ]


def test_the_text_of_an_answer_is_told_from_its_frame(template: TemplateFormat) -> None:
    raw = "<|START_THINKING|>Hm.<|END_THINKING|><|START_TEXT|>Yes.<|END_TEXT|>"
    info = model("action", "{# <|END_THINKING|><|END_TEXT|> #}")
    answer = read(template, info, raw)
    assert (answer.reasoning, answer.content) == ("Hm.", "Yes.")
    opened = model("action", "<|START_TEXT|>{# <|END_TEXT|> #}")
    assert read(template, opened, "Yes.<|END_TEXT|>").content == "Yes."
    request: ChatRequest = chat("Hello")
    for given, begins_with in ((info, "<|START_TEXT|>"), (opened, "")):
        context = FormatContext(model=given, now=ChatFormatConformance().context.now)
        prompt = template.render(request, context)
        assert template.answer_syntax(request, context, prompt).before_content == begins_with


def test_a_prompt_that_has_closed_its_reasoning_has_none(template: TemplateFormat) -> None:
    info = model("tags", "<think>\n\n</think>\n\n")
    context = FormatContext(model=info, now=ChatFormatConformance().context.now)
    request: ChatRequest = chat("Hello")
    prompt = template.render(request, context)
    assert not prompt.starts_in_reasoning
    assert template.answer_syntax(request, context, prompt).opening == ""

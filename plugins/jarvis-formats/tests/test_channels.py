"""Answers of Gemma 4 and gpt-oss, which write thoughts, words and calls each in its own place."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from jarvis_core import (
    ChatRequest,
    Constraint,
    Delta,
    DeltaParser,
    FormatContext,
    Message,
    ModelInfo,
    Prompt,
    RequestError,
    SegmentKind,
    Tool,
    ToolCall,
    ToolChoice,
)
from jarvis_core.testing import parse_case, send_back
from jarvis_core.testing.sampling import Sampler
from jarvis_formats import jarvis_register_chat_formats

FORMATS = {f.name: f for f in jarvis_register_chat_formats()}
NAMES = ("gemma4", "gpt_oss")
MARK = '<|"|>'
PING = Tool(spec={"type": "function", "function": {"name": "ping", "description": "Pongs."}})
USER = Message(role="user", content="Hi")
Call = tuple[str, Any]

# -- what a model may write --------------------------------------------------------------------


def _value(value: Any) -> str:
    """A value as Gemma 4 writes it."""
    if isinstance(value, str):
        return f"{MARK}{value}{MARK}"
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_value, value)) + "]"
    return json.dumps(value)


def _gemma4(calls: list[Call]) -> str:
    return "".join(f"<|tool_call>call:{n}{_value(a)}<tool_call|>" for n, a in calls)


def _gpt_oss(calls: list[Call]) -> str:
    return "<|start|>assistant".join(
        f"<|channel|>commentary to=functions.{n} <|constrain|>json<|message|>"
        f"{json.dumps(a)}<|call|>"
        for n, a in calls
    )


SYNTAXES: list[tuple[str, Callable[[list[Call]], str]]] = [
    ("gemma4", _gemma4),
    ("gpt_oss", _gpt_oss),
]
MARKERS = (
    "<|channel>thought\n",
    "<channel|>",
    "<|tool_call>call:f{",
    "}<tool_call|>",
    f"x:{MARK}",
    MARK,
    "<|channel|>analysis<|message|>",
    "<|channel|>final<|message|>",
    "<|channel|>commentary to=functions.f <|constrain|>json<|message|>",
    " to=functions.f<|channel|>commentary<|message|>",
    '{"x": 1}',
    "<|start|>assistant",
    "<|end|>",
    "<|call|>",
    "<|return|>",
)
words = st.integers(10000, 99999).map(str)
raw_texts = st.lists(
    st.one_of(
        st.sampled_from(MARKERS),
        st.sampled_from([m[:k] for m in MARKERS for k in range(1, len(m))]),
        words,
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        st.sampled_from(list('{}[]":,; \n<|\\/0a')),
    ),
    max_size=14,
).map("".join)
cuts = st.lists(st.integers(1, 9), min_size=1, max_size=8)
plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"), max_size=60)
tool_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
keys = st.from_regex(r"[A-Za-z_é][A-Za-z0-9_é.-]{0,9}", fullmatch=True)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from([m for m in MARKERS if MARK not in m]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
calls_made = st.lists(
    st.tuples(tool_names, st.dictionaries(keys, values, max_size=4)), min_size=1, max_size=3
)


def chunked(raw: str, sizes: list[int]) -> list[str]:
    chunks, at, turn = [], 0, 0
    while at < len(raw):
        size = sizes[turn % len(sizes)]
        chunks.append(raw[at : at + size])
        at, turn = at + size, turn + 1
    return chunks


def parsed(name: str, chunks: list[str], *, tools: bool = True) -> dict[str, Any]:
    result = parse_case(name, {"engine_finish": "stop", "tools": tools}, chunks)
    for call in result["tool_calls"]:
        call.pop("id")
    return result


def parser_of(name: str, **more: Any) -> DeltaParser:
    info = ModelInfo(name="m", source="/m", engine="fake", context_length=8)
    request = ChatRequest(**{"model": "m", "messages": (USER,), "tools": (PING,), **more})
    return FORMATS[name].parser(
        request, FormatContext(model=info, now=datetime(2025, 1, 2)), Prompt()
    )


def render(name: str, *messages: Message, **more: Any) -> Prompt:
    info = ModelInfo(name="m", source="/m", engine="fake", context_length=8)
    request = ChatRequest(model="m", messages=messages, **more)
    return FORMATS[name].render(request, FormatContext(model=info, now=datetime(2025, 1, 2)))


# -- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tools", [True, False])
@given(raw=raw_texts, sizes=cuts)
@example(raw="<|channel|>analysis<|message|>12345<|channel|>final", sizes=[1])
@example(raw="<|channel>thought12345", sizes=[3])
@settings(max_examples=80, deadline=None)
def test_nothing_is_lost_and_nothing_invented(
    name: str, tools: bool, raw: str, sizes: list[int]
) -> None:
    result = parsed(name, chunked(raw, sizes), tools=tools)
    assert result == parsed(name, [raw], tools=tools)
    made = "".join(c["name"] + c["arguments"] for c in result["tool_calls"])
    said = (result["content"] or "") + (result["reasoning"] or "")
    for kept in (result["content"], result["reasoning"]):
        rest = iter(raw)
        assert all(character in rest for character in kept or ""), "not in the answer's order"
    for number in numbers_in(raw):
        assert number in said + made, number
    for call in result["tool_calls"]:
        assert tools
        assert call["name"] in raw
        assert isinstance(json.loads(call["arguments"]), dict)


def numbers_in(raw: str) -> list[str]:
    """Runs of digits; what stands in a number of many digits counts as a whole."""
    runs, run = [], ""
    for character in raw + " ":
        if character in "0123456789":
            run += character
        elif run:
            runs.append(run)
            run = ""
    return [r for r in runs if len(r) >= 5]


@pytest.mark.parametrize("name", NAMES)
@given(raw=plain, sizes=cuts)
@settings(max_examples=40, deadline=None)
def test_text_without_a_header_is_content(name: str, raw: str, sizes: list[int]) -> None:
    for tools in (True, False):
        result = parsed(name, chunked(raw, sizes), tools=tools)
        assert (result["content"] or "", result["reasoning"], result["tool_calls"]) == (
            raw,
            None,
            [],
        )


@given(thought=plain, said=plain, answer=plain, sizes=cuts)
@settings(max_examples=40, deadline=None)
def test_each_channel_of_gpt_oss_keeps_its_text(
    thought: str, said: str, answer: str, sizes: list[int]
) -> None:
    raw = (
        f"<|channel|>analysis<|message|>{thought}<|end|>"
        f"<|start|>assistant<|channel|>commentary<|message|>{said}<|end|>"
        f"<|start|>assistant<|channel|>final<|message|>{answer}"
    )
    result = parsed("gpt_oss", chunked(raw, sizes))
    assert (result["reasoning"] or "", result["content"] or "") == (thought, said + answer)


@given(thought=plain, answer=plain, sizes=cuts)
@settings(max_examples=40, deadline=None)
def test_a_thought_of_gemma_is_told_from_its_answer(
    thought: str, answer: str, sizes: list[int]
) -> None:
    result = parsed("gemma4", chunked(f"<|channel>thought\n{thought}\n<channel|>{answer}", sizes))
    assert (result["reasoning"] or "").strip() == thought.strip(" \t\r\n").strip()
    assert (result["content"] or "").strip() == answer.strip()


@pytest.mark.parametrize(("name", "write"), SYNTAXES)
@given(raw=raw_texts, calls=calls_made)
@settings(max_examples=80, deadline=None)
def test_what_was_read_can_be_sent_back(
    name: str, write: Callable[[list[Call]], str], raw: str, calls: list[Call]
) -> None:
    answer = parsed(name, [raw, write(calls)])
    # Text that holds a whole header of its own is refused by the publisher's template too.
    said = (answer["content"] or "") + (answer["reasoning"] or "")
    assume(name != "gpt_oss" or not re.search(r"<\|channel\|>(analysis|final)<\|message", said))
    for prompt in send_back(name, answer):
        for call in answer["tool_calls"]:
            assert call["name"] in prompt


@pytest.mark.parametrize(("name", "write"), SYNTAXES)
@given(calls=calls_made, sizes=cuts)
@settings(max_examples=50, deadline=None)
def test_calls_of_any_arguments_come_back(
    name: str, write: Callable[[list[Call]], str], calls: list[Call], sizes: list[int]
) -> None:
    result = parsed(name, chunked(write(calls), sizes))
    made = [(c["name"], json.loads(c["arguments"])) for c in result["tool_calls"]]
    assert made == calls
    assert result["content"] is None
    assert result["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("name", NAMES)
@given(call=calls_made)
@settings(max_examples=30, deadline=None)
def test_a_call_that_was_printed_is_parsed_back(name: str, call: list[Call]) -> None:
    made = call if name == "gemma4" else call[:1]
    turn = Message(
        role="assistant",
        tool_calls=tuple(
            ToolCall(id=f"{k}", name=n, arguments=json.dumps(a)) for k, (n, a) in enumerate(made)
        ),
    )
    prompt = render(name, USER, turn, add_generation_prompt=False).text
    before = render(name, USER, add_generation_prompt=False).text
    before += "<|turn>model\n" if name == "gemma4" else "<|start|>assistant"
    answer = prompt.removeprefix(before)
    result = parsed(name, [answer.removesuffix("<|tool_response>")])
    back = [(c["name"], json.loads(c["arguments"])) for c in result["tool_calls"]]
    assert back == made


@pytest.mark.parametrize("name", NAMES)
def test_plain_text_is_sent_at_once(name: str) -> None:
    parser = parser_of(name)
    for character in "Plain text, with 3 > 2 and a | b.\nAnd (more) of it!":
        assert list(parser.feed(character)) == [Delta(content=character)]


def test_every_channel_is_sent_at_once() -> None:
    parser = parser_of("gpt_oss")
    assert list(parser.feed("<|channel|>analysis<|message|>")) == []
    assert list(parser.feed("a")) == [Delta(reasoning="a")]
    assert list(parser.feed("<|end|><|start|>assistant<|channel|>final<|message|>")) == []
    assert list(parser.feed("b")) == [Delta(content="b")]


@pytest.mark.parametrize(("name", "write"), SYNTAXES)
def test_a_call_is_sent_when_it_is_complete(name: str, write: Callable[[list[Call]], str]) -> None:
    raw = write([("f", {"x": 1})]).removesuffix("<|call|>")
    parser = parser_of(name)
    assert list(parser.feed(raw[:-1])) == []
    (delta,) = parser.feed(raw[-1])
    assert delta.tool_calls[0].arguments == '{"x": 1}'
    assert list(parser.finish()) == []


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("gemma4", "<|tool_call>call:f{x:01}<tool_call|>"),
        ("gemma4", "<|tool_call>call:f{x:yes}<tool_call|>"),
        ("gemma4", "<|tool_call>call:f{x:1,}<tool_call|>"),
        ("gemma4", "<|tool_call>call:{x:1}<tool_call|>"),
        ("gemma4", '<|tool_call>call:f{x:"a"}<tool_call|>'),
        ("gemma4", "<|tool_call>call:f{x:" + "[" * 5000),
        ("gemma4", "<|tool_call>call:f{x:1} and<tool_call|>"),
        ("gpt_oss", "<|channel|>commentary to=python<|message|>{}"),
        ("gpt_oss", "<|channel|>commentary to=functions.<|message|>{}"),
        ("gpt_oss", "<|channel|>commentary to=functions.f<|message|>[1]"),
        ("gpt_oss", "<|channel|>commentary to=functions.f to=functions.g<|message|>{}"),
        ("gpt_oss", "<|channel|>finally<|message|>no"),
        ("gpt_oss", "<|message|>no"),
        ("gpt_oss", "<|start|>user<|message|>no"),
    ],
)
def test_what_is_not_correctly_written_is_content(name: str, raw: str) -> None:
    result = parsed(name, [raw])
    assert (result["content"], result["tool_calls"]) == (raw, [])


def test_an_unfinished_header_is_content() -> None:
    raw = "<|channel|>analysis<|message|>So.<|end|><|start|>assistant<|channel|>fin"
    result = parsed("gpt_oss", [raw])
    assert result["reasoning"] == "So."
    assert result["content"] == "<|start|>assistant<|channel|>fin"


def test_a_channel_may_follow_without_the_end_of_the_one_before() -> None:
    raw = "<|channel|>analysis<|message|>So.<|channel|>final<|message|>Yes."
    result = parsed("gpt_oss", list(raw))
    assert (result["reasoning"], result["content"]) == ("So.", "Yes.")


@pytest.mark.parametrize(
    "text",
    ["a <|end|> b", "<|end|>", "a<|end|><|start|>assistant b", "<|channel|>final<|message|>"],
)
def test_a_mark_inside_of_an_answer_is_text(text: str) -> None:
    raw = f"<|channel|>final<|message|>{text} c"
    assert parsed("gpt_oss", list(raw))["content"] == f"{text} c"


def test_after_an_answer_that_is_held_to_a_schema_nothing_follows() -> None:
    said = "<|end|><|start|>assistant<|channel|>final<|message|>"
    constraint = Constraint(kind="json_schema", value="{}")
    parser = parser_of("gpt_oss", tools=(), constraint=constraint)
    text = "<|channel|>final<|message|>" + said + "<|end|>"
    deltas = [d for character in text for d in parser.feed(character)]
    assert "".join(d.content for d in [*deltas, *parser.finish()]) == said


def test_what_follows_a_continued_answer_is_content() -> None:
    answer = Message(role="assistant", content="The first")
    parser = parser_of("gpt_oss", messages=(USER, answer), continue_final_message=True)
    assert list(parser.feed(" word to=me")) == [Delta(content=" word to=me")]


@pytest.mark.parametrize(("name", "write"), SYNTAXES)
def test_time_is_linear_in_the_length_of_a_call(
    name: str, write: Callable[[list[Call]], str]
) -> None:
    def seconds(size: int) -> float:
        raw = write([("f", {"x": ['a"b '] * (size // 8)})])
        times = []
        for _ in range(3):
            parser = parser_of(name)
            start = time.process_time()
            for character in raw:
                parser.feed(character)
            times.append(time.process_time() - start)
        return min(times)

    assert seconds(80_000) < 30 * seconds(8_000)


# -- prompts -----------------------------------------------------------------------------------


def call(*names: str, **more: Any) -> Message:
    made = tuple(ToolCall(id=f"id-{n}", name=n, arguments='{"k<>": "v<>"}') for n in names)
    return Message(role="assistant", tool_calls=made, **more)


def result_of(name: str) -> Message:
    return Message(role="tool", content="r<>", tool_call_id=f"id-{name}")


@pytest.mark.parametrize("name", NAMES)
def test_what_others_wrote_is_content(name: str) -> None:
    schema = {
        "type": "object",
        "properties": {
            "p<>": {"type": "string", "description": "d<>", "enum": ["e<>"]},
            "q<>": {"type": "array", "items": {"type": "object", "properties": {"i<>": {}}}},
        },
        "required": ["p<>"],
    }
    function = {"name": "n<>", "description": "f<>", "parameters": schema}
    prompt = render(
        name,
        Message(role="system", content="s<>"),
        Message(role="user", content="u<>"),
        call("n<>", reasoning="t<>"),
        result_of("n<>"),
        tools=(Tool(spec={"type": "function", "function": function}),),
    )
    scaffold = "".join(s.text for s in prompt.segments if s.kind is SegmentKind.SCAFFOLD)
    assert "<>" not in scaffold
    assert all(f"{word}<>" in prompt.text for word in "pdenfsutkvri")


def test_a_tool_of_gemma_answers_by_the_name_that_was_called() -> None:
    prompt = render("gemma4", USER, call("ping", "find"), result_of("find"), result_of("ping"))
    assert prompt.text.index("response:find{") < prompt.text.index("response:ping{")
    assert prompt.text.endswith("<tool_response|>"), "the model's turn goes on"


def test_gemma_thinks_when_it_is_told_to() -> None:
    told = render("gemma4", USER, template_kwargs={"enable_thinking": True})
    assert told.text.startswith("<bos><|turn>system\n<|think|>\n<turn|>\n")
    assert told.text.endswith("<|turn>model\n")
    asked = render("gemma4", USER, reasoning_effort="high")
    assert asked == told
    assert render("gemma4", USER).text.endswith("<|channel>thought\n<channel|>")


@pytest.mark.parametrize("name", NAMES)
def test_a_result_that_no_call_asked_for_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="only after a tool call") as caught:
        render(name, USER, result_of("ping"))
    assert caught.value.param == "messages[1].role"


def test_gpt_oss_prints_the_effort_that_was_asked_for() -> None:
    assert "Reasoning: medium\n" in render("gpt_oss", USER).text
    assert "Reasoning: low\n" in render("gpt_oss", USER, reasoning_effort="low").text
    with pytest.raises(RequestError, match="low, medium or high") as caught:
        render("gpt_oss", USER, reasoning_effort="none")
    assert caught.value.param == "reasoning_effort"


def test_gpt_oss_shows_tools_without_a_description() -> None:
    tool = Tool(spec={"type": "function", "function": {"name": "ping"}})
    assert "type ping = () => any;" in render("gpt_oss", USER, tools=(tool,)).text


def test_words_and_thoughts_before_a_call_of_gpt_oss_have_their_channels() -> None:
    turn = call("ping", content="One moment.", reasoning="Ping it.")
    text = render("gpt_oss", USER, turn, result_of("ping")).text
    assert "<|channel|>analysis<|message|>Ping it.<|end|>" in text
    assert "<|channel|>commentary<|message|>One moment.<|end|>" in text


def test_thoughts_of_gpt_oss_are_left_out_once_there_is_an_answer() -> None:
    answer = Message(role="assistant", content="Pong.", reasoning="Done.")
    turns = (USER, call("ping", reasoning="Ping it."), result_of("ping"), answer, USER)
    text = render("gpt_oss", *turns).text
    assert "Ping it." not in text
    assert "Done." not in text
    assert "<|channel|>final<|message|>Pong.<|end|>" in text


def test_gpt_oss_refuses_what_its_template_would_lose() -> None:
    with pytest.raises(RequestError, match="one tool call in a message") as caught:
        render("gpt_oss", USER, call("ping", "find"))
    assert caught.value.param == "messages[1].tool_calls"
    with pytest.raises(RequestError, match="one system or developer message") as caught:
        render("gpt_oss", USER, Message(role="developer", content="Be brief."))
    assert caught.value.param == "messages[1].role"


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("gemma4", {"<turn|>", "<|tool_response>", "<|turn>"}),
        ("gpt_oss", {"<|return|>", "<|call|>", "<|start|>user"}),
    ],
)
def test_answers_end_where_the_turn_ends_whatever_the_metadata_says(
    name: str, ends: set[str]
) -> None:
    assert ends <= set(render(name, USER).stop)


# -- forced calls ------------------------------------------------------------------------------


def forced(name: str, schema: dict[str, Any], **function: Any) -> Constraint | None:
    spec = {"name": "f", "parameters": schema, **function}
    tool = Tool(spec={"type": "function", "function": spec})
    info = ModelInfo(name="m", source="/m", engine="fake", context_length=8)
    request = ChatRequest(
        model="m", messages=(USER,), tools=(tool,), tool_choice=ToolChoice(mode="required")
    )
    context = FormatContext(model=info, now=datetime(2025, 1, 2))
    return FORMATS[name].tool_grammar(request, context)


def samples(constraint: Constraint | None) -> list[str]:
    assert constraint is not None
    model = ModelInfo(name="m", source="/m", engine="fake", context_length=8)
    sampler = Sampler(constraint, model, hints=[MARK])
    return [sampler.sample(random.Random(seed)) for seed in range(40)]


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "Zoo": {"enum": ["one", "two, three", None]},
        "at": {"type": ["integer", "null"]},
        "big": {"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "number"}}]},
        "of it": {"const": {"a": [1, "x"]}},
        "up": {"$ref": "#/$defs/up"},
    },
    "required": ["at", "of it"],
    "$defs": {"up": {"type": "object", "properties": {"up": {"$ref": "#/$defs/up"}, "on": {}}}},
}


def test_arguments_that_gemma_is_forced_to_write_obey_their_schema() -> None:
    seen: set[str] = set()
    for raw in samples(forced("gemma4", SCHEMA)):
        (made, *_) = parsed("gemma4", [raw])["tool_calls"]
        arguments = json.loads(made["arguments"])
        seen |= arguments.keys()
        assert list(arguments) == sorted(arguments, key=str.lower)
        assert {"at", "of it"} <= arguments.keys() <= SCHEMA["properties"].keys()
        assert arguments["of it"] == {"a": [1, "x"]}
        assert arguments["at"] is None or isinstance(arguments["at"], int)
        assert arguments.get("Zoo") in ("one", "two, three", None)
        assert isinstance(arguments.get("big", True), bool | list)
    assert seen == SCHEMA["properties"].keys()


def test_a_strict_text_of_gemma_has_its_length_and_pattern() -> None:
    limits = {"type": "string", "pattern": "^a[<|]", "maxLength": 6}
    schema = {"type": "object", "properties": {"x": limits}, "required": ["x"]}
    for raw in samples(forced("gemma4", schema, strict=True)):
        (made, *_) = parsed("gemma4", [raw])["tool_calls"]
        text = json.loads(made["arguments"])["x"]
        assert len(text) <= 6
        assert text.startswith(("a<", "a|"))


def test_gemma_is_not_held_to_what_its_grammar_cannot_say() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", "pattern": "^(?=a)"}}}
    assert forced("gemma4", schema) is not None
    with pytest.raises(RequestError, match="cannot be held to pattern") as caught:
        forced("gemma4", schema, strict=True)
    assert caught.value.param == "tools"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({}, None),
        ({"type": "object", "additionalProperties": False}, None),
        ({"type": "object"}, object),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, int),
    ],
)
def test_a_tool_that_names_no_argument_can_be_forced(
    name: str, schema: dict[str, Any], kind: type | None
) -> None:
    seen: list[Any] = []
    for raw in samples(forced(name, schema)):
        (made, *_) = parsed(name, [raw])["tool_calls"]
        seen += json.loads(made["arguments"]).values()
    assert bool(seen) is (kind is not None)
    assert all(isinstance(value, kind or object) for value in seen)


def test_gpt_oss_is_forced_to_one_call_at_a_time() -> None:
    for raw in samples(forced("gpt_oss", SCHEMA)):
        assert raw.count("<|message|>") == 1

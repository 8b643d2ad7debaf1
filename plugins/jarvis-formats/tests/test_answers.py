"""What the parsers make of answers beyond the golden samples, for any text, cut anyhow."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jarvis_core import (
    ChatRequest,
    Delta,
    DeltaParser,
    FormatContext,
    Message,
    ModelInfo,
    Prompt,
    Tool,
    ToolCall,
    ToolChoice,
)
from jarvis_core.testing import parse_case, send_back
from jarvis_formats import jarvis_register_chat_formats

FORMATS = {f.name: f for f in jarvis_register_chat_formats()}
NAMES = (
    "chatml",
    "llama3",
    "mistral",
    "hermes",
    "qwen3",
    "granite4",
    "smollm3",
    "deepseek_r1",
    "command_r",
)
Call = tuple[str, Any]


def _chatml(calls: list[Call]) -> str:
    texts = (json.dumps({"name": n, "arguments": a}, ensure_ascii=False) for n, a in calls)
    return "\n".join(f"<tool_call>\n{text}\n</tool_call>" for text in texts)


def _llama3(calls: list[Call]) -> str:
    texts = (json.dumps({"name": n, "parameters": a}, ensure_ascii=False) for n, a in calls)
    return "<|python_tag|>" + "; ".join(texts)


def _mistral(calls: list[Call]) -> str:
    return "".join(f"[TOOL_CALLS]{n}[ARGS]{json.dumps(a)}" for n, a in calls)


def _mistral_array(calls: list[Call]) -> str:
    return "[TOOL_CALLS]" + json.dumps([{"name": n, "arguments": a} for n, a in calls])


def _deepseek(calls: list[Call]) -> str:
    texts = (
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{n}\n```json\n{json.dumps(a)}\n```"
        "<｜tool▁call▁end｜>"
        for n, a in calls
    )
    return "<｜tool▁calls▁begin｜>" + "\n".join(texts)


def _command_r(calls: list[Call]) -> str:
    items = (
        {"tool_call_id": str(k), "tool_name": n, "parameters": a} for k, (n, a) in enumerate(calls)
    )
    return f"<|START_ACTION|>{json.dumps(list(items), indent=4)}<|END_ACTION|>"


SYNTAXES: list[tuple[str, Callable[[list[Call]], str]]] = [
    ("chatml", _chatml),
    ("llama3", _llama3),
    ("mistral", _mistral),
    ("mistral", _mistral_array),
    ("hermes", _chatml),
    ("qwen3", _chatml),
    ("granite4", _chatml),
    ("smollm3", _chatml),
    ("deepseek_r1", _deepseek),
    ("command_r", _command_r),
]

MARKERS = (
    "<tool_call>",
    "</tool_call>",
    "<|python_tag|>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n",
    "\n```<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
    "<|START_ACTION|>[",
    '{"tool_call_id": "0", "tool_name": "f", "parameters": {}}',
    "]<|END_ACTION|>",
    '{"name": "f", "arguments": {"x": 1}}',
    '{"name": "f", "parameters": {}}',
    '{"name": "',
    '"arguments": ',
    "\\u12",
    "\\ud800",
    '{"name": "f", "arguments": {"x": "\\ud800"}}',
    '{"name": "f", "parameters": {"x": 1e999}}',
)
# Anything that a model could write, with much of what means something to a parser.
raw_texts = st.lists(
    st.one_of(
        st.sampled_from(MARKERS),
        st.sampled_from([m[:k] for m in MARKERS for k in range(1, len(m))]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        st.sampled_from(list('{}[]":,; \n<|\\/0a')),
    ),
    max_size=14,
).map("".join)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(MARKERS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)
arguments = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), values, max_size=4)
tool_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
calls_made = st.lists(st.tuples(tool_names, arguments), min_size=1, max_size=3)
cuts = st.lists(st.integers(1, 9), min_size=1, max_size=8)


def chunked(raw: str, sizes: list[int]) -> list[str]:
    chunks, at, turn = [], 0, 0
    while at < len(raw):
        size = sizes[turn % len(sizes)]
        chunks.append(raw[at : at + size])
        at, turn = at + size, turn + 1
    return chunks


def parsed(name: str, chunks: Iterable[str], *, tools: bool = True) -> dict[str, Any]:
    return parse_case(name, {"engine_finish": "stop", "tools": tools}, chunks)


def parser_of(name: str, **request: Any) -> DeltaParser:
    chat_format = FORMATS[name]
    tool = Tool(spec={"type": "function", "function": {"name": "f"}})
    info = ModelInfo(name="m", source="/m", engine="fake", context_length=8)
    chat = ChatRequest(
        **{
            "model": "m",
            "messages": (Message(role="user", content="Hi"),),
            "tools": (tool,),
            **request,
        }
    )
    return chat_format.parser(chat, FormatContext(model=info, now=datetime(2025, 1, 2)), Prompt())


@pytest.mark.parametrize("name", NAMES)
@given(raw=raw_texts, sizes=cuts)
@example(raw='<tool_call>{"name": "f", "arguments": {}}</tool_call> ', sizes=[1])
@example(raw='{"name": "f", "parameters": {}} ; {', sizes=[1])
@settings(max_examples=150, deadline=None)
def test_nothing_is_lost_and_nothing_invented(name: str, raw: str, sizes: list[int]) -> None:
    result = parsed(name, chunked(raw, sizes))
    whole = parsed(name, [raw])
    for call in (*result["tool_calls"], *whole["tool_calls"]):
        call.pop("id")
    assert result == whole
    content = result["content"] or ""
    if not result["tool_calls"]:
        assert content == raw
    rest = iter(raw)
    assert all(character in rest for character in content), "content is not in the answer's order"
    for call in result["tool_calls"]:
        assert call["arguments"] in raw or json.dumps(call["arguments"])[1:-1] in raw
        assert isinstance(json.loads(call["arguments"]), dict)
        assert call["name"]


@pytest.mark.parametrize("name", FORMATS)
@given(
    thought=st.sampled_from(["", "<think>Hm</think>", "Hm</think>", "<think>"]),
    raw=raw_texts,
    calls=calls_made,
    write=st.sampled_from([w for _, w in SYNTAXES]),
)
@settings(max_examples=20, deadline=None)
def test_what_was_read_can_be_sent_back(
    name: str, thought: str, raw: str, calls: list[Call], write: Callable[[list[Call]], str]
) -> None:
    answer = parsed(name, [thought, raw, write(calls)])
    for prompt in send_back(name, answer):
        for call in answer["tool_calls"]:
            assert call["name"] in prompt
        for word in (answer["content"] or "").split("</think>")[-1].split():
            assert word in prompt


@pytest.mark.parametrize("name", NAMES)
@given(raw=raw_texts, sizes=cuts)
@settings(max_examples=50, deadline=None)
def test_without_tools_every_text_is_content(name: str, raw: str, sizes: list[int]) -> None:
    result = parsed(name, chunked(raw, sizes), tools=False)
    assert (result["content"] or "", result["tool_calls"]) == (raw, [])


@pytest.mark.parametrize(("name", "write"), SYNTAXES)
@given(calls=calls_made, sizes=cuts, before=st.sampled_from(["", "Let me see.\n", "a {b} [c] <d>"]))
@settings(max_examples=80, deadline=None)
def test_calls_of_any_arguments_come_back(
    name: str,
    write: Callable[[list[Call]], str],
    calls: list[Call],
    sizes: list[int],
    before: str,
) -> None:
    result = parsed(name, chunked(before + write(calls), sizes))
    made = [(c["name"], json.loads(c["arguments"])) for c in result["tool_calls"]]
    assert made == calls
    assert (result["content"] or "").strip() == before.strip()
    assert result["finish_reason"] == "tool_calls"


THINKERS = [
    ("qwen3", _chatml, "<think>", "</think>"),
    ("smollm3", _chatml, "<think>", "</think>"),
    ("deepseek_r1", _deepseek, "<think>", "</think>"),
    ("command_r", _command_r, "<|START_THINKING|>", "<|END_THINKING|>"),
]


@pytest.mark.parametrize(("name", "write", "opening", "closing"), THINKERS)
@given(thought=raw_texts, calls=calls_made, sizes=cuts)
@settings(max_examples=50, deadline=None)
def test_calls_count_behind_any_reasoning_and_not_in_it(
    name: str,
    write: Callable[[list[Call]], str],
    opening: str,
    closing: str,
    thought: str,
    calls: list[Call],
    sizes: list[int],
) -> None:
    raw = f"{opening}\n{thought}\n{closing}\n\n{write(calls)}"
    result = parsed(name, chunked(raw, sizes))
    assert (result["reasoning"] or "").strip() == thought.strip()
    assert not (result["content"] or "").strip()
    made = [(c["name"], json.loads(c["arguments"])) for c in result["tool_calls"]]
    assert made == calls


@pytest.mark.parametrize(
    "name",
    [
        "chatml-qwen2.5",
        "mistral-nemo",
        "mistral-small-3.2",
        "hermes",
        "qwen3",
        "granite4",
        "smollm3-published",
    ],
)
@given(calls=calls_made)
@settings(max_examples=30, deadline=None)
def test_a_call_that_was_printed_is_parsed_back(name: str, calls: list[Call]) -> None:
    chat_format = FORMATS[name]
    info = ModelInfo(name="m", source="/m", engine="fake", context_length=8)
    context = FormatContext(model=info, now=datetime(2025, 1, 2))
    made = tuple(
        ToolCall(id=f"abcdefgh{k}", name=n, arguments=json.dumps(a))
        for k, (n, a) in enumerate(calls)
    )
    user = Message(role="user", content="Hi")
    asked = ChatRequest(model="m", messages=(user,))
    told = ChatRequest(
        model="m",
        messages=(user, Message(role="assistant", tool_calls=made)),
        add_generation_prompt=False,
    )
    prompt = chat_format.render(asked, context).text
    answer = chat_format.render(told, context).text.removeprefix(prompt)
    for end in ("<|im_end|>\n", "<|end_of_text|>\n", "</s>"):
        answer = answer.removesuffix(end)
    result = parsed(name, [answer])
    back = [(c["name"], json.loads(c["arguments"])) for c in result["tool_calls"]]
    assert back == calls
    assert not (result["content"] or "").strip()


@pytest.mark.parametrize("name", NAMES)
def test_plain_text_is_sent_at_once(name: str) -> None:
    parser = parser_of(name)
    for character in "Plain text, with 3 > 2 and a | b.\nAnd (more) of it!":
        assert list(parser.feed(character)) == [Delta(content=character)]


@pytest.mark.parametrize(("name", "write"), SYNTAXES)
def test_a_call_is_sent_with_its_last_character(
    name: str, write: Callable[[list[Call]], str]
) -> None:
    raw = write([("f", {"x": 1})])
    parser = parser_of(name)
    assert list(parser.feed(raw[:-1])) == []
    (delta,) = parser.feed(raw[-1])
    assert delta.tool_calls[0].name == "f"
    assert list(parser.finish()) == []


def test_an_answer_in_json_streams_once_it_cannot_be_a_call() -> None:
    parser = parser_of("llama3")
    assert list(parser.feed('{"city')) == []
    assert "".join(d.content for d in parser.feed('": "')) == '{"city": "'
    assert list(parser.feed("Oslo")) == [Delta(content="Oslo")]


@pytest.mark.parametrize("name", NAMES)
def test_a_choice_of_no_tool_leaves_call_syntax_as_text(name: str) -> None:
    raw = _chatml([("f", {})]) + _llama3([("f", {})]) + _mistral([("f", {})])
    parser = parser_of(name, tool_choice=ToolChoice(mode="none"))
    assert list(parser.feed(raw)) == [Delta(content=raw)]


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("chatml", '<tool_call>{"name": "f", "arguments": {}, "why": "so"}</tool_call>'),
        ("chatml", '<tool_call>{"name": "f", "name": "g", "arguments": {}}</tool_call>'),
        ("chatml", '<tool_call>{"name": "f", "arguments": [1]}</tool_call>'),
        ("chatml", '<tool_call>{"name": "", "arguments": {}}</tool_call>'),
        ("chatml", '<tool_call>{"name": "\\ud800", "arguments": {}}</tool_call>'),
        ("chatml", '<tool_call>{"name": "f", "arguments": {"x": "\\ud800"}}</tool_call>'),
        ("chatml", '<tool_call>{"name": "f", "arguments": {"x": "a\nb"}}</tool_call>'),
        ("chatml", '<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>'),
        ("chatml", '<tool_call>{"name": "f", "arguments": {}} and</tool_call>'),
        ("chatml", '<tool_call>{"name": "f", "arguments": {}}'),
        ("chatml", '<tool_call>{"name": "f", "arguments": ' + '{"x":' * 5000),
        ("llama3", '{"name": "f", "parameters": {}, "arguments": {}}'),
        ("llama3", '{"type": "object", "name": "f", "parameters": {}}'),
        ("llama3", '<|python_tag|>brave_search.call(query="x")'),
        ("mistral", "[TOOL_CALLS][]"),
        ("mistral", '[TOOL_CALLS][{"name": "f", "arguments": {}}, {"name": "g"}]'),
        ("mistral", "[TOOL_CALLS][ARGS]{}"),
        ("mistral", "[TOOL_CALLS]f[ARGS][]"),
        ("deepseek_r1", "<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>"),
        ("deepseek_r1", "<｜tool▁call▁begin｜>function<｜tool▁sep｜>\n```json\n{}\n```"),
        ("command_r", "<|START_ACTION|>[]<|END_ACTION|>"),
        ("command_r", '<|START_ACTION|>[{"tool_name": "f"}]<|END_ACTION|>'),
        ("command_r", '<|START_ACTION|>[{"name": "f", "parameters": {}}]<|END_ACTION|>'),
    ],
)
def test_what_is_not_correctly_written_is_content(name: str, raw: str) -> None:
    result = parsed(name, [raw])
    assert (result["content"], result["tool_calls"]) == (raw, [])


def test_a_call_nested_too_deep_to_read_is_content() -> None:
    deep = '{"x":' * 100_000 + "1" + "}" * 100_000
    raw = '<tool_call>{"name": "f", "arguments": ' + deep + "}</tool_call>"
    assert parsed("chatml", [raw])["content"] == raw


def test_a_good_call_after_a_broken_one_is_a_call() -> None:
    good = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    broken = '<tool_call>\n{"name": "f", "arguments": {"x": y}}\n</tool_call>\n'
    result = parsed("chatml", [broken + good])
    assert [c["name"] for c in result["tool_calls"]] == ["f"]
    assert result["content"].strip() == broken.strip()


def test_numbers_stay_as_the_model_wrote_them() -> None:
    raw = '{"name": "f", "parameters": {"x": 1.10, "y": 1e2, "z": 12345678901234567890123}}'
    (call,) = parsed("llama3", [raw])["tool_calls"]
    assert call["arguments"] == '{"x": 1.10, "y": 1e2, "z": 12345678901234567890123}'


def test_mistral_gives_every_call_an_identifier_that_its_template_takes() -> None:
    raw = _mistral([("f", {}), ("f", {}), ("g", {"x": 1})])
    ids = [call["id"] for call in parsed("mistral", [raw])["tool_calls"]]
    assert len(set(ids)) == 3
    assert all(len(i) == 9 and i.isalnum() for i in ids)
    short = '[TOOL_CALLS][{"name": "f", "arguments": {}, "id": "x"}]'
    assert len(parsed("mistral", [short])["tool_calls"][0]["id"]) == 9


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

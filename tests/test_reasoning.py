"""Reasoning is told from the answer wherever the text is cut, and nothing of either is lost."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jarvis_core import (
    ChatRequest,
    Delta,
    Message,
    ReasoningParser,
    RequestError,
    TextParser,
    TextPart,
    continues_reasoning,
    thinking_wanted,
)

PIECES = ("<think>", "</think>", "<thi", "</thi", "nk>", "<", "\n", " ", "\n\n", "a", "b c", "é🎈")
raw_texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)


def request(**more: Any) -> ChatRequest:
    return ChatRequest(**{"model": "m", "messages": (), **more})


def parsed(chunks: Iterable[str], *, inside: bool = False) -> tuple[str, str]:
    """Reasoning and content."""
    parser = ReasoningParser(TextParser(), inside=inside)
    deltas = [delta for chunk in chunks for delta in parser.feed(chunk)]
    deltas.extend(parser.finish())
    return "".join(d.reasoning for d in deltas), "".join(d.content for d in deltas)


def feed(parser: ReasoningParser, *chunks: str) -> list[Delta]:
    return [delta for chunk in chunks for delta in parser.feed(chunk)]


@pytest.mark.parametrize("inside", [False, True])
@given(raw=raw_texts, sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5))
@example(raw="<think>a </think> b", sizes=[1])
@settings(max_examples=200, deadline=None)
def test_where_the_text_is_cut_carries_no_meaning(
    inside: bool, raw: str, sizes: Sequence[int]
) -> None:
    chunks, at, turn = [], 0, 0
    while at < len(raw):
        chunks.append(raw[at : at + sizes[turn % len(sizes)]])
        at, turn = at + len(chunks[-1]), turn + 1
    assert parsed(chunks, inside=inside) == parsed([raw], inside=inside)


@pytest.mark.parametrize("inside", [False, True])
@given(raw=raw_texts)
@settings(max_examples=200, deadline=None)
def test_only_markers_and_white_space_beside_them_are_left_out(inside: bool, raw: str) -> None:
    reasoning, content = parsed([raw], inside=inside)
    body = raw.lstrip(" \t\r\n")
    if not inside and not body.startswith("<think>"):
        assert (reasoning, content) == ("", raw)
        return
    thought, closed, answer = body.removeprefix("<think>").partition("</think>")
    assert reasoning.strip() == thought.strip()
    assert content == (answer.lstrip(" \t\r\n") if closed else "")


def test_a_model_may_open_the_reasoning_that_the_prompt_has_opened() -> None:
    assert parsed(["\n<thi", "nk>\nHm.\n</think>\n\nYes"], inside=True) == ("Hm.", "Yes")
    assert parsed(["<thing> is </think>Yes"], inside=True) == ("<thing> is", "Yes")


def test_reasoning_that_never_ends_is_reasoning() -> None:
    assert parsed(["<think>Hm. </thi"]) == ("Hm. </thi", "")
    assert parsed(["Hm.\n"], inside=True) == ("Hm.\n", "")
    assert parsed(["<thi"], inside=True) == ("<thi", "")


def test_markers_further_on_are_text() -> None:
    assert parsed(["Write <think> and </think>."]) == ("", "Write <think> and </think>.")
    raw = "<think>a</think>b <think>c</think>"
    assert parsed([raw]) == ("a", "b <think>c</think>")


def test_what_is_certain_is_sent_at_once() -> None:
    parser = ReasoningParser(TextParser())
    assert feed(parser, "<think>", "\n") == []
    assert feed(parser, "One ") == [Delta(reasoning="One")]
    assert feed(parser, "thought") == [Delta(reasoning=" thought")]
    assert feed(parser, "\n</think>\n\n") == []
    assert feed(parser, "Yes ") == [Delta(content="Yes ")]
    assert list(parser.finish()) == []


def test_an_answer_without_reasoning_is_sent_at_once() -> None:
    parser = ReasoningParser(TextParser())
    assert feed(parser, "  ", "Y") == [Delta(content="  Y")]
    assert feed(parser, "es ") == [Delta(content="es ")]


def test_other_markers_are_looked_for_where_a_model_has_others() -> None:
    parser = ReasoningParser(TextParser(), opening="[T]", closing="[/T]")
    assert feed(parser, "[T]a[/", "T]<think>") == [Delta(reasoning="a"), Delta(content="<think>")]


@pytest.mark.parametrize("piece", ["word ", "\n", "<", "</think "])
def test_time_is_linear_in_the_length_of_the_reasoning(piece: str) -> None:
    def seconds(count: int) -> float:
        times = []
        for _ in range(3):
            parser = ReasoningParser(TextParser(), inside=True)
            start = time.process_time()
            for _ in range(count):
                parser.feed(piece)
            times.append(time.process_time() - start)
        return min(times)

    assert seconds(20_000) < 40 * seconds(2_000)


@pytest.mark.parametrize(
    ("asked", "default", "wanted"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"template_kwargs": {"enable_thinking": False}}, True, False),
        ({"template_kwargs": {"enable_thinking": None}}, True, True),
        ({"reasoning_effort": "none"}, True, False),
        ({"reasoning_effort": "low"}, False, True),
        ({"template_kwargs": {"enable_thinking": True}, "reasoning_effort": "none"}, False, True),
    ],
)
def test_a_client_says_whether_the_model_is_to_think(
    asked: dict[str, Any], default: bool, wanted: bool
) -> None:
    assert thinking_wanted(request(**asked), default=default) is wanted


def test_a_word_for_enable_thinking_is_refused() -> None:
    with pytest.raises(RequestError, match="true or false") as caught:
        thinking_wanted(request(template_kwargs={"enable_thinking": "false"}), default=True)
    assert caught.value.param == "chat_template_kwargs.enable_thinking"


@pytest.mark.parametrize(
    ("content", "continues"),
    [
        ("<think>\nHm", True),
        ((TextPart(text=" <think>"), TextPart(text="Hm")), True),
        ("<think>\nHm</think>Yes", False),
        ("I <think>", False),
        (None, False),
    ],
)
def test_a_prefill_may_have_begun_to_think(content: Any, continues: bool) -> None:
    messages = (Message(role="assistant", content=content),)
    marks = {"opening": "<think>", "closing": "</think>"}
    asked = request(messages=messages, continue_final_message=True)
    assert continues_reasoning(asked, **marks) is continues
    assert not continues_reasoning(request(messages=messages), **marks)
    assert not continues_reasoning(request(continue_final_message=True), **marks)

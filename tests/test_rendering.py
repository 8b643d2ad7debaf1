"""Prompts are built of who wrote what, and cut for a tokenizer so that users write no tokens."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import Any

import pytest
from attrs import evolve
from attrs.exceptions import FrozenInstanceError
from hypothesis import given, settings
from hypothesis import strategies as st

from jarvis_core import (
    ChatRequest,
    Control,
    MediaPart,
    Message,
    PromptBuilder,
    RequestError,
    Segment,
    SegmentKind,
    TextPart,
    ToolCall,
    UnsupportedParameter,
    arguments_object,
    check_template_kwargs,
    developer_as_system,
    left_open,
    prompt_runs,
    text_of,
    tojson,
)

TOKENS = ("<s>", "<sep>", "<sep>x")
SCAFFOLD, CONTENT = SegmentKind.SCAFFOLD, SegmentKind.CONTENT
PICTURE = MediaPart(kind="image", url="data:")


def test_neighbours_of_one_kind_become_one_segment() -> None:
    prompt = PromptBuilder().scaffold("a").scaffold("b").content("").content("c").build()
    assert prompt.segments == (
        Segment(kind=SegmentKind.SCAFFOLD, text="ab"),
        Segment(kind=SegmentKind.CONTENT, text="c"),
    )
    assert prompt.text == "abc"


TEXTS = st.text(st.sampled_from("<s>epx "), max_size=3)
BUILDS = st.one_of(
    st.tuples(st.just("scaffold"), TEXTS),
    st.tuples(st.just("content"), TEXTS),
    st.tuples(st.just("turn"), TEXTS, TEXTS, TEXTS),
    st.tuples(st.just("media"), st.just(PICTURE)),
)


@given(steps=st.lists(BUILDS))
@settings(max_examples=300, deadline=None)
def test_a_turn_is_scaffold_content_scaffold_wherever_it_stands(
    steps: list[tuple[Any, ...]],
) -> None:
    quick, plain = PromptBuilder(), PromptBuilder()
    pieces: list[tuple[SegmentKind, str]] = []
    for name, *given_texts in steps:
        getattr(quick, name)(*given_texts)
        if name == "turn":
            opening, text, closing = given_texts
            plain.scaffold(opening).content(text).scaffold(closing)
            pieces += [(SCAFFOLD, opening), (CONTENT, text), (SCAFFOLD, closing)]
        else:
            getattr(plain, name)(*given_texts)
            pieces.append((SegmentKind(name), "" if name == "media" else given_texts[0]))
    told = [piece for piece in pieces if piece[1] or piece[0] is SegmentKind.MEDIA]
    merged = [
        (kind, "".join(text for _, text in run))
        for kind, of_kind in groupby(told, key=itemgetter(0))
        for run in ([[piece] for piece in of_kind] if kind == "media" else [list(of_kind)])
    ]
    segments = quick.build().segments
    assert segments == plain.build().segments
    assert [(segment.kind, segment.text) for segment in segments] == merged


def test_segments_of_a_prompt_can_be_neither_changed_nor_told_from_others() -> None:
    prompt = PromptBuilder().turn("<s>", "a", "</s>").turn("<s>", "b", "</s>").build()
    assert {type(segment) for segment in prompt.segments} == {Segment}
    assert prompt.segments[1] == Segment(kind=CONTENT, text="a")
    assert hash(prompt.segments[1]) == hash(Segment(kind=CONTENT, text="a"))
    for segment in prompt.segments:
        with pytest.raises(FrozenInstanceError):
            segment.text = "c"  # type: ignore[misc]


def test_control_tokens_of_the_scaffold_split_runs_and_those_of_users_do_not() -> None:
    prompt = PromptBuilder().scaffold("<s>[").content("a<sep>b").scaffold("]<sep>x").build()
    assert list(prompt_runs(prompt, TOKENS)) == [Control("<s>"), "[a<sep>b]", Control("<sep>x")]


def test_a_single_control_token_splits_runs_too() -> None:
    prompt = PromptBuilder().scaffold("<s>").content("a").build()
    assert list(prompt_runs(prompt, ("<s>",))) == [Control("<s>"), "a"]


def test_a_token_half_written_by_a_user_is_no_token() -> None:
    prompt = PromptBuilder().content("<se").scaffold("p>").build()
    assert list(prompt_runs(prompt, TOKENS)) == ["<sep>"]


def test_without_control_tokens_all_text_is_one_run() -> None:
    prompt = PromptBuilder().scaffold("<s>").content("a").build()
    assert list(prompt_runs(prompt, ())) == ["<s>a"]


def test_media_have_no_run() -> None:
    prompt = PromptBuilder().scaffold("a").media(PICTURE).scaffold("b").build()
    with pytest.raises(ValueError, match="media"):
        list(prompt_runs(prompt, TOKENS))


def test_media_keep_their_place_among_the_text() -> None:
    prompt = PromptBuilder().scaffold("a").media(PICTURE).media(PICTURE).scaffold("b").build()
    kinds = [segment.kind.value for segment in prompt.segments]
    assert kinds == ["scaffold", "media", "media", "scaffold"]
    assert prompt.media == (PICTURE, PICTURE)
    assert prompt.text == "ab"


@given(pieces=st.lists(st.tuples(st.booleans(), st.text(st.sampled_from("<s>epx ")))))
@settings(max_examples=200, deadline=None)
def test_runs_lose_no_text_and_take_no_token_from_a_user(pieces: list[tuple[bool, str]]) -> None:
    builder = PromptBuilder()
    for scaffold, text in pieces:
        (builder.scaffold if scaffold else builder.content)(text)
    prompt = builder.build()
    runs = list(prompt_runs(prompt, TOKENS))
    texts = [run.text if isinstance(run, Control) else run for run in runs]
    assert "".join(texts) == prompt.text
    scaffold_text = "\0".join(s.text for s in prompt.segments if s.kind is SegmentKind.SCAFFOLD)
    controls = [run.text for run in runs if isinstance(run, Control)]
    assert all(scaffold_text.count(token) >= controls.count(token) for token in TOKENS)


def test_parts_are_joined_and_nothing_is_the_empty_text() -> None:
    parts = (TextPart(text="a"), TextPart(text="b"))
    assert text_of(Message(role="user", content=parts)) == "a\nb"
    assert text_of(Message(role="user", content=parts), separator="") == "ab"
    assert text_of(Message(role="user")) == ""
    assert text_of(Message(role="user", content="c")) == "c"


def test_a_part_that_is_no_text_is_refused_by_place() -> None:
    picture = Message(role="user", content=(PICTURE,))
    with pytest.raises(RequestError, match="not image") as caught:
        text_of(picture, param="messages[3].content")
    assert caught.value.param == "messages[3].content"


def test_json_is_printed_as_templates_print_it() -> None:
    value = {"b": "<é>", "a": [1, None, True]}
    assert tojson(value) == '{"b": "<é>", "a": [1, null, true]}'
    assert tojson([1], indent=4) == "[\n    1\n]"


def test_arguments_are_decoded() -> None:
    assert arguments_object('{"b": 1, "a": "\\u00e9"}') == {"b": 1, "a": "é"}
    assert arguments_object("") == {}


def test_a_number_that_no_float_holds_is_printed_with_all_its_digits() -> None:
    assert tojson(arguments_object('{"x": -1.5e310}')) == '{"x": -15' + "0" * 309 + "}"


@pytest.mark.parametrize(
    "text",
    ["{", "NaN", '{"x": -Infinity}', "1e9999", '"\\ud800"', "[" * 100_000, "9" * 5000],
)
def test_arguments_that_cannot_be_printed_again_are_refused(text: str) -> None:
    with pytest.raises(RequestError, match="not valid JSON") as caught:
        arguments_object(text, param="here")
    assert caught.value.param == "here"


def test_a_developer_speaks_as_system_where_that_is_all_a_template_knows() -> None:
    user = Message(role="user", content="u")
    messages = developer_as_system((Message(role="developer", content="d", name="n"), user))
    assert messages == (Message(role="system", content="d", name="n"), user)


def test_only_the_last_message_is_left_open() -> None:
    user, answer = Message(role="user", content="u"), Message(role="assistant", content="a")
    request = ChatRequest(model="m", messages=(user, answer), continue_final_message=True)
    assert [left_open(request, i) for i in (0, 1)] == [False, True]
    assert not left_open(ChatRequest(model="m", messages=(user,)), 0)


@pytest.mark.parametrize(
    "last",
    [
        Message(role="system", content="s"),
        Message(role="tool", content="t"),
        Message(role="assistant", tool_calls=(ToolCall(id="1", name="f", arguments="{}"),)),
    ],
)
def test_what_is_no_text_of_a_speaker_cannot_be_continued(last: Message) -> None:
    request = ChatRequest(model="m", messages=(last,), continue_final_message=True)
    with pytest.raises(RequestError) as caught:
        left_open(request, 0)
    assert caught.value.param == "messages[0]"


def test_template_kwargs_that_a_format_does_not_know_are_refused_by_name() -> None:
    def asked(**kwargs: str | bool | None) -> ChatRequest:
        return ChatRequest(model="m", messages=(), template_kwargs=kwargs)

    check_template_kwargs(asked())
    check_template_kwargs(
        asked(date_string="today", enable_thinking=True), "date_string", "enable_thinking"
    )
    with pytest.raises(UnsupportedParameter, match="does not know speed; it knows date") as caught:
        check_template_kwargs(asked(speed=True), "date")
    assert caught.value.param == "chat_template_kwargs.speed"
    with pytest.raises(UnsupportedParameter, match="does not know speed$"):
        check_template_kwargs(asked(speed=True))


def test_to_think_is_asked_of_formats_that_know_it_unless_it_is_optional() -> None:
    needed = ChatRequest(model="m", messages=(), reasoning_effort="low")
    check_template_kwargs(needed, "enable_thinking")
    with pytest.raises(UnsupportedParameter, match="knows no reasoning_effort"):
        check_template_kwargs(needed)
    optional = evolve(needed, reasoning_optional=True)
    check_template_kwargs(optional)
    with pytest.raises(UnsupportedParameter, match="does not know speed"):
        check_template_kwargs(evolve(optional, template_kwargs={"speed": True}))


def test_not_to_think_may_be_asked_of_every_model() -> None:
    def asked(value: bool | str | None) -> ChatRequest:
        return ChatRequest(model="m", messages=(), template_kwargs={"enable_thinking": value})

    check_template_kwargs(asked(False))
    check_template_kwargs(asked(None))
    for value in (True, "false"):
        with pytest.raises(UnsupportedParameter, match="does not know enable_thinking"):
            check_template_kwargs(asked(value))

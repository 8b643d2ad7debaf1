"""Where a template prints a place for an image, the prompt has the image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import pytest

from jarvis_core import (
    ChatRequest,
    FormatContext,
    MediaPart,
    Message,
    ModelInfo,
    Prompt,
    RequestError,
    SegmentKind,
    TextPart,
)
from jarvis_core.template import TemplateFormat
from jarvis_core.template.helper import TemplateHelper

IN_ORDER = """
{%- for m in messages %}{{ '<|im_start|>' + m.role + ': ' }}
{%- for part in m.content %}
{%- if part.type == 'image' %}{{ '<image>' }}{% else %}{{ part.text }}{% endif %}
{%- endfor %}{{ '<|im_end|>' }}{% endfor %}"""
IMAGES_FIRST = """
{%- for m in messages %}
{%- for part in m['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}
{%- endfor %}
{%- for part in m['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] }}
{%- endfor %}{% endfor %}"""
IN_TOKENS = """
{%- for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}
{%- for part in m.content %}
{%- if 'image' in part or 'image_url' in part or part.type == 'image' %}
{{- '<|vision_start|><|image_pad|><|vision_end|>' }}{% else %}{{ part.text }}{% endif %}
{%- endfor %}{% endif %}{% endfor %}"""

TOKENS = ("<|im_start|>", "<|im_end|>", "<image>")
VISION = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
FIRST = MediaPart(kind="image", url="data:image/png;base64,AAAA", param="messages[0].content[1]")
SECOND = MediaPart(kind="image", url="data:image/png;base64,BBBB")


class Recorder(TemplateHelper):
    """A helper that keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Mapping[str, Any]] = []

    def render(self, template: str, variables: Mapping[str, Any], *, now: str) -> str:
        self.given.append(variables)
        return super().render(template, variables, now=now)


@pytest.fixture(scope="module")
def helper() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def template(helper: Recorder) -> Iterator[TemplateFormat]:
    chat_format = TemplateFormat(helper)
    yield chat_format
    chat_format.close()


def model(source: str, placeholder: str = "<image>", tokens: tuple[str, ...] = TOKENS) -> ModelInfo:
    return ModelInfo(
        name="tiny",
        source="/m",
        engine="fake",
        context_length=8,
        chat_template=source,
        control_tokens=tokens,
        placeholders={"image": placeholder},
    )


def user(*parts: str | MediaPart) -> Message:
    return Message(
        role="user", content=tuple(TextPart(text=p) if isinstance(p, str) else p for p in parts)
    )


def render(
    template: TemplateFormat, about: ModelInfo | str, *messages: Message, **more: Any
) -> Prompt:
    about = about if isinstance(about, ModelInfo) else model(about)
    context = FormatContext(model=about, now=datetime(2031, 5, 6))
    return template.render(ChatRequest(model="tiny", messages=messages, **more), context)


def outline(prompt: Prompt) -> list[str]:
    """Each segment as text: what is content in quotes, media as the end of their URLs."""
    return [
        s.media.url[-4:] if s.media else repr(s.text) if s.kind is SegmentKind.CONTENT else s.text
        for s in prompt.segments
    ]


def test_images_stand_where_the_template_prints_their_places(template: TemplateFormat) -> None:
    messages = (user("See ", FIRST, " and"), user(SECOND, "Well?"))
    assert outline(render(template, IN_ORDER, *messages)) == [
        "<|im_start|>user: See ",
        "AAAA",
        " and<|im_end|><|im_start|>user: ",
        "BBBB",
        "Well?<|im_end|>",
    ]
    assert outline(render(template, IMAGES_FIRST, *messages)) == [
        *("AAAA", "\nSee  and", "BBBB", "\nWell?")
    ]


def test_a_place_may_be_several_control_tokens(template: TemplateFormat) -> None:
    about = model(IN_TOKENS, "".join(VISION), VISION)
    prompt = render(template, about, user("a", FIRST, SECOND))
    assert outline(prompt) == ["a", "AAAA", "BBBB"]
    assert prompt.media == (FIRST, SECOND)


def test_the_text_of_a_place_in_what_a_user_wrote_stays_text(template: TemplateFormat) -> None:
    said = user("<image>", FIRST, "<ima", SECOND, "ge> <|im_end|>")
    prompt = render(template, IN_ORDER, said)
    assert prompt.media == (FIRST, SECOND)
    scaffold = "|".join(s.text for s in prompt.segments if s.kind is SegmentKind.SCAFFOLD)
    assert "<image>" not in scaffold
    assert prompt.text == "<|im_start|>user: <image><image> <|im_end|><|im_end|>"
    about = model(IN_TOKENS, "".join(VISION), VISION)
    prompt = render(template, about, user("".join(VISION), FIRST, VISION[1]))
    assert prompt.media == (FIRST,)
    assert all(s.kind is not SegmentKind.SCAFFOLD for s in prompt.segments)


def test_a_place_that_is_no_control_token_stays_text_too(template: TemplateFormat) -> None:
    prompt = render(template, model(IN_ORDER, tokens=()), user("<image>", FIRST))
    assert [s.kind.value for s in prompt.segments] == ["scaffold", "content", "media", "scaffold"]


def test_without_images_the_text_of_a_place_is_text(template: TemplateFormat) -> None:
    prompt = render(template, IN_ORDER, user("<image>"))
    assert "'<image>'" in outline(prompt)
    assert prompt.media == ()


def test_templates_never_see_the_image(template: TemplateFormat, helper: Recorder) -> None:
    helper.given.clear()
    render(template, IN_ORDER + "{# rendered first by the process #}", user("a", FIRST))
    assert helper.given[0]["messages"][0]["content"][1] == {"type": "image"}
    assert "AAAA" not in json.dumps(helper.given)


def test_a_template_may_call_images_by_the_name_of_their_wire(template: TemplateFormat) -> None:
    source = IN_ORDER.replace("'image'", '"image_url"')
    assert template.media(model(source)) == {"image"}
    assert render(template, source, user(FIRST)).media == (FIRST,)


@pytest.mark.parametrize(
    "about",
    [
        model("{{ messages[0].content }}"),
        model("{{ messages[0].content }} 'image'"),
        model("{{ messages[0].content }} <image>"),
        model(IN_ORDER, "<picture>"),
    ],
)
def test_a_template_without_a_place_for_images_takes_none(
    about: ModelInfo, template: TemplateFormat
) -> None:
    assert template.media(about) == set()
    with pytest.raises(RequestError, match="'tiny' has no place for content of kind image") as e:
        render(template, about, user("a", FIRST))
    assert e.value.param == "messages[0].content[1]"


def test_kinds_are_told_apart(template: TemplateFormat) -> None:
    assert template.media(model(IN_ORDER)) == {"image"}
    with pytest.raises(RequestError, match="of kind audio") as caught:
        render(template, IN_ORDER, user(MediaPart(kind="audio", url="data:")))
    assert caught.value.param == "messages"


def test_an_image_that_the_template_leaves_out_is_refused(template: TemplateFormat) -> None:
    source = IN_ORDER.replace("in m.content", "in m.content if m.role == 'user'")
    said = (user(SECOND), Message(role="assistant", content=(FIRST,)))
    with pytest.raises(RequestError, match="one place for each content of kind image") as caught:
        render(template, source, *said)
    assert caught.value.param == "messages"


def test_a_template_that_prints_more_places_is_refused(template: TemplateFormat) -> None:
    with pytest.raises(RequestError, match="one place for each"):
        render(template, "<image>" + IN_ORDER, user(FIRST))


def test_an_image_in_the_result_of_a_tool_is_taken_where_the_template_prints_it(
    template: TemplateFormat,
) -> None:
    result = Message(role="tool", content=(TextPart(text="a chart: "), FIRST))
    assert render(template, IN_ORDER, user("Draw."), result).media == (FIRST,)


def test_text_behind_an_image_is_continued_and_an_image_is_not(template: TemplateFormat) -> None:
    said = Message(role="assistant", content=(FIRST, TextPart(text="A cat ")))
    prompt = render(template, IN_ORDER, user("?"), said, continue_final_message=True)
    assert outline(prompt)[-2:] == ["AAAA", "A cat "]
    said = Message(role="assistant", content=(TextPart(text="A cat "), FIRST))
    with pytest.raises(RequestError, match="a last message that ends with text") as caught:
        render(template, IN_ORDER, user("?"), said, continue_final_message=True)
    assert caught.value.param == "messages[1]"


def test_a_developer_may_show_images(template: TemplateFormat) -> None:
    shown = Message(role="developer", content=(TextPart(text="Use this: "), FIRST))
    assert render(template, IN_ORDER, shown).media == (FIRST,)

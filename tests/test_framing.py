"""Text between two markers of its own is told from what stands beside it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarvis_core import FramedParser, TextParser


def read(chunks: Sequence[str], *, inside: bool = False) -> str:
    parser = FramedParser(TextParser(), opening="<a>", closing="</a>", inside=inside)
    deltas = [d for chunk in chunks for d in parser.feed(chunk)] + list(parser.finish())
    return "".join(delta.content for delta in deltas)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("<a>yes</a>", "yes"),
        ("<a>yes", "yes"),
        ("<a>yes</", "yes</"),
        ("<a>", ""),
        ("<", "<"),
        ("yes<a>no</a>", "yes<a>no</a>"),
        ("<a>yes</a>more</a>", "yesmore</a>"),
    ],
)
def test_markers_count_where_the_answer_begins(raw: str, text: str) -> None:
    assert read([raw]) == read(list(raw)) == text


def test_a_prompt_may_have_begun_the_text() -> None:
    assert read(list("yes</a>"), inside=True) == "yes"


@given(st.text(st.sampled_from("<a>/ x")))
def test_where_an_answer_is_cut_carries_no_meaning(raw: str) -> None:
    for inside in (False, True):
        assert read([raw], inside=inside) == read(list(raw), inside=inside)

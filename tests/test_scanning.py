"""Scans read what they look for from text cut anyhow, and say at once when it does not come."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarvis_core import Cursor, Mismatch, Scan, json_text, literal, peek, run_of, spaces, text_until
from jarvis_core.scanning import pieces_until


def read(scan: Callable[[Cursor], Scan[Any]], chunks: list[str]) -> tuple[Any, str]:
    """What a scan returns, and what it leaves of the last chunk; (None, "") if it wants more."""
    cursor = Cursor()
    running = scan(cursor)
    for chunk in chunks:
        cursor.text, cursor.pos = chunk, 0
        try:
            next(running)
        except StopIteration as end:
            return end.value, cursor.text[cursor.pos :]
    return None, ""


@pytest.mark.parametrize("cut", [lambda text: [text], list])
def test_a_literal_is_one_of_its_options(cut: Callable[[str], list[str]]) -> None:
    assert read(lambda c: literal(c, "[ARGS]", "[ID]"), cut("[ID]"))[0] == "[ID]"
    assert read(lambda c: literal(c, "[ARGS]", "[ID]"), cut("[AR")) == (None, "")
    with pytest.raises(Mismatch):
        read(lambda c: literal(c, "[ARGS]", "[ID]"), cut("[X"))


def test_a_run_ends_before_what_does_not_belong_to_it() -> None:
    assert read(lambda c: run_of(c, re.compile("[a-z]*")), ["ab", "c", "-d"]) == ("abc", "-d")
    assert read(lambda c: run_of(c, re.compile("[a-z]*")), ["-"]) == ("", "-")
    assert read(lambda c: run_of(c, re.compile("[a-z]*")), ["abc"]) == (None, "")


def test_spaces_are_skipped_and_a_character_is_peeked_at() -> None:
    def scan(cursor: Cursor) -> Scan[str]:
        yield from spaces(cursor)
        return (yield from peek(cursor))

    assert read(scan, [" ", "\n", "", "  x"]) == ("x", "x")


@pytest.mark.parametrize("cut", [lambda text: [text], list])
def test_json_is_read_to_its_closing_bracket(cut: Callable[[str], list[str]]) -> None:
    text = '{"a": ["}", {"b": null}]}'
    assert read(json_text, cut(text)) == (text, "")
    assert read(json_text, [text + "rest"]) == (text, "rest")
    with pytest.raises(Mismatch):
        read(json_text, cut('{"a": x}'))
    with pytest.raises(Mismatch):
        read(lambda c: json_text(c, opening="["), cut(text))
    with pytest.raises(Mismatch):
        read(lambda c: json_text(c, keys=frozenset({"b"})), cut(text))


@given(text=st.text(st.sampled_from("ab</>\n")), cuts=st.lists(st.integers(0, 40), max_size=6))
def test_text_up_to_another_is_the_same_however_it_is_cut(text: str, cuts: list[int]) -> None:
    for end in ("</a>", "aab", "\n"):
        whole = f"{text}{end}rest"
        places = sorted(min(cut, len(whole)) for cut in cuts)
        cut = [whole[a:b] for a, b in zip([0, *places], [*places, None], strict=True)]
        for chunks in ([whole], list(whole), cut):
            found, _ = read(lambda c, end=end: text_until(c, end), chunks)
            assert found == whole[: whole.index(end)]


def test_text_up_to_another_comes_as_soon_as_it_is_certain() -> None:
    cursor = Cursor("ab<")
    pieces = pieces_until(cursor, "</a>")
    assert (next(pieces), next(pieces)) == ("ab", None)
    cursor.text, cursor.pos = "/b</", 0
    assert (next(pieces), next(pieces)) == ("</b", None)
    cursor.text, cursor.pos = "a>c", 0
    assert list(pieces) == []
    assert cursor.text[cursor.pos :] == "c"

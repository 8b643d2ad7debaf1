"""Scans read what they look for from text cut anyhow, and say at once when it does not come."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from jarvis_core import Cursor, Mismatch, Scan, json_text, literal, peek, run_of, spaces


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

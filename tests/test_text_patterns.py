"""Patterns of JSON schemas say the same in the other kind of regular expression, or nothing."""

from __future__ import annotations

import random

import pytest

from jarvis_core import Grammar, ModelInfo
from jarvis_core.testing.sampling import Sampler
from jarvis_core.text_patterns import text_patterns, whole_pattern

MODEL = ModelInfo(name="m", source="m", engine="e", context_length=1)


@pytest.mark.parametrize(
    ("pattern", "fine", "wrong"),
    [
        (r"^\d{3}-\w+$", ["123-a_B"], ["123-", "x123-a", "123-é", "٣٣٣-a", "123-a\n"]),
        ("b|c", ["abd", "\nc"], ["ad", ""]),
        ("^(a|b)c", ["ac", "bcd"], ["xac", "c"]),
        (r"[^\]\d]$", ["]a", "\n"], ["a]", "1"]),
        (r"^[[&~.\d-]+$", ["[&~.7-"], ["a", "\\"]),
        (r"^a\/\$\u00e9.$", ["a/$éx"], ["a/$é\n", "a/$é"]),
        ("", ["", "x"], []),
    ],
)
def test_a_pattern_is_found_where_it_was(pattern: str, fine: list[str], wrong: list[str]) -> None:
    whole = whole_pattern(pattern)
    assert whole is not None
    grammar = Grammar(MODEL)
    sampler = Sampler(grammar.build(grammar.regex(f"(?:{whole})!")), MODEL)
    assert [text for text in (*fine, *wrong) if sampler.accepts(f"{text}!")] == fine


@pytest.mark.parametrize(
    "pattern",
    ["(?=a)b", "(?<!a)b", r"(a)\1", r"\bfoo\b", "^a|b$", "a|b$", "a^b", r"[\D]", "[+--]", "[]"],
)
def test_what_only_one_kind_can_say_is_not_told(pattern: str) -> None:
    assert whole_pattern(pattern) is None


def test_lengths_and_a_pattern_are_told_and_more_than_can_be_counted_is_not() -> None:
    assert text_patterns({"type": "string"}) == []
    assert text_patterns({"minLength": 2.0, "pattern": "^a$"}) == ["(?s:.{2,})", "(?:a)"]
    assert text_patterns({"maxLength": 0}) == ["(?s:.{0,0})"]
    assert text_patterns({"maxLength": 100_000}) is None
    assert text_patterns({"maxLength": 3, "pattern": "(?=a)"}) is None


@pytest.mark.parametrize("tokens", [(), ("</p>",)])
@pytest.mark.parametrize("limits", [("(?s:.{2,9})",), ("(?s:.{2,9})", "(?s:.*)[<x](?s:.*)")])
def test_a_text_obeys_its_patterns_and_does_not_hold_its_end(
    tokens: tuple[str, ...], limits: tuple[str, ...]
) -> None:
    model = ModelInfo(
        name="m",
        source="m",
        engine="e",
        context_length=1,
        control_tokens=tokens,
        control_token_ids=tuple(range(len(tokens))),
    )
    grammar = Grammar(model)
    sampler = Sampler(grammar.build(grammar.until("\n</p>\n", matching=limits)), model)
    for seed in range(60):
        text = sampler.sample(random.Random(seed))
        assert text.endswith("\n</p>\n")
        value = text.removesuffix("\n</p>\n")
        assert 2 <= len(value) <= 9
        assert len(limits) == 1 or "<" in value or "x" in value
        assert text.index("\n</p>\n") == len(value)
    plain = Sampler(grammar.build(grammar.until("\n</p>\n", matching=limits)), MODEL)
    if not tokens:
        assert plain.accepts("<x>\n</p>\n")
        assert not plain.accepts("<\n</p>\n\n</p>\n")
        assert not plain.accepts("<\n</p>\n</p>\n")

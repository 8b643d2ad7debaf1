"""Constraints as Lark grammars, and complaints as errors for people."""

from __future__ import annotations

import json
from typing import Any

import llguidance
import pytest

from jarvis_core.constraint_grammar import constraint_refusal
from jarvis_core.constraint_grammar import write_grammar as write
from jarvis_core.errors import RequestError
from jarvis_core.structs import Constraint


def write_grammar(wanted: Constraint) -> str:
    return write(wanted, llguidance.regex_to_lark)


def constraint(kind: Any, value: Any) -> Constraint:
    return Constraint(kind=kind, value=value if isinstance(value, str) else json.dumps(value))


def test_a_schema_keeps_its_keys_and_bounds_white_space() -> None:
    text = write_grammar(constraint("json_schema", {"type": "object", "required": ["b", "a"]}))
    schema = json.loads(text.partition("%json ")[2].partition("\n")[0])

    assert schema["required"] == ["b", "a"]
    assert "24" in schema["x-guidance"]["whitespace_pattern"]


def test_options_that_a_schema_has_for_llguidance_are_kept() -> None:
    text = write_grammar(constraint("json_schema", {"x-guidance": {"whitespace_pattern": " "}}))

    assert '"whitespace_pattern": " "' in text


@pytest.mark.parametrize("kind", ["json_schema", "regex", "choice", "lark"])
def test_no_grammar_forces_tokens_whatever_it_says_itself(kind: str) -> None:
    values = {"choice": '["a"]', "json_schema": "{}"}
    own = '%llguidance {"no_forcing": false}\nstart: "a"'
    text = write_grammar(constraint(kind, values.get(kind, own)))

    assert text.rstrip().endswith('%llguidance {"no_forcing": true}')


def test_a_regex_may_end_with_a_backslash_that_is_escaped() -> None:
    assert r"a\\" in write_grammar(constraint("regex", "a\\\\"))


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("json_schema", "{", "not valid JSON"),
        ("json_schema", "[]", "must be an object"),
        ("regex", "a\\", "inside of an escape"),
        ("choice", "[]", "at least one string"),
        ("choice", "[1]", "at least one string"),
        ("choice", '"a"', "at least one string"),
        ("choice", '["\\ud800"]', "surrogate"),
        ("lark", "start: \ud800", "surrogate"),
    ],
)
def test_what_cannot_be_a_grammar_is_refused(kind: str, value: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        write_grammar(constraint(kind, value))


@pytest.mark.parametrize(
    ("kind", "complaint", "message"),
    [
        (
            "json_schema",
            'at 1(8): failed to compile JSON schema: Unimplemented keys: ["if", "then"]\n   1 | x',
            "the JSON schema uses 'if', 'then', which cannot be enforced",
        ),
        ("json_schema", "oneOf constraints are not supported. Enable", "use 'anyOf'"),
        ("json_schema", "schema too large", "the JSON schema is too complex"),
        (
            "lark",
            'at 1(8): unknown name: "b"\n   1 | start: b',
            'cannot be used: unknown name: "b"',
        ),
        ("lark", "NoExtensionBias\n<state>", "allows no text at all"),
        (
            "lark",
            'at 1(8): unknown special token: "<x>"; following special tokens are available: <y>',
            'unknown special token: "<x>"',
        ),
        (
            "regex",
            'at 1(8): invalid regex "secret"\n  secret\nerror: unclosed group\n  1 | secret',
            "the regular expression cannot be used: unclosed group",
        ),
    ],
)
def test_complaints_name_the_fault_and_not_its_surroundings(
    kind: str, complaint: str, message: str
) -> None:
    error = constraint_refusal(constraint(kind, "x"), complaint)

    assert message in error.message
    assert "secret" not in error.message
    assert "following" not in error.message
    assert "\n" not in error.message


def test_a_long_complaint_is_cut() -> None:
    assert len(constraint_refusal(constraint("lark", "x"), "x" * 5000).message) < 300

from __future__ import annotations

from typing import Any

import pytest

from jarvis_core import Constraint, RequestError
from jarvis_vllm import constraint as module
from jarvis_vllm.constraint import ConstraintChecker, spell_controls

pytestmark = pytest.mark.anyio


def constraint(kind: Any, value: str) -> Constraint:
    return Constraint(kind=kind, value=value)


async def test_constraints_become_grammars() -> None:
    checker = ConstraintChecker({})

    async def text(kind: str, value: str) -> str:
        return (await checker.grammar(constraint(kind, value))).text

    assert (await text("regex", "a+")).startswith("start: /")
    assert '"yes" | "no"' in await text("choice", '["yes", "no"]')
    assert "%json" in await text("json_schema", '{"type": "object"}')
    assert "start: A" in await text("lark", 'start: A\nA: "a"')


async def test_a_grammar_knows_when_nothing_can_follow() -> None:
    checker = ConstraintChecker({})
    once = await checker.grammar(constraint("regex", "ab{2}"))
    often = await checker.grammar(constraint("regex", "ab+"))

    assert [once.ends_with(text) for text in ("ab", "abb", "x", "")] == [False, True, False, False]
    assert [often.ends_with(text) for text in ("ab", "abb")] == [False, False]


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("json_schema", '{"not": {}}', "the JSON schema uses 'not', which cannot be enforced"),
        ("regex", "a(b", "the regular expression cannot be used: unclosed group"),
        ("choice", "[]", "a choice must be a list of at least one string"),
        ("lark", "start: nowhere", "the grammar cannot be used: unknown name"),
    ],
)
async def test_what_cannot_be_enforced_is_refused_each_time(
    kind: str, value: str, reason: str
) -> None:
    checker = ConstraintChecker({})
    for _ in range(2):
        with pytest.raises(RequestError, match=reason):
            await checker.grammar(constraint(kind, value))


async def test_what_is_known_is_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    checker = ConstraintChecker({})
    monkeypatch.setattr(module, "MOST_KEPT", 2)
    first = await checker.grammar(constraint("regex", "a"))
    await checker.grammar(constraint("regex", "b"))
    await checker.grammar(constraint("regex", "c"))
    assert [c.value for c in checker._kept] == ["b", "c"]
    assert await checker.grammar(constraint("regex", "a")) == first


async def test_a_check_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    with pytest.raises(RequestError, match="was not compiled in 0 s"):
        await ConstraintChecker({}).grammar(constraint("regex", "a{1,500}"))


CONTROLS = {"<|im_end|>": 2, "<tool_call>": 7}


@pytest.mark.parametrize(
    ("grammar", "spelt"),
    [
        ('start: "a" <|im_end|>', 'start: "a" "<|im_end|>"'),
        ("start: <[7]> x", 'start: "<tool_call>" x'),
        ('start: "<tool_call>" // <tool_call>', 'start: "<tool_call>" // <tool_call>'),
        (r"start: /<tool_call>\/<tool_call>/", r"start: /<tool_call>\/<tool_call>/"),
        (r'start: "\"<tool_call>" <nobody>', r'start: "\"<tool_call>" <nobody>'),
    ],
)
async def test_control_tokens_are_spelt_outside_of_strings(grammar: str, spelt: str) -> None:
    assert spell_controls(grammar, CONTROLS) == spelt


async def test_a_grammar_may_name_the_models_control_tokens() -> None:
    checker = ConstraintChecker(CONTROLS)
    text = 'start: "a" <|im_end|> "b"'
    grammar = await checker.grammar(constraint("lark", text))
    assert "<|im_end|>" in grammar.text
    assert grammar.ends_with("a<|im_end|>b")
    with pytest.raises(RequestError):
        await checker.grammar(constraint("lark", 'start: "a" <nobody>'))
    checker.close()

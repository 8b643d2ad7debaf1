"""Compiled constraints and their matchers over a vocabulary of letters."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from jarvis_core import Constraint, EngineError, RequestError
from jarvis_llamacpp import constraint as module
from jarvis_llamacpp.constraint import ConstraintCompiler
from jarvis_llamacpp.matcher import Matcher, Row
from jarvis_llamacpp.vocabulary import Vocabulary

pytestmark = pytest.mark.anyio

CONTROLS = (b"<|end|>", b"<|turn|>", b"[CALLS]", b"<|eot|>")
LETTERS = Vocabulary(
    pieces=(*CONTROLS, *(bytes([i]) for i in range(4, 128)), b"ab", b'{"'),
    controls={piece.decode(): i for i, piece in enumerate(CONTROLS)},
    end_ids=frozenset({0, 3}),
    eos_id=0,
)
END, EOT = 0, 3


@pytest.fixture
async def compiler() -> AsyncIterator[ConstraintCompiler]:
    compiler = ConstraintCompiler(LETTERS)
    yield compiler
    compiler.close()


def make(kind: Any, value: Any) -> Constraint:
    return Constraint(kind=kind, value=value if isinstance(value, str) else json.dumps(value))


async def matcher_of(
    compiler: ConstraintCompiler, kind: str, value: Any, *, ignore_eos: bool = False
) -> Matcher:
    return compiler.matcher(await compiler.compile(make(kind, value)), ignore_eos=ignore_eos)


def likeliest(row: Row) -> int:
    return int(row.argmax())


def write(matcher: Matcher, *, seed: int = 0, greedy: bool = False, most: int = 400) -> str:
    """What a model with random logits writes."""
    random = np.random.default_rng(seed)
    out = b""
    for _ in range(most):
        if matcher.complete:
            break
        row = random.normal(size=LETTERS.size).astype(np.float32)
        token = matcher.choose(row, likeliest, greedy=greedy)
        if token is None or token in LETTERS.end_ids:
            break
        out += LETTERS.pieces[token]
    return out.decode()


def allowed(matcher: Matcher) -> set[int]:
    row = np.zeros(LETTERS.size, np.float32)
    seen: list[int] = []

    def look(row: Row) -> int:
        seen.extend(np.flatnonzero(np.isfinite(row)).tolist())
        return END

    matcher.choose(row, look, greedy=False)
    return set(seen)


@pytest.mark.parametrize("greedy", [True, False])
async def test_random_text_obeys_each_kind(compiler: ConstraintCompiler, greedy: bool) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    for seed in range(20):
        text = write(
            await matcher_of(compiler, "regex", r"[a-c]+\d{2}/x?"), seed=seed, greedy=greedy
        )
        assert re.fullmatch(r"[a-c]+\d{2}/x?", text)
        text = write(await matcher_of(compiler, "choice", ["abc", 'a"b', "ab\n"]), seed=seed)
        assert text in ("abc", 'a"b', "ab\n")
        found = json.loads(write(await matcher_of(compiler, "json_schema", schema), seed=seed))
        assert found.keys() == {"a", "b"}
        assert isinstance(found["a"], int)


async def test_greedy_choices_are_the_same_with_and_without_the_short_cut(
    compiler: ConstraintCompiler,
) -> None:
    for seed in range(20):
        fast, slow = [
            write(await matcher_of(compiler, "regex", "(ab|b)+c[0-9]"), seed=seed, greedy=greedy)
            for greedy in (True, False)
        ]
        assert fast == slow


async def test_all_end_tokens_may_come_where_the_grammar_may_end(
    compiler: ConstraintCompiler,
) -> None:
    begun = await matcher_of(compiler, "regex", "x+")
    assert allowed(begun) == {ord("x")}
    begun.choose(np.zeros(LETTERS.size, np.float32), lambda row: ord("x"), greedy=False)

    assert allowed(begun) == {ord("x"), END, EOT}


async def test_text_goes_on_while_it_can_when_ends_are_ignored(
    compiler: ConstraintCompiler,
) -> None:
    endless = await matcher_of(compiler, "regex", "x+", ignore_eos=True)
    bounded = await matcher_of(compiler, "regex", "x{1,30}", ignore_eos=True)

    assert write(endless, most=50) == "x" * 50
    assert write(bounded) == "x" * 30


async def test_it_is_complete_with_the_last_token_that_can_come(
    compiler: ConstraintCompiler,
) -> None:
    matcher = await matcher_of(compiler, "regex", "xy")
    row = np.zeros(LETTERS.size, np.float32)
    assert matcher.choose(row, likeliest, greedy=False) == ord("x")
    assert not matcher.complete
    row[:] = 0
    assert matcher.choose(row, likeliest, greedy=False) == ord("y")

    assert matcher.complete


async def test_an_empty_text_can_be_all_there_is(compiler: ConstraintCompiler) -> None:
    assert write(await matcher_of(compiler, "regex", "")) == ""
    assert write(await matcher_of(compiler, "choice", [""])) == ""


async def test_control_tokens_come_only_where_a_grammar_names_them(
    compiler: ConstraintCompiler,
) -> None:
    named = await matcher_of(compiler, "lark", 'start: <|turn|> <[2]> "a"')
    assert write(named) == "<|turn|>[CALLS]a"
    spelled = write(await matcher_of(compiler, "lark", 'start: "<|turn|>"'))
    assert spelled == "<|turn|>"
    anything = await matcher_of(compiler, "regex", r"(.|\n)+")

    assert not allowed(anything) & {0, 1, 2, 3}


async def test_a_grammar_that_names_an_end_token_may_end_there(
    compiler: ConstraintCompiler,
) -> None:
    matcher = await matcher_of(compiler, "lark", 'start: "a" (<|end|> | "b")')
    matcher.choose(np.zeros(LETTERS.size, np.float32), lambda row: ord("a"), greedy=False)

    assert allowed(matcher) == {END, EOT, ord("b")}


async def test_copies_of_one_grammar_go_their_own_ways(compiler: ConstraintCompiler) -> None:
    compiled = await compiler.compile(make("regex", "[a-z]{5}"))
    first = compiler.matcher(compiled, ignore_eos=False)
    second = compiler.matcher(compiled, ignore_eos=False)

    assert len(write(first, seed=1)) == len(write(second, seed=2)) == 5


async def test_logits_that_are_no_numbers_are_not_chosen_from(
    compiler: ConstraintCompiler,
) -> None:
    matcher = await matcher_of(compiler, "regex", "[a-z]{5}")
    row = np.full(LETTERS.size, np.nan, np.float32)
    asked: list[bool] = []

    def refuse(row: Row) -> int:
        asked.append(True)
        return ord("a")

    matcher.choose(row, refuse, greedy=True)
    assert asked == [True]


async def test_a_text_that_takes_too_much_work_ends(
    compiler: ConstraintCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    grammar = 'start: a\na: a a a | /[a-z]/ | a b\nb: a | b b | ""'
    matcher = await matcher_of(compiler, "lark", grammar)
    monkeypatch.setattr("jarvis_llamacpp.matcher._USUAL", 0.0)
    monkeypatch.setattr("jarvis_llamacpp.matcher._SLOWNESS", 0.0)
    with pytest.raises(EngineError, match="too complex"):
        write(matcher)


# -- compiling -----------------------------------------------------------------------------


async def test_what_is_compiled_is_kept_and_forgotten_in_time(
    compiler: ConstraintCompiler,
) -> None:
    first = await compiler.compile(make("regex", "a"))
    assert await compiler.compile(make("regex", "a")) is first
    with pytest.raises(RequestError):
        await compiler.compile(make("regex", "("))
    assert compiler.kept == 2
    for i in range(module.MOST_KEPT):
        await compiler.compile(make("regex", f"b{i}"))

    assert compiler.kept == module.MOST_KEPT
    assert await compiler.compile(make("regex", "a")) is not first


async def test_a_thousand_distinct_schemas_leave_a_bounded_cache(
    compiler: ConstraintCompiler,
) -> None:
    for i in range(1000):
        await compiler.compile(make("json_schema", f'{{"const": {i}}}'))

    assert compiler.kept == module.MOST_KEPT


async def test_long_grammars_are_kept_by_their_size(compiler: ConstraintCompiler) -> None:
    size = module.MOST_KEPT_BYTES // 8
    for i in range(12):
        await compiler.compile(make("choice", [f"{i}" + "x" * size]))

    assert 1 <= compiler.kept <= 8


async def test_an_error_is_raised_anew_for_each_request(compiler: ConstraintCompiler) -> None:
    errors = []
    for _ in range(2):
        with pytest.raises(RequestError) as caught:
            await compiler.compile(make("json_schema", {"not": {}}))
        errors.append(caught.value)

    assert errors[0] is not errors[1]
    assert "'not'" in errors[0].message == errors[1].message


async def test_waiting_for_a_grammar_ends(
    compiler: ConstraintCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    await compiler.compile(make("regex", "a"))
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    monkeypatch.setattr(compiler, "_compile", lambda constraint: time.sleep(0.5))
    with pytest.raises(RequestError, match="not compiled in"):
        await compiler.compile(make("regex", "b"))


async def test_the_event_loop_goes_on_while_bombs_are_compiled(
    compiler: ConstraintCompiler,
) -> None:
    many = " | ".join(f"r{i}" for i in range(2000))
    rules = "\n".join(f'r{i}: "a" r{(i * 7) % 2000} | "b"' for i in range(2000))
    bombs = [
        make("lark", f"start: {many}\n{rules}"),
        make("json_schema", {"properties": {f"p{i}": {"type": "string"} for i in range(1500)}}),
        make("regex", "(((a{100}){100}){100}){100}"),
        make("regex", "(" * 30_000 + ")" * 30_000),
        make("lark", "start: " + "(" * 30_000 + '"a"' + ")" * 30_000),
        make("json_schema", {"type": "integer", "multipleOf": 1234567, "minimum": 10**15}),
        make("json_schema", {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
    ]
    worst = 0.0
    done = asyncio.gather(*map(compiler.compile, bombs), return_exceptions=True)
    while not done.done():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        worst = max(worst, time.perf_counter() - began)
    refused = [answer for answer in await done if isinstance(answer, BaseException)]

    assert all(isinstance(error, RequestError) for error in refused), refused
    assert len(refused) >= 5
    assert worst < 1.0

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from jarvis_core import (
    Constraint,
    EngineError,
    EngineOutput,
    GenerationRequest,
    Prompt,
    TextStream,
    read_pieces,
)
from jarvis_vllm.constraint import ConstraintChecker
from jarvis_vllm.continuation import Continuation
from jarvis_vllm.logprobs import LogprobReader
from jarvis_vllm.work import Work

PIECES = (*(bytes([i]) for i in range(128)), "é".encode()[:1], "é".encode()[1:])
END = 0


def continuation(*stop: str, index: int = 0, min_tokens: int = 0, **others: Any) -> Continuation:
    return Continuation(
        index,
        TextStream(PIECES, read_pieces(PIECES), stop),
        min_tokens=min_tokens,
        **({"logprobs": None, "reader": LogprobReader(PIECES), "stop_texts": {}} | others),
    )


def new(
    text: str | list[int], reason: str | None = None, *, stop: int | None = None, **others: Any
) -> Any:
    """A RequestOutput of vLLM's, in what of it is looked at."""
    ids = list(text.encode()) if isinstance(text, str) else text
    completion = SimpleNamespace(
        token_ids=ids, finish_reason=reason, stop_reason=stop, logprobs=others.pop("logprobs", None)
    )
    return SimpleNamespace(outputs=[completion], num_cached_tokens=others.pop("cached", 0))


def text_of(outputs: list[EngineOutput | None]) -> str:
    return "".join(o.text for o in outputs if o is not None)


def test_tokens_become_text() -> None:
    output = continuation().read(new("ab"))

    assert output == EngineOutput(text="ab", token_ids=(97, 98))


def test_half_of_a_character_waits_for_the_other() -> None:
    found = continuation()

    assert found.read(new([128])) is None
    assert found.read(new([129])) == EngineOutput(text="é", token_ids=(128, 129))


def test_the_end_token_counts_and_is_not_told() -> None:
    found = continuation()
    output = found.read(new([97, END], "stop"))

    assert output == EngineOutput(text="a", token_ids=(97,), finish_reason="stop")
    assert (found.generated, found.finished, found.ended_here) == (2, True, False)


@pytest.mark.anyio
@pytest.mark.parametrize(("pattern", "generated"), [("ab", 2), ("ab*", 3)])
async def test_an_end_that_the_grammar_forces_is_no_token(pattern: str, generated: int) -> None:
    """llama.cpp's engine ends there without computing one."""
    grammar = await ConstraintChecker({}).grammar(Constraint(kind="regex", value=pattern))
    found = continuation(grammar=grammar)
    found.read(new("a"))
    found.read(new([98, END], "stop"))

    assert found.generated == generated


def test_a_stop_string_ends_it_here() -> None:
    found = continuation("cd")

    assert found.read(new("abc")) == EngineOutput(text="ab", token_ids=(97, 98, 99))
    output = found.read(new("de"))
    assert output == EngineOutput(token_ids=(100,), finish_reason="stop", stop_string="cd")
    assert (found.generated, found.ended_here) == (4, True)


def test_a_stop_string_before_min_tokens_is_text() -> None:
    found = continuation("b", min_tokens=3)

    assert text_of([found.read(new("abc")), found.read(new("ab"))]) == "abca"
    assert found.ended_here


def test_what_might_be_a_stop_string_is_sent_at_the_end() -> None:
    found = continuation("cd")

    assert text_of([found.read(new("abc")), found.read(new([], "length"))]) == "abc"


def test_a_control_token_that_is_a_stop_string_is_told_as_one() -> None:
    found = continuation("<end>", stop_texts={7: "<end>"})
    output = found.read(new([97, 7], "stop", stop=7))

    assert output == EngineOutput(
        text="a", token_ids=(97,), finish_reason="stop", stop_string="<end>"
    )


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_what_vllm_gave_up_is_an_error(reason: str) -> None:
    with pytest.raises(EngineError, match="ended the request before"):
        continuation().read(new("a", reason))


def test_logprobs_wait_for_their_text() -> None:
    def logprob(value: float, rank: int) -> Any:
        return SimpleNamespace(logprob=value, rank=rank)

    given = [
        {97: logprob(-0.5, 1), 98: logprob(-1.5, 2)},
        {99: logprob(-3.0, 9), 97: logprob(-0.1, 1), 98: logprob(float("-inf"), 2)},
    ]
    found = continuation("cx", logprobs=2)
    first = found.read(new("ac", logprobs=given))
    last = found.read(new([END], "stop", logprobs=[{END: logprob(-0.1, 1)}]))

    assert first is not None
    assert last is not None
    assert [(p.token, p.logprob) for p in first.logprobs] == [("a", -0.5), ("c", -3.0)]
    assert [[(t.token, t.logprob) for t in p.top] for p in first.logprobs] == [
        [("a", -0.5), ("b", -1.5)],
        [("a", -0.1), ("b", -9999.0)],
    ]
    assert last.logprobs == ()


def test_the_last_of_all_has_the_usage() -> None:
    work = Work(
        request=GenerationRequest(id="r", prompt=Prompt()),
        prompt={"prompt_token_ids": [1, 2, 3]},
        continuations=[continuation(index=0), continuation(index=1)],
    )
    outputs = [
        work.read(1, new([97, END], "stop")),
        work.read(0, new("b", cached=2)),
        work.read(0, new("c", "length", cached=2)),
    ]

    assert [o is not None and o.usage is not None for o in outputs] == [False, False, True]
    last = outputs[-1]
    assert last is not None
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (3, 4)
    assert last.usage.cached_tokens == 2
    assert work.read(1, new("late")) is None

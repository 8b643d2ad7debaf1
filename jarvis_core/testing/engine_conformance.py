"""What every engine has to do, as tests to inherit.

A plugin's test file::

    class TestEcho(EngineConformance):
        @pytest.fixture
        async def engine(self):
            engine = await ECHO.load(ModelSpec(name="m", source="m", path="m"), EchoSettings())
            yield engine
            await engine.aclose()
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any, ClassVar, cast

from attrs import evolve, fields

from jarvis_core.errors import ContextLengthExceeded, JarvisError, RequestError
from jarvis_core.interfaces import Engine
from jarvis_core.rendering import PromptBuilder
from jarvis_core.structs import (
    Constraint,
    EngineOutput,
    GenerationRequest,
    Prompt,
    SamplingParams,
    Segment,
    SegmentKind,
    Share,
    TokenLogprob,
    Usage,
)
from jarvis_core.testing.task_conformance import PATIENCE, TaskConformance

_REQUEST_PARAMETERS = {"n", "logprobs", "prompt_logprobs", "priority", "cache_salt", "share"}


CROWD_TOKENS = 48
"""Tokens of each answer of a crowd: so many that a single token of another one comes before."""


class EngineConformance(TaskConformance):
    """Inherit, and give a fixture ``engine``: an engine that nothing else uses meanwhile.

    A parameter that the engine's capabilities do not name is not tried.

    Attributes:
        prompt: How it goes on is beyond doubt, so that greedy text does not hang on rounding.
        concurrency: Requests sent at once.
    """

    prompt: ClassVar[Prompt] = PromptBuilder().scaffold("1 2 3 4 5 6 7 8 9 10 11 12 13 14").build()
    concurrency: ClassVar[int] = 16

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Mark the tests as coroutines; only who inherits needs pytest."""
        import pytest

        super().__init_subclass__(**kwargs)
        cls.pytestmark = [pytest.mark.anyio]

    pytestmark: ClassVar[list[Any]] = []

    # -- what it says of itself ------------------------------------------------------------

    async def test_info_describes_a_model_that_generates(self, engine: Engine) -> None:
        info = engine.info

        assert info.name
        assert info.engine
        assert info.context_length > 0
        assert info.vocab_size > 0
        assert "generate" in info.capabilities.tasks

    async def test_capabilities_name_parameters_that_exist(self, engine: Engine) -> None:
        known = {field.name for field in fields(SamplingParams)} - {"extra"}
        named = {n for n in engine.info.capabilities.parameters if n not in _REQUEST_PARAMETERS}
        extra = named - known

        assert not [name for name in extra if not re.fullmatch(r"[a-z][a-z0-9_]*", name)]

    # -- the order of outputs --------------------------------------------------------------

    async def test_the_first_output_accepts_with_the_number_of_prompt_tokens(
        self, engine: Engine
    ) -> None:
        first, *rest = await self.run(engine, max_tokens=4)

        assert first.prompt_tokens == len(await engine.tokenize(self.prompt))
        assert (first.text, first.token_ids, first.finish_reason) == ("", (), None)
        assert [o.prompt_tokens for o in rest] == [None] * len(rest)

    async def test_the_last_output_alone_has_finish_reason_and_usage(self, engine: Engine) -> None:
        *before, last = await self.run(engine, max_tokens=4)

        assert last.finish_reason in ("stop", "length")
        assert last.usage is not None
        assert last.usage.prompt_tokens == before[0].prompt_tokens
        assert 0 <= last.usage.cached_tokens <= last.usage.prompt_tokens
        assert {(o.finish_reason, o.usage) for o in before} == {(None, None)}

    async def test_max_tokens_ends_generation(self, engine: Engine) -> None:
        outputs = await self.run(engine, max_tokens=5)

        assert usage_of(outputs).completion_tokens == 5
        assert outputs[-1].finish_reason == "length"
        assert text_of(outputs)

    async def test_token_ids_are_those_behind_the_text(self, engine: Engine) -> None:
        outputs = await self.run(engine, max_tokens=6)
        ids = ids_of(outputs)

        assert 0 < len(ids) <= usage_of(outputs).completion_tokens
        assert (await engine.detokenize(ids)).strip() == text_of(outputs).strip()

    # -- many at once ----------------------------------------------------------------------

    async def test_greedy_text_is_the_same_alone_and_among_others(self, engine: Engine) -> None:
        alone = text_of(await self.run(engine, max_tokens=6))
        together = await asyncio.gather(
            *(self.run(engine, max_tokens=6) for _ in range(self.concurrency))
        )

        assert {text_of(outputs) for outputs in together} == {alone}

    async def test_each_of_many_requests_gets_its_own_answer(self, engine: Engine) -> None:
        prompts = [with_text(self.prompt, f"{i} " * (1 + i % 3)) for i in range(self.concurrency)]
        lengths = [len(await engine.tokenize(prompt)) for prompt in prompts]
        answers = await asyncio.gather(
            *(self.run(engine, prompt=p, max_tokens=1 + i % 5) for i, p in enumerate(prompts))
        )

        assert [outputs[0].prompt_tokens for outputs in answers] == lengths
        for i, outputs in enumerate(answers):
            assert usage_of(outputs).prompt_tokens == lengths[i]
            assert 1 <= usage_of(outputs).completion_tokens <= 1 + i % 5

    async def test_others_go_on_while_it_generates(self, engine: Engine) -> None:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        beside = asyncio.create_task(others())
        try:
            await self.run(engine, max_tokens=6)
        finally:
            beside.cancel()

        assert turns, "generate never awaits: nothing else of the host can run meanwhile"

    # -- how generation ends ---------------------------------------------------------------

    async def test_a_stop_string_ends_the_text_and_is_not_sent(self, engine: Engine) -> None:
        reference = text_of(await self.run(engine, max_tokens=8))
        middle = len(reference) // 2
        stop = reference[middle : middle + 2]
        outputs = await self.run(engine, max_tokens=8, stop=(stop,))

        assert text_of(outputs) == reference[: reference.index(stop)]
        assert (outputs[-1].finish_reason, outputs[-1].stop_string) == ("stop", stop)

    async def test_a_stop_string_that_does_not_come_changes_nothing(self, engine: Engine) -> None:
        reference = text_of(await self.run(engine, max_tokens=8))
        start_only = reference[-1] + "\x00"
        outputs = await self.run(engine, max_tokens=8, stop=(start_only,))

        assert text_of(outputs) == reference
        assert outputs[-1].finish_reason == "length"

    async def test_stop_token_ids_end_generation(self, engine: Engine) -> None:
        self.needs(engine, "stop_token_ids")
        ids = ids_of(await self.run(engine, max_tokens=6))
        outputs = await self.run(engine, max_tokens=6, stop_token_ids=(ids[2],))

        assert usage_of(outputs).completion_tokens == ids.index(ids[2]) + 1
        assert outputs[-1].finish_reason == "stop"

    async def test_min_tokens_come_before_an_end_is_allowed(self, engine: Engine) -> None:
        self.needs(engine, "min_tokens", "stop_token_ids")
        ids = ids_of(await self.run(engine, max_tokens=6))
        outputs = await self.run(engine, max_tokens=6, stop_token_ids=(ids[0],), min_tokens=4)

        assert 4 <= usage_of(outputs).completion_tokens <= 6

    async def test_the_end_token_ends_generation_unless_it_is_ignored(self, engine: Engine) -> None:
        self.needs(engine, "ignore_eos", "logit_bias")
        end = engine.info.eos_token
        assert end is not None
        (end_id,) = await engine.tokenize(PromptBuilder().scaffold(end).build())
        bias = {end_id: 100.0}
        ended = await self.run(engine, max_tokens=4, logit_bias=bias)
        ignored = await self.run(engine, max_tokens=4, logit_bias=bias, ignore_eos=True)

        assert (text_of(ended), ended[-1].finish_reason) == ("", "stop")
        assert ignored[-1].finish_reason == "length"
        assert usage_of(ignored).completion_tokens == 4

    # -- aborting --------------------------------------------------------------------------

    async def test_closing_after_some_text_ends_the_work(self, engine: Engine) -> None:
        async with aclosing(engine.generate(self.request())) as outputs:
            async for output in outputs:
                if output.text:
                    break

        await self.idle(engine)

    async def test_closing_before_any_text_ends_the_work(self, engine: Engine) -> None:
        async with aclosing(engine.generate(self.request())) as outputs:
            await anext(outputs)

        await self.idle(engine)

    async def test_closing_many_that_wait_ends_the_work(self, engine: Engine) -> None:
        streams = [engine.generate(self.request()) for _ in range(3 * self.concurrency)]
        for stream in streams:
            await anext(stream)
        for stream in streams:
            await stream.aclose()

        await self.idle(engine)

    async def test_a_cancelled_reader_ends_the_work(self, engine: Engine) -> None:
        reader = asyncio.create_task(self.run(engine, max_tokens=None))
        await asyncio.sleep(0.05)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)

        await self.idle(engine)

    # -- several who share it --------------------------------------------------------------

    async def test_who_has_nothing_takes_a_place_of_who_has_most(self, engine: Engine) -> None:
        import pytest

        if not engine.info.capabilities.gives_way:
            pytest.skip("nothing gives way")
        places = engine.info.max_num_seqs
        changes = {"max_tokens": CROWD_TOKENS, "ignore_eos": True}
        alone = await self.run(engine, **changes)
        many = self.request(share=Share(name="many", others=places), **changes)
        async with AsyncExitStack() as stack:
            crowd = [
                await stack.enter_async_context(aclosing(engine.generate(many)))
                for _ in range(places)
            ]
            found = await asyncio.gather(*map(_until_text, crowd))
            one = await self.run(engine, max_tokens=1, share=Share(name="one"))
            left = 0
            for _ in range(5):  # between two places a sequence may be in neither number
                stats = engine.stats()
                left = max(left, stats.running + stats.waiting)
                await asyncio.sleep(0.005)
            async with asyncio.timeout(PATIENCE):
                for outputs, before in zip(crowd, found, strict=True):
                    before += [output async for output in outputs]

        assert usage_of(one).completion_tokens == 1
        assert left == places
        assert [ids_of(outputs) for outputs in found] == [ids_of(alone)] * places

    # -- what cannot be --------------------------------------------------------------------

    async def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(
        self, engine: Engine
    ) -> None:
        length = engine.info.context_length
        ids = await engine.tokenize(self.prompt)
        long = Prompt(token_ids=tuple(ids[:1] * (length + 1)))
        error = await self.refused(engine, ContextLengthExceeded, prompt=long)

        assert {length, length + 1} <= numbers_in(error.message)
        await self.idle(engine)

    async def test_max_tokens_that_do_not_fit_are_refused_with_both_numbers(
        self, engine: Engine
    ) -> None:
        length = engine.info.context_length
        prompt_tokens = len(await engine.tokenize(self.prompt))
        error = await self.refused(engine, ContextLengthExceeded, max_tokens=length)

        assert {length, prompt_tokens} <= numbers_in(error.message)

    async def test_a_token_id_outside_the_vocabulary_is_refused(self, engine: Engine) -> None:
        right = (await engine.tokenize(self.prompt))[0]
        for wrong in (-1, engine.info.vocab_size, 2**31):
            prompt = Prompt(token_ids=(right, wrong))
            await self.refused(engine, RequestError, prompt=prompt, max_tokens=1)
            assert isinstance(await error_of(engine.detokenize([wrong])), RequestError)

    # -- tokens ----------------------------------------------------------------------------

    async def test_text_comes_back_from_its_token_ids(self, engine: Engine) -> None:
        for text in ("Hello, world!", "two\n\nlines\tand  spaces", "Grüße, 世界 🎉👩‍👩‍👧"):
            prompt = Prompt(segments=(Segment(kind=SegmentKind.CONTENT, text=text),))
            ids = await engine.tokenize(prompt)
            assert await engine.detokenize(ids) == text

    async def test_token_ids_given_are_the_token_ids_used(self, engine: Engine) -> None:
        ids = await engine.tokenize(self.prompt)
        prompt = Prompt(token_ids=tuple(ids))

        assert await engine.tokenize(prompt) == ids
        reference = text_of(await self.run(engine, max_tokens=4))
        assert text_of(await self.run(engine, prompt=prompt, max_tokens=4)) == reference

    async def test_control_tokens_come_from_the_scaffold_only(self, engine: Engine) -> None:
        for control in engine.info.control_tokens[:32]:
            scaffold = await engine.tokenize(PromptBuilder().scaffold(control).build())
            content = await engine.tokenize(PromptBuilder().content(f"a{control}b").build())
            assert len(scaffold) == 1
            assert scaffold[0] not in content
            assert await engine.detokenize(content) == f"a{control}b"

    # -- parameters ------------------------------------------------------------------------

    async def test_n_continuations_each_have_an_end_and_the_last_output_the_usage(
        self, engine: Engine
    ) -> None:
        self.needs(engine, "n")
        *before, last = await self.run(engine, n=3, max_tokens=4)

        ends = [o.index for o in (*before, last) if o.finish_reason is not None]
        assert sorted(ends) == [0, 1, 2]
        assert last.usage is not None
        assert last.usage.completion_tokens == 12
        assert all(o.usage is None for o in before)
        assert len({text_of([*before, last], index) for index in range(3)}) == 1

    async def test_a_seed_makes_sampling_repeatable(self, engine: Engine) -> None:
        self.needs(engine, "seed")
        wild: dict[str, Any] = {"temperature": 1.5, "max_tokens": 6, "seed": 7}
        await self.run(engine, **wild)  # from here on, both find the same in the prefix cache

        assert text_of(await self.run(engine, **wild)) == text_of(await self.run(engine, **wild))

    async def test_filters_that_leave_one_token_make_sampling_greedy(self, engine: Engine) -> None:
        greedy = text_of(await self.run(engine, max_tokens=6))
        for name, value in (("top_k", 1), ("top_p", 1e-6), ("min_p", 1.0)):
            if name in engine.info.capabilities.parameters:
                params = {name: value}
                wild = await self.run(engine, max_tokens=6, temperature=2.0, **params)
                assert text_of(wild) == greedy, name

    async def test_a_bias_decides_which_token_comes(self, engine: Engine) -> None:
        self.needs(engine, "logit_bias")
        wanted = ids_of(await self.run(engine, max_tokens=1))[0]
        other = next(i for i in await engine.tokenize(self.prompt) if i != wanted)
        outputs = await self.run(engine, max_tokens=3, logit_bias={other: 100.0})

        assert ids_of(outputs) == [other] * 3

    async def test_penalties_keep_tokens_from_coming_again(self, engine: Engine) -> None:
        self.needs(engine, "logit_bias")
        token = (await engine.tokenize(self.prompt))[0]
        biased: dict[str, Any] = {"max_tokens": 24, "logit_bias": {token: 24.0}}
        free = ids_of(await self.run(engine, **biased)).count(token)
        for name, value in (("frequency_penalty", 2.0), ("repetition_penalty", 100.0)):
            if name in engine.info.capabilities.parameters:
                penalized: dict[str, Any] = {**biased, name: value}
                assert ids_of(await self.run(engine, **penalized)).count(token) < free, name

    async def test_logprobs_come_with_each_token(self, engine: Engine) -> None:
        self.needs(engine, "logprobs")
        outputs = await self.run(engine, max_tokens=4, logprobs=3)
        found = [logprob for o in outputs for logprob in o.logprobs]

        assert [logprob.token_id for logprob in found] == ids_of(outputs)
        for logprob in found:
            check_logprob(logprob)

    # -- constraints -----------------------------------------------------------------------

    async def test_a_choice_is_one_of_its_strings(self, engine: Engine) -> None:
        self.enforces(engine, "choice")
        choices = ["purple", "crimson", 'a "quoted" one\n']
        for wild in (0.0, 2.0):
            outputs = await self.constrained(
                engine, "choice", choices, temperature=wild, max_tokens=40
            )
            assert text_of(outputs) in choices
            assert outputs[-1].finish_reason == "stop"

    async def test_text_matches_its_regex_whatever_is_asked_for_beside(
        self, engine: Engine
    ) -> None:
        self.enforces(engine, "regex")
        pattern = r"[A-F]{4}/\d{2}\."
        asked = {"ignore_eos": True, "min_tokens": 20, "stop": ("\x00",), "temperature": 1.5}
        known = engine.info.capabilities.parameters
        named = {k: v for k, v in asked.items() if k in known}
        for changes in ({}, named):
            outputs = await self.constrained(
                engine, "regex", pattern, **{"max_tokens": 40, **changes}
            )
            assert re.fullmatch(pattern, text_of(outputs))
            assert outputs[-1].finish_reason == "stop"

    async def test_json_obeys_its_schema(self, engine: Engine) -> None:
        self.enforces(engine, "json_schema")
        schema = {
            "type": "object",
            "properties": {
                "colour": {"enum": ["purple", "crimson"]},
                "count": {"type": "integer", "minimum": 1, "maximum": 9},
            },
            "required": ["colour", "count"],
            "additionalProperties": False,
        }
        outputs = await self.constrained(engine, "json_schema", schema, max_tokens=200)
        found = json.loads(text_of(outputs))

        assert list(found) == ["colour", "count"]
        assert found["colour"] in ("purple", "crimson")
        assert 1 <= found["count"] <= 9
        assert outputs[-1].finish_reason == "stop"

    async def test_a_lark_grammar_is_followed_and_may_hold_a_json_schema(
        self, engine: Engine
    ) -> None:
        self.enforces(engine, "lark")
        grammar = 'start: "<call>" arguments "</call>"\narguments: %json {"const": [1, "two"]}\n'
        outputs = await self.constrained(engine, "lark", grammar, max_tokens=100)
        call = re.fullmatch(r"<call>(.*)</call>", text_of(outputs), re.DOTALL)

        assert call
        assert json.loads(call[1]) == [1, "two"]
        assert outputs[-1].finish_reason == "stop"

    async def test_a_lark_grammar_names_control_tokens_in_angle_brackets(
        self, engine: Engine
    ) -> None:
        self.enforces(engine, "lark")
        named = [t for t in engine.info.control_tokens if re.fullmatch(r"<[^<>\s\[]+>", t)]
        control = [t for t in named if t != engine.info.eos_token][-1]
        outputs = await self.constrained(engine, "lark", f'start: "a" {control} "b"', max_tokens=9)
        (control_id,) = await engine.tokenize(PromptBuilder().scaffold(control).build())

        if outputs[-1].finish_reason == "stop" and control_id not in ids_of(outputs):
            assert text_of(outputs) == "a"  # it ends generation too
        else:
            assert text_of(outputs) == f"a{control}b"
            assert ids_of(outputs).count(control_id) == 1

    async def test_max_tokens_end_constrained_text_too(self, engine: Engine) -> None:
        self.enforces(engine, "regex")
        outputs = await self.constrained(engine, "regex", "(ab){50}", max_tokens=3)

        assert ("ab" * 50).startswith(text_of(outputs))
        assert outputs[-1].finish_reason == "length"
        assert usage_of(outputs).completion_tokens == 3

    async def test_constraints_of_some_do_not_touch_the_others(self, engine: Engine) -> None:
        self.enforces(engine, "regex")
        free = text_of(await self.run(engine, max_tokens=6))
        *answers, _ = await asyncio.gather(
            *(self.run(engine, max_tokens=6) for _ in range(3)),
            self.constrained(engine, "regex", "x{6}", max_tokens=9),
        )

        assert {text_of(outputs) for outputs in answers} == {free}

    async def test_each_of_n_continuations_obeys_the_constraint(self, engine: Engine) -> None:
        self.enforces(engine, "regex")
        self.needs(engine, "n", "temperature")
        outputs = await self.constrained(
            engine, "regex", "[a-z]{3}=[0-9]", n=3, temperature=2.0, max_tokens=20
        )

        texts = [text_of(outputs, index) for index in range(3)]
        assert all(re.fullmatch("[a-z]{3}=[0-9]", text) for text in texts), texts

    async def test_constraints_that_cannot_be_enforced_are_refused_with_the_reason(
        self, engine: Engine
    ) -> None:
        bad = {
            "json_schema": ['{"not": {"type": "string"}}', "not"],
            "regex": ["a(b", "regular expression"],
            "choice": ["[]", "choice"],
            "lark": ["start: nowhere", "nowhere"],
        }
        for kind in sorted(engine.info.capabilities.constraints & bad.keys()):
            value, named = bad[kind]
            constraint = Constraint(kind=cast(Any, kind), value=value)
            error = await self.refused(engine, RequestError, constraint=constraint)
            assert named in error.message

    # -- for the tests ---------------------------------------------------------------------

    def request(self, **changes: Any) -> GenerationRequest:
        """A request for ``prompt``, greedy unless changed; changes are of either class."""
        sampling = {k: v for k, v in changes.items() if hasattr(SamplingParams(), k)}
        others = {k: v for k, v in changes.items() if k not in sampling}
        request = GenerationRequest(
            id="conformance",
            prompt=self.prompt,
            sampling=evolve(SamplingParams(temperature=0.0), **sampling),
        )
        return evolve(request, **others)

    async def run(self, engine: Engine, **changes: Any) -> list[EngineOutput]:
        """All outputs of a request."""
        async with asyncio.timeout(PATIENCE):
            return [output async for output in engine.generate(self.request(**changes))]

    async def refused(self, engine: Engine, kind: type[JarvisError], **changes: Any) -> JarvisError:
        """The error of a request that must be refused before its first output."""
        error = await error_of(anext(engine.generate(self.request(**changes))))
        assert isinstance(error, kind)
        return error

    async def idle(self, engine: Engine) -> None:
        """Wait until the engine does nothing any more."""
        async with asyncio.timeout(PATIENCE):
            # An engine tells nobody when it becomes idle; its numbers are all there is.
            while (s := engine.stats()).running or s.waiting or s.kv_used:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def constrained(
        self, engine: Engine, kind: str, value: Any, **changes: Any
    ) -> list[EngineOutput]:
        """All outputs of a request with a constraint."""
        text = value if isinstance(value, str) else json.dumps(value)
        constraint = Constraint(kind=cast(Any, kind), value=text)
        return await self.run(engine, constraint=constraint, **changes)

    def enforces(self, engine: Engine, kind: str) -> None:
        """Skip a test of constraints that the engine does not declare."""
        import pytest

        if kind not in engine.info.capabilities.constraints:
            pytest.skip(f"not declared: {kind}")

    def needs(self, engine: Engine, *parameters: str) -> None:
        """Skip a test of parameters that the engine does not declare."""
        import pytest

        missing = set(parameters) - engine.info.capabilities.parameters
        if missing:
            pytest.skip(f"not declared: {', '.join(sorted(missing))}")


async def _until_text(outputs: AsyncIterator[EngineOutput]) -> list[EngineOutput]:
    """The first outputs, up to one with text."""
    found = []
    async with asyncio.timeout(PATIENCE):
        async for output in outputs:
            found.append(output)
            if output.text:
                break
    return found


async def error_of(coroutine: Any) -> BaseException | None:
    """What a coroutine raises, None if it returns."""
    async with asyncio.timeout(PATIENCE):
        try:
            await coroutine
        except JarvisError as error:
            return error
    return None


def text_of(outputs: Sequence[EngineOutput], index: int = 0) -> str:
    """The whole text of one continuation."""
    return "".join(o.text for o in outputs if o.index == index)


def ids_of(outputs: Sequence[EngineOutput], index: int = 0) -> list[int]:
    """The token ids of one continuation."""
    return [token_id for o in outputs if o.index == index for token_id in o.token_ids]


def usage_of(outputs: Sequence[EngineOutput]) -> Usage:
    """The usage of a request, from its last output."""
    usage = outputs[-1].usage
    assert usage is not None
    return usage


def with_text(prompt: Prompt, text: str) -> Prompt:
    """A prompt with some content before its last segment."""
    content = Segment(kind=SegmentKind.CONTENT, text=text)
    return evolve(prompt, segments=(*prompt.segments[:-1], content, *prompt.segments[-1:]))


def numbers_in(message: str) -> set[int]:
    """The whole numbers in a message; commas may group their digits."""
    return {int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*\d|\d", message)}


def check_logprob(logprob: TokenLogprob) -> None:
    """Whether a logprob of a greedy token with three likeliest ones is sound."""
    values = [top.logprob for top in logprob.top]
    assert len(values) == 3
    assert values == sorted(values, reverse=True)
    assert logprob.logprob <= 0
    assert logprob.top[0].token_id == logprob.token_id
    assert logprob.data.decode("utf-8", "replace") == logprob.token

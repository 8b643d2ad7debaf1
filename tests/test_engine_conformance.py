"""The kit for engines: a right engine passes, and each way of being wrong is caught."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

import pytest
from attrs import evolve

from jarvis_core import (
    ContextLengthExceeded,
    Embeddings,
    EngineOutput,
    EngineStats,
    GenerationRequest,
    ModelSpec,
    Prompt,
    Ranking,
    RequestError,
    Usage,
)
from jarvis_core.testing import EngineConformance, FakeEngine
from jarvis_core.testing.fake import FakeSettings

SPEC = ModelSpec(name="m", source="m", path="m")


class TestFakeEngine(EngineConformance):
    """The fake engine passes the kit."""

    @pytest.fixture
    def engine(self) -> FakeEngine:
        """A fresh one."""
        return FakeEngine(SPEC)


class TestSharedFakeEngine(EngineConformance):
    """It does with few places, too."""

    @pytest.fixture
    def engine(self) -> FakeEngine:
        """A fresh one."""
        return FakeEngine(SPEC, FakeSettings(max_num_seqs=2))


class Kit(EngineConformance):
    """The kit's tests, to be called one by one."""

    __test__ = False


class Altered(FakeEngine):
    """A fake engine whose outputs are changed on their way."""

    def __init__(self, change: Callable[[EngineOutput], EngineOutput]) -> None:
        super().__init__(SPEC)
        self._change = change

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        async for output in super().generate(request):
            yield self._change(output)


class SendsStopStrings(FakeEngine):
    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        bare = evolve(request, sampling=evolve(request.sampling, stop=()))
        async for output in super().generate(bare):
            yield output


class NeverIdle(FakeEngine):
    def stats(self) -> EngineStats:
        return EngineStats(running=1)


class TakesEveryId(FakeEngine):
    async def tokenize(self, prompt: Prompt) -> list[int]:
        return list(prompt.token_ids or await super().tokenize(prompt))

    async def detokenize(self, token_ids: Sequence[int]) -> str:
        try:
            return await super().detokenize(token_ids)
        except RequestError:
            return "?"


class MixesUp(FakeEngine):
    """Whoever comes second reads the first one's text."""

    first: GenerationRequest | None = None

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        self.first = self.first or request
        async for output in super().generate(evolve(request, prompt=self.first.prompt)):
            yield output


class ContentIsControl(FakeEngine):
    async def tokenize(self, prompt: Prompt) -> list[int]:
        ids = await super().tokenize(prompt)
        controls = [self._id(c) for c in self.info.control_tokens if c in prompt.text]
        return controls if len(ids) == 1 and controls else ids


class Repeats(FakeEngine):
    """Says something else each time."""

    count = 0

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        self.count += 1
        async for output in super().generate(request):
            yield evolve(output, text=output.text and f"{self.count}")


class DoesNotNormalize(FakeEngine):
    async def embed(self, prompts: Sequence[Prompt]) -> Embeddings:
        found = await super().embed(prompts)
        return evolve(found, vectors=[[2 * x for x in vector] for vector in found.vectors])


class CountsPromptsAsTokens(FakeEngine):
    async def embed(self, prompts: Sequence[Prompt]) -> Embeddings:
        return evolve(await super().embed(prompts), prompt_tokens=len(prompts))


class CutsLongTexts(FakeEngine):
    async def embed(self, prompts: Sequence[Prompt]) -> Embeddings:
        try:
            return await super().embed(prompts)
        except ContextLengthExceeded:
            return await super().embed(prompts[:1])


class EmbedsTheFirstOnly(FakeEngine):
    async def embed(self, prompts: Sequence[Prompt]) -> Embeddings:
        found = await super().embed(prompts)
        return evolve(found, vectors=[found.vectors[0]] * len(prompts))


class RanksBackwards(FakeEngine):
    async def rerank(self, query: str, documents: Sequence[str]) -> Ranking:
        found = await super().rerank(query, documents)
        return evolve(found, scores=[-score for score in found.scores])


class LosesItsWeights(FakeEngine):
    """What it says after a sleep in which its weights were dropped is something else."""

    lost = False

    async def sleep(self, level: int) -> None:
        self.lost = level == 2
        await super().sleep(level)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        async for output in super().generate(request):
            yield evolve(output, token_ids=(7,)) if self.lost and output.token_ids else output


class BlocksTheLoop(FakeEngine):
    """Computes an answer without a turn for anybody else."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        usage = Usage(prompt_tokens=1, completion_tokens=1)
        yield EngineOutput(prompt_tokens=1)
        yield EngineOutput(text="word", finish_reason="stop", usage=usage)


class LetsEverybodyWait(FakeEngine):
    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        async for output in super().generate(evolve(request, share=None)):
            yield output


class DropsWhoGivesWay(FakeEngine):
    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        async for output in super().generate(request):
            short = request.share is not None and output.finish_reason is None
            yield evolve(output, token_ids=()) if short else output


class NeverForgets(FakeEngine):
    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        async for output in super().generate(request):
            yield evolve(output, usage=output.usage and evolve(output.usage, cached_tokens=1))


def no_prompt_logprobs(output: EngineOutput) -> EngineOutput:
    return evolve(output, prompt_logprobs=output.prompt_logprobs[1:])


def no_usage(output: EngineOutput) -> EngineOutput:
    return evolve(output, usage=None)


def usage_always(output: EngineOutput) -> EngineOutput:
    return evolve(output, usage=Usage(prompt_tokens=1, completion_tokens=1))


def no_acceptance(output: EngineOutput) -> EngineOutput:
    return evolve(output, prompt_tokens=None)


def one_token_less(output: EngineOutput) -> EngineOutput:
    return evolve(output, prompt_tokens=output.prompt_tokens and output.prompt_tokens - 1)


Check = Callable[[Kit, FakeEngine], Awaitable[None]]


@pytest.mark.parametrize(
    ("engine", "check"),
    [
        (Altered(no_usage), Kit.test_the_last_output_alone_has_finish_reason_and_usage),
        (Altered(usage_always), Kit.test_the_last_output_alone_has_finish_reason_and_usage),
        (
            Altered(no_acceptance),
            Kit.test_the_first_output_accepts_with_the_number_of_prompt_tokens,
        ),
        (
            Altered(one_token_less),
            Kit.test_the_first_output_accepts_with_the_number_of_prompt_tokens,
        ),
        (SendsStopStrings(SPEC), Kit.test_a_stop_string_ends_the_text_and_is_not_sent),
        (TakesEveryId(SPEC), Kit.test_a_token_id_outside_the_vocabulary_is_refused),
        (MixesUp(SPEC), Kit.test_each_of_many_requests_gets_its_own_answer),
        (ContentIsControl(SPEC), Kit.test_control_tokens_come_from_the_scaffold_only),
        (BlocksTheLoop(SPEC), Kit.test_others_go_on_while_it_generates),
        (Repeats(SPEC), Kit.test_greedy_text_is_the_same_alone_and_among_others),
        (Repeats(SPEC), Kit.test_a_seed_makes_sampling_repeatable),
        (Altered(no_prompt_logprobs), Kit.test_each_prompt_token_but_the_first_has_its_logprob),
        (DoesNotNormalize(SPEC), Kit.test_vectors_have_length_one_and_tell_texts_apart),
        (EmbedsTheFirstOnly(SPEC), Kit.test_vectors_have_length_one_and_tell_texts_apart),
        (CountsPromptsAsTokens(SPEC), Kit.test_embedding_counts_the_tokens_of_all_prompts),
        (CutsLongTexts(SPEC), Kit.test_a_text_too_long_to_embed_is_refused_and_not_cut),
        (RanksBackwards(SPEC), Kit.test_the_document_that_answers_scores_highest),
        (NeverForgets(SPEC), Kit.test_after_a_reset_no_prefix_is_found),
        (
            DropsWhoGivesWay(SPEC, FakeSettings(max_num_seqs=2)),
            Kit.test_who_has_nothing_takes_a_place_of_who_has_most,
        ),
        (LosesItsWeights(SPEC), Kit.test_after_sleeping_at_any_level_it_answers_as_before),
    ],
)
async def test_the_kit_catches(engine: FakeEngine, check: Check) -> None:
    with pytest.raises(AssertionError):
        await check(Kit(), engine)


async def test_the_kit_catches_an_engine_that_lets_everybody_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jarvis_core.testing.engine_conformance.PATIENCE", 0.5)
    engine = LetsEverybodyWait(SPEC, FakeSettings(max_num_seqs=2))
    with pytest.raises(TimeoutError):
        await Kit().test_who_has_nothing_takes_a_place_of_who_has_most(engine)


async def test_the_kit_catches_an_engine_that_stays_busy() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await Kit().test_closing_after_some_text_ends_the_work(NeverIdle(SPEC))

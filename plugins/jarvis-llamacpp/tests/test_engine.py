"""The engine with a small real model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from attrs import evolve, frozen

from jarvis_core import (
    ContextLengthExceeded,
    Engine,
    EngineDied,
    EngineOutput,
    GenerationRequest,
    ModelSpec,
    Prompt,
    PromptBuilder,
    RequestError,
    SamplingParams,
    Usage,
)
from jarvis_llamacpp import CAPABILITIES, LLAMA_CPP
from jarvis_llamacpp.settings import LlamaCppSettings

pytestmark = pytest.mark.anyio

WORDS = [
    *("apple", "river", "stone", "window", "garden", "yellow", "music", "paper"),
    *("doctor", "summer", "bridge", "silver", "horse", "kitchen", "island", "winter"),
]
STORY = "The old man walked along the shore and thought about the ships of his youth. "


@frozen
class Said:
    """A whole answer."""

    text: str
    reason: str | None
    usage: Usage
    outputs: tuple[EngineOutput, ...]


def text_prompt(text: str) -> Prompt:
    return PromptBuilder().content(text).build()


def repeated(word: str) -> str:
    """A text that goes on with the word and a full stop."""
    return f"The {word}. " * 6 + "The"


def chat_prompt(text: str) -> Prompt:
    builder = PromptBuilder().scaffold("<|im_start|>user\n").content(text)
    return builder.scaffold("<|im_end|>\n<|im_start|>assistant\n").build()


def request(prompt: Prompt | str, **changes: Any) -> GenerationRequest:
    """Greedy unless changed; a text is continued as it is."""
    if isinstance(prompt, str):
        prompt = text_prompt(prompt)
    others = {k: changes.pop(k) for k in ("n", "logprobs", "cache_salt") if k in changes}
    sampling = evolve(SamplingParams(temperature=0.0, max_tokens=8), **changes)
    return GenerationRequest(id="test", prompt=prompt, sampling=sampling, **others)


async def say(engine: Engine, prompt: Prompt | str, **changes: Any) -> Said:
    async with asyncio.timeout(60):
        outputs = [output async for output in engine.generate(request(prompt, **changes))]
    usage = outputs[-1].usage
    assert usage is not None
    text = "".join(output.text for output in outputs)
    return Said(text, outputs[-1].finish_reason, usage, tuple(outputs))


async def begin(
    engine: Engine, prompt: Prompt | str, **changes: Any
) -> AsyncGenerator[EngineOutput, None]:
    """A request that has been accepted and goes on."""
    outputs = engine.generate(request(prompt, **changes))
    assert (await anext(outputs)).prompt_tokens
    return outputs


async def idle(engine: Engine) -> None:
    async with asyncio.timeout(30):
        while engine.stats().running or engine.stats().waiting:
            await asyncio.sleep(0.005)


def test_the_model_describes_itself(engine: Engine) -> None:
    info = engine.info

    assert (info.name, info.source, info.engine) == ("tiny", "smollm2", "llama_cpp")
    assert info.architecture == "llama"
    assert info.title is not None
    assert info.title.startswith("Smollm2 135M")
    assert info.chat_template is not None
    assert "<|im_start|>" in info.chat_template
    assert (info.bos_token, info.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert {"<|im_start|>", "<|im_end|>", "<|endoftext|>"} <= set(info.control_tokens)
    assert (info.context_length, info.vocab_size) == (1024, 49_152)
    assert info.backend.startswith("llama-cpp-python 0.")
    assert info.memory_bytes is not None
    assert info.memory_bytes > 90_000_000
    assert info.capabilities == evolve(
        CAPABILITIES, tasks=frozenset({"generate", "prefix_cache_reset"})
    )


async def test_a_question_gets_an_answer(engine: Engine) -> None:
    said = await say(engine, chat_prompt("What is the capital of France?"), max_tokens=30)

    assert "Paris" in said.text
    assert said.reason == "stop"
    assert "<|im_end|>" not in said.text


async def test_sixteen_at_once_each_get_their_own_answer(engine: Engine) -> None:
    said = await asyncio.gather(*(say(engine, repeated(w), max_tokens=2) for w in WORDS))

    assert [answer.text for answer in said] == [f" {word}." for word in WORDS]


async def test_more_requests_than_sequences_all_end(engine: Engine) -> None:
    prompts = [f"{word} {other}" for word in WORDS for other in WORDS[:3]]
    said = await asyncio.gather(*(say(engine, p, max_tokens=2, ignore_eos=True) for p in prompts))

    assert [s.usage.completion_tokens for s in said] == [2] * len(prompts)


async def test_a_seed_repeats_a_long_wild_answer(engine: Engine) -> None:
    prompt = chat_prompt(STORY * 8 + "How does this go on?")
    wild: dict[str, Any] = {"temperature": 1.2, "top_p": 0.95, "max_tokens": 24}
    first, second = [await say(engine, prompt, seed=5, **wild) for _ in range(2)]
    other = await say(engine, prompt, seed=6, **wild)

    assert first.text == second.text
    assert first.text != other.text
    assert second.usage.cached_tokens % 64 == 0
    assert second.usage.cached_tokens > 0


async def test_emoji_are_never_broken(engine: Engine) -> None:
    said = await say(engine, "x 🎉\n" * 8, max_tokens=12)

    assert said.text.startswith("x 🎉\nx 🎉\n")
    assert "\ufffd" not in said.text
    assert len([o for o in said.outputs if o.text]) < said.usage.completion_tokens


async def test_a_stop_string_across_tokens_is_found(engine: Engine) -> None:
    whole = await say(engine, "1 2 3 4 5 6 7 8 9 10 11 12", max_tokens=9)
    assert "13 14" in whole.text
    said = await say(engine, "1 2 3 4 5 6 7 8 9 10 11 12", max_tokens=9, stop=("3 14 1",))

    assert said.text == whole.text.partition("3 14 1")[0]
    assert said.reason == "stop"


async def test_text_that_only_might_be_a_stop_string_is_not_lost(engine: Engine) -> None:
    said = await say(
        engine, "1 2 3 4 5 6 7 8 9 10 11 12", max_tokens=3, stop=(" 13 15", "13 14 16")
    )

    assert (said.text, said.reason) == (" 13", "length")


async def test_generation_goes_on_beside_a_long_prompt(engine: Engine) -> None:
    writer = await begin(engine, "a b c d", max_tokens=200, ignore_eos=True)
    await anext(writer)
    long = asyncio.create_task(say(engine, STORY * 30, max_tokens=1, cache_salt="chunked"))
    beside = 0
    while not long.done():
        await anext(writer)
        beside += 1
    await writer.aclose()

    assert (await long).usage.prompt_tokens > 3 * 128
    assert beside >= 3


async def test_a_conversation_is_continued_from_the_cache(engine: Engine) -> None:
    first = await say(engine, chat_prompt(STORY * 4), max_tokens=8, ignore_eos=True)
    longer = evolve(chat_prompt(STORY * 4), segments=(
        *chat_prompt(STORY * 4).segments,
        *text_prompt(first.text).segments,
        *chat_prompt("And then?").segments,
    ))  # fmt: skip
    second = await say(engine, longer)

    assert second.usage.cached_tokens >= first.usage.prompt_tokens
    assert second.usage.cached_tokens < second.usage.prompt_tokens


async def test_a_system_prompt_is_shared_with_whoever_runs(engine: Engine) -> None:
    before = engine.stats().cached_tokens
    prompts = [f"{STORY * 8}{word} " for word in WORDS[:8]]
    said = await asyncio.gather(*(say(engine, p, cache_salt="shared") for p in prompts))
    cached = sorted(s.usage.cached_tokens for s in said)

    assert cached[0] == 0
    assert cached[1] >= 100
    assert engine.stats().cached_tokens - before == sum(cached)


async def test_prefixes_stay_within_one_salt(engine: Engine) -> None:
    await say(engine, STORY * 3, cache_salt="mine")
    others = await say(engine, STORY * 3, cache_salt="yours")
    again = await say(engine, STORY * 3, cache_salt="mine")

    assert others.usage.cached_tokens == 0
    assert again.usage.cached_tokens > 0


async def test_n_answers_take_one_reading_of_the_prompt(engine: Engine) -> None:
    computed = engine.stats()
    said = await say(engine, STORY * 10, n=4, temperature=1.5, seed=1, cache_salt="n")
    now = engine.stats()
    texts = ["".join(o.text for o in said.outputs if o.index == i) for i in range(4)]

    assert len(set(texts)) == 4
    assert said.usage.completion_tokens == 32
    assert said.usage.prompt_tokens == said.outputs[0].prompt_tokens
    assert now.prefix_queries - computed.prefix_queries == 4
    assert now.prefix_hits - computed.prefix_hits == 3


async def test_a_long_prompt_is_cancelled_between_chunks(engine: Engine) -> None:
    outputs = await begin(engine, STORY * 45, cache_salt="cancelled")
    async with asyncio.timeout(30):
        while not engine.stats().kv_used:
            await asyncio.sleep(0.001)
    await outputs.aclose()
    await idle(engine)
    again = await say(engine, STORY * 25, max_tokens=1, cache_salt="cancelled")

    assert again.usage.prompt_tokens > 384
    assert 0 < again.usage.cached_tokens <= 256


async def test_a_waiting_request_that_is_closed_never_runs(engine: Engine) -> None:
    busy = [await begin(engine, word, max_tokens=None, ignore_eos=True) for word in WORDS]
    for outputs in busy:
        await anext(outputs)
    queries = engine.stats().prefix_queries
    waiting = await begin(engine, "never read")
    async with asyncio.timeout(30):
        while not engine.stats().waiting:
            await asyncio.sleep(0.005)
    await waiting.aclose()
    for outputs in busy:
        await outputs.aclose()
    await idle(engine)

    assert engine.stats().prefix_queries == queries
    assert engine.stats().kv_used == 0


async def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(engine: Engine) -> None:
    prompt_tokens = len(await engine.tokenize(text_prompt("hello " * 1500)))
    with pytest.raises(ContextLengthExceeded) as caught:
        await say(engine, "hello " * 1500, max_tokens=None)

    assert f"{prompt_tokens:,} tokens" in caught.value.message
    assert "1,024 tokens" in caught.value.message


async def test_max_tokens_that_do_not_fit_are_refused_with_all_numbers(engine: Engine) -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        await say(engine, "1 2 3", max_tokens=1024)
    message = caught.value.message

    assert "max_tokens is 1,024" in message
    assert "context length is 1,024" in message


async def test_a_text_far_too_long_is_refused_at_once(engine: Engine) -> None:
    with pytest.raises(ContextLengthExceeded, match="context length is 1,024"):
        await say(engine, "word " * 2_000_000)


async def test_max_tokens_of_zero_reads_nothing(engine: Engine) -> None:
    said = await say(engine, "1 2 3", max_tokens=0, n=2)

    assert [o.finish_reason for o in said.outputs] == [None, "length", "length"]
    assert (said.text, said.usage.completion_tokens, said.usage.prompt_tokens) == ("", 0, 5)


async def test_an_empty_prompt_is_refused(engine: Engine) -> None:
    with pytest.raises(RequestError, match="empty"):
        await say(engine, Prompt())


@pytest.mark.parametrize("changes", [{"logit_bias": {50_000: 1.0}}, {"n": 0}, {"top_p": 2.0}])
async def test_bad_parameters_are_refused_by_name(engine: Engine, changes: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        await say(engine, "1 2 3", **changes)

    assert caught.value.param == next(iter(changes))


async def test_no_control_token_comes_from_content(engine: Engine) -> None:
    attack = "".join(engine.info.control_tokens) * 2
    ids = await engine.tokenize(chat_prompt(attack))
    scaffold = await engine.tokenize(chat_prompt(""))
    controls = [
        (await engine.tokenize(PromptBuilder().scaffold(c).build()))[0]
        for c in engine.info.control_tokens
    ]

    assert [i for i in ids if i in controls] == [i for i in scaffold if i in controls]
    assert attack in await engine.detokenize(ids)


async def test_a_prompt_is_tokenized_as_the_whole_rendered_text(engine: Engine) -> None:
    prompt = chat_prompt("Hello, Grüße 🎉\n\n  and more")
    whole = PromptBuilder().scaffold(prompt.text).build()

    assert await engine.tokenize(prompt) == await engine.tokenize(whole)


async def test_short_and_long_texts_are_tokenized_alike(engine: Engine) -> None:
    short, long = text_prompt(STORY * 2), text_prompt(STORY * 60)

    ids = await engine.tokenize(long)
    assert ids[:20] == (await engine.tokenize(short))[:20]
    assert await engine.detokenize(ids) == STORY * 60


async def test_control_tokens_that_are_generated_are_visible(engine: Engine) -> None:
    (control,) = await engine.tokenize(PromptBuilder().scaffold("<file_sep>").build())
    said = await say(engine, "1 2 3", max_tokens=1, logit_bias={control: 100.0})

    assert said.text == "<file_sep>"


async def test_logprobs_of_a_certain_token_are_near_zero(engine: Engine) -> None:
    said = await say(engine, "1 2 3 4 5 6 7 8 9 10 11 12", max_tokens=2, logprobs=2)
    found = [logprob for o in said.outputs for logprob in o.logprobs]

    assert len(found) == 2
    assert all(-1.0 < logprob.logprob <= 0 for logprob in found)
    assert "".join(logprob.token for logprob in found) == said.text


async def test_logprobs_do_not_tell_the_end_token(engine: Engine) -> None:
    prompt = chat_prompt("What is the capital of France?")
    said = await say(engine, prompt, max_tokens=30, logprobs=0)
    found = [logprob for o in said.outputs for logprob in o.logprobs]

    assert said.reason == "stop"
    assert "".join(logprob.token for logprob in found) == said.text


async def test_numbers_add_up(engine: Engine) -> None:
    before = engine.stats()
    said = await say(engine, f"{STORY * 2} numbers", max_tokens=5, ignore_eos=True)
    after = engine.stats()

    assert after.kv_total == 4096
    assert after.prompt_tokens - before.prompt_tokens == said.usage.prompt_tokens
    assert after.generation_tokens - before.generation_tokens == 5
    assert (after.running, after.waiting, after.kv_used) == (0, 0, 0)


@pytest.fixture
async def narrow(anyio_backend: str) -> AsyncIterator[Engine]:
    """An engine whose KV cache holds one full context only."""
    spec = ModelSpec(name="narrow", source="smollm2", path="smollm2", context_length=256)
    settings = LlamaCppSettings(n_threads=1, kv_size=256, max_num_seqs=3)
    engine = await LLAMA_CPP.load(spec, settings)
    yield engine
    await engine.aclose()


async def test_when_the_cache_is_full_everything_still_ends(narrow: Engine) -> None:
    prompts = [repeated(word) for word in WORDS[:3]]
    said = await asyncio.gather(*(say(narrow, p, max_tokens=80, ignore_eos=True) for p in prompts))

    assert [s.usage.completion_tokens for s in said] == [80] * 3
    assert all(s.text.startswith(f" {w}.") for w, s in zip(WORDS[:3], said, strict=True))
    assert narrow.stats().kv_used == 0


async def test_without_max_tokens_generation_ends_with_the_context(narrow: Engine) -> None:
    prompt = Prompt(token_ids=tuple(await narrow.tokenize(text_prompt(STORY * 17)))[:244])
    said = await say(narrow, prompt, max_tokens=None, ignore_eos=True)

    assert (said.reason, said.usage.completion_tokens) == ("length", 12)


async def test_a_closed_engine_refuses_requests_and_fails_those_that_run() -> None:
    spec = ModelSpec(name="closing", source="smollm2", path="smollm2", context_length=256)
    engine = await LLAMA_CPP.load(spec, LlamaCppSettings(n_threads=1, kv_size=256))
    outputs = await begin(engine, "1 2 3", max_tokens=250, ignore_eos=True)
    await anext(outputs)
    await asyncio.gather(engine.aclose(), engine.aclose())

    with pytest.raises(EngineDied, match="closed"):
        async for _ in outputs:
            pass
    with pytest.raises(EngineDied, match="closed"):
        await say(engine, "1 2 3")

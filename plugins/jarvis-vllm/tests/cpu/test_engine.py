"""What the engine does beyond the kit, with a small real model."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import psutil
import pytest
from attrs import evolve
from peft import write_peft

from jarvis_core import (
    ConfigError,
    ContextLengthExceeded,
    Engine,
    EngineDied,
    EngineOutput,
    GenerationRequest,
    InsufficientMemory,
    ModelSourceError,
    ModelSpec,
    Prompt,
    PromptBuilder,
    RequestError,
    SamplingParams,
    SettingError,
    Share,
)
from jarvis_vllm import VLLM
from jarvis_vllm.settings import VllmSettings

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

COUNT = "1 2 3 4 5 6 7 8 9 10 11 12"


def chat_prompt(text: str) -> Prompt:
    builder = PromptBuilder().scaffold("<|im_start|>user\n").content(text)
    return builder.scaffold("<|im_end|>\n<|im_start|>assistant\n").build(stop=("<|im_end|>",))


async def say(engine: Engine, prompt: Prompt | str, **changes: Any) -> list[EngineOutput]:
    """The outputs of a request, greedy unless changed."""
    if isinstance(prompt, str):
        prompt = PromptBuilder().scaffold(prompt).build()
    names = ("adapter", "n", "logprobs", "prompt_logprobs", "cache_salt", "priority", "share")
    others = {name: changes.pop(name) for name in names if name in changes}
    sampling = evolve(SamplingParams(temperature=0.0, max_tokens=8), **changes)
    request = GenerationRequest(id="test", prompt=prompt, sampling=sampling, **others)
    async with asyncio.timeout(300):
        return [output async for output in engine.generate(request)]


def text_of(outputs: list[EngineOutput], index: int = 0) -> str:
    return "".join(o.text for o in outputs if o.index == index)


async def test_the_model_describes_itself(engine: Engine, smollm2: str) -> None:
    info = engine.info

    assert (info.name, info.source, info.engine) == ("tiny", smollm2, "vllm")
    assert info.backend.startswith("vllm 0.")
    assert (info.context_length, info.vocab_size, info.max_num_seqs) == (1024, 49_152, 16)
    assert (info.bos_token, info.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert {"<|im_start|>", "<|im_end|>", "<|endoftext|>"} <= set(info.control_tokens)
    assert info.chat_template is not None
    assert "<|im_start|>" in info.chat_template


async def test_an_answer_ends_where_the_turn_does(engine: Engine) -> None:
    *before, last = await say(engine, chat_prompt("What is the capital of France?"), max_tokens=40)

    assert text_of([*before, last]) == "The capital of France is Paris."
    assert (last.finish_reason, last.stop_string) == ("stop", None)
    assert sum(len(o.token_ids) for o in (*before, last)) + 1 == last.usage.completion_tokens


async def test_a_stop_string_across_tokens_is_found_and_told(engine: Engine) -> None:
    outputs = await say(engine, COUNT, max_tokens=12, stop=("3 14 1",))

    assert text_of(outputs) == " 1"
    assert (outputs[-1].finish_reason, outputs[-1].stop_string) == ("stop", "3 14 1")


async def test_a_stop_string_that_is_a_control_token_stops_at_it(engine: Engine) -> None:
    control = "<file_sep>"
    (token_id,) = await engine.tokenize(PromptBuilder().scaffold(control).build())
    outputs = await say(engine, COUNT, stop=(control,), logit_bias={token_id: 100.0})

    assert text_of(outputs) == ""
    assert (outputs[-1].finish_reason, outputs[-1].stop_string) == ("stop", control)


async def test_each_of_n_may_end_at_another_place(engine: Engine) -> None:
    outputs = await say(engine, COUNT, n=3, temperature=1.5, seed=3, max_tokens=24, stop=("5",))
    ends = {o.index: o for o in outputs if o.finish_reason}

    assert sorted(ends) == [0, 1, 2]
    assert [o.usage is not None for o in ends.values()].count(True) == 1
    assert outputs[-1].usage is not None
    assert outputs[-1].usage.completion_tokens <= 72
    assert all("5" not in text_of(outputs, index) for index in range(3))
    assert len({text_of(outputs, index) for index in range(3)}) > 1


async def test_logprobs_fit_the_text_and_do_not_tell_the_end_token(engine: Engine) -> None:
    prompt = chat_prompt("What is the capital of France?")
    outputs = await say(engine, prompt, max_tokens=40, logprobs=1)
    found = [logprob for o in outputs for logprob in o.logprobs]

    assert "".join(logprob.token for logprob in found) == text_of(outputs)


async def test_logprobs_are_those_before_sampling(engine: Engine) -> None:
    plain = await say(engine, COUNT, logprobs=0, max_tokens=2)
    hot = await say(engine, COUNT, logprobs=0, max_tokens=2, temperature=2.0, top_k=1)

    for one, other in zip(plain[1].logprobs, hot[1].logprobs, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-3)


async def test_words_that_are_bad_do_not_come(engine: Engine) -> None:
    assert "13" in text_of(await say(engine, COUNT))
    assert "3" not in text_of(await say(engine, COUNT, bad_words=("3",), max_tokens=6))


async def test_prefixes_stay_within_one_salt(engine: Engine) -> None:
    long = "The old man walked along the shore and thought of ships. " * 24

    async def cached(salt: str | None) -> int:
        usage = (await say(engine, long, cache_salt=salt, max_tokens=1))[-1].usage
        assert usage is not None
        return usage.cached_tokens

    assert await cached("mine") == 0
    assert await cached("mine") > 0
    assert await cached("yours") == 0


async def test_max_tokens_of_zero_reads_nothing(engine: Engine) -> None:
    outputs = await say(engine, COUNT, max_tokens=0, n=2)

    assert [o.finish_reason for o in outputs] == [None, "length", "length"]
    assert outputs[-1].usage is not None
    assert outputs[-1].usage.completion_tokens == 0


async def test_a_text_far_too_long_is_refused_at_once(engine: Engine) -> None:
    with pytest.raises(ContextLengthExceeded, match="context length is 1,024"):
        await say(engine, "word " * 2_000_000)


@pytest.mark.parametrize(
    "changes",
    [
        {"logit_bias": {50_000: 1.0}},
        {"stop_token_ids": (99_999,)},
        {"n": 0},
        {"top_p": 2.0},
        {"temperature": -1.0},
    ],
)
async def test_bad_parameters_are_refused_by_name(engine: Engine, changes: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        await say(engine, COUNT, **changes)

    assert caught.value.param == next(iter(changes))


async def test_numbers_add_up(engine: Engine) -> None:
    before = engine.stats()
    outputs = await say(engine, COUNT, max_tokens=5, ignore_eos=True)
    after = engine.stats()

    assert outputs[-1].usage is not None
    assert after.prompt_tokens - before.prompt_tokens == outputs[-1].usage.prompt_tokens
    assert after.generation_tokens - before.generation_tokens == 5
    assert (after.running, after.waiting, after.kv_used) == (0, 0, 0)
    assert after.kv_total > 1024


async def load(source: str | Path, **settings: Any) -> Engine:
    spec = ModelSpec(name="bad", source=str(source), path=str(source))
    return await VLLM.load(spec, VllmSettings(enforce_eager=True, **settings))


async def test_a_length_over_the_models_is_refused_with_both_numbers(smollm2: str) -> None:
    with pytest.raises(SettingError, match=r"max_model_len is 9,000, .* made for 8,192 tokens"):
        await load(smollm2, max_model_len=9000)


async def test_an_unknown_argument_is_refused_with_the_nearest(smollm2: str) -> None:
    with pytest.raises(SettingError, match=r"no argument 'block_sise'; did you mean 'block_size'"):
        await load(smollm2, engine_args={"block_sise": 16})


async def test_a_value_that_vllm_refuses_is_told_before_loading(smollm2: str) -> None:
    with pytest.raises(SettingError, match="vLLM refuses model 'bad' with these settings"):
        await load(smollm2, engine_args={"config_format": "nonsense"})


async def test_an_architecture_that_nobody_knows_is_told(smollm2: str, tmp_path: Path) -> None:
    for file in Path(smollm2).glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"architectures": ["NobodyForCausalLM"], "model_type": "nobody"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"^vLLM refuses model 'bad'.*nobody"):
        await load(tmp_path, load_format="dummy")


async def test_weights_that_are_missing_are_told_with_vllms_own_reason(
    smollm2: str, tmp_path: Path
) -> None:
    for file in Path(smollm2).iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "config.json").unlink()
    config = json.loads((Path(smollm2) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 31}))
    with pytest.raises(ModelSourceError, match=r"^vLLM cannot load .*: \w+Error: .*"):
        await load(tmp_path, kv_cache_memory_bytes=512 << 20)


async def test_a_cache_too_small_for_one_request_is_told_with_the_numbers(smollm2: str) -> None:
    with pytest.raises(InsufficientMemory, match=r"4096.*0\.09 GiB KV cache is needed.* lower "):
        await load(smollm2, kv_cache_memory_bytes=64 << 20)


async def test_an_adapter_of_another_size_is_refused_before_it_is_asked_for(
    smollm2: str, settings: VllmSettings, tmp_path: Path
) -> None:
    """In vLLM it would end the engine for everyone with the first request."""
    adapter = write_peft(tmp_path / "wide", width=640, layers=1)
    spec = ModelSpec(name="m", source=smollm2, path=smollm2, adapters={"wide": str(adapter)})
    with pytest.raises(ModelSourceError, match=r"^adapter 'wide' .*: vLLM cannot load it: \w"):
        await VLLM.load(spec, settings)


async def test_what_is_no_adapter_is_refused_before_vllm_hears_of_it(
    smollm2: str, tmp_path: Path
) -> None:
    (tmp_path / "adapter_model.bin").write_bytes(b"a pickle")
    before = psutil.Process().children()
    for path in (tmp_path / "nowhere", tmp_path):
        spec = ModelSpec(name="m", source=smollm2, path=smollm2, adapters={"mine": str(path)})
        with pytest.raises(ModelSourceError, match="'mine'.*there is no adapter_config.json"):
            await VLLM.load(spec, VllmSettings())
    assert psutil.Process().children() == before


async def test_an_adapter_that_is_not_named_is_refused(engine: Engine) -> None:
    with pytest.raises(RequestError, match="no adapter 'green'") as caught:
        await say(engine, COUNT, adapter="green")

    assert caught.value.param == "model"


async def test_a_closed_engine_refuses_requests_and_fails_those_that_run(
    smollm2: str, settings: VllmSettings
) -> None:
    spec = ModelSpec(name="closing", source=smollm2, path=smollm2, context_length=256)
    engine = await VLLM.load(spec, settings)
    request = GenerationRequest(
        id="r",
        prompt=PromptBuilder().scaffold(COUNT).build(),
        sampling=SamplingParams(temperature=0.0, max_tokens=200, ignore_eos=True),
    )
    outputs = engine.generate(request)
    await anext(outputs)
    await asyncio.gather(engine.aclose(), engine.aclose())

    with pytest.raises(EngineDied, match="closed"):
        async for _ in outputs:
            pass
    with pytest.raises(EngineDied, match="closed"):
        await say(engine, COUNT)


async def test_an_engine_process_that_hangs_counts_as_dead(
    smollm2: str, settings: VllmSettings
) -> None:
    """It still calls itself healthy, and requests would wait for ever."""
    others = psutil.Process().children()  # of engines that other tests share
    spec = ModelSpec(name="hung", source=smollm2, path=smollm2, context_length=256)
    engine = await VLLM.load(spec, evolve(settings, hang_timeout=15.0))
    core = next(
        p
        for p in psutil.Process().children()
        if p not in others and "EngineCore" in " ".join(p.cmdline())
    )
    try:
        core.suspend()
        waiting = asyncio.create_task(say(engine, COUNT))
        async with asyncio.timeout(90):
            with pytest.raises(EngineDied, match="has not answered for 15 s; .* loaded anew"):
                await waiting
        with pytest.raises(EngineDied, match="has not answered"):
            engine.stats()
    finally:
        core.resume()
        await engine.aclose()


async def test_who_comes_alone_is_read_before_the_crowd_that_came_first(engine: Engine) -> None:
    came: list[str] = []

    async def ask(name: str, words: int, others: int) -> None:
        text = " ".join(f"{name}{i}" for i in range(words))
        share = Share(name=name, others=others)
        await say(engine, text, share=share, priority=others, cache_salt=name, max_tokens=1)
        came.append(name)

    async with asyncio.TaskGroup() as group:
        for name in "abcd":
            group.create_task(ask(name, 200, 3))  # each takes several steps
        await asyncio.sleep(0.05)
        group.create_task(ask("lone", 5, 0))

    assert came[0] == "lone"

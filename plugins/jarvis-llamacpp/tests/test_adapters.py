"""LoRA adapters: checked before they are loaded, chosen by request, never mixed."""

from __future__ import annotations

import asyncio
import os
import pickle
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from attrs import evolve
from tiny_gguf import write_encoder, write_lora

from jarvis_core import (
    ConfigError,
    Engine,
    EngineOutput,
    GenerationRequest,
    ModelSourceError,
    ModelSpec,
    PromptBuilder,
    RequestError,
    SamplingParams,
)
from jarvis_llamacpp import LLAMA_CPP
from jarvis_llamacpp.settings import LlamaCppSettings

pytestmark = pytest.mark.anyio

WORDS = "one two three four five six seven eight nine ten eleven twelve thirteen "
REQUEST = GenerationRequest(
    id="t",
    prompt=PromptBuilder().scaffold(WORDS * 6).build(),
    sampling=SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True),
)


@pytest.fixture(scope="module")
async def adapted(
    anyio_backend: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Engine]:
    folder = tmp_path_factory.mktemp("adapters")
    red = write_lora(folder / "red.gguf", seed=1)
    (folder / "blue").mkdir()
    write_lora(folder / "blue" / "weights.gguf", seed=2)
    spec = ModelSpec(
        name="m",
        source="smollm2",
        path="smollm2",
        context_length=512,
        adapters={"red": str(red), "blue": str(folder / "blue")},
    )
    engine = await LLAMA_CPP.load(spec, LlamaCppSettings(n_threads=1, n_batch=128))
    yield engine
    await engine.aclose()


async def run(engine: Engine, adapter: str | None = None) -> list[EngineOutput]:
    async with asyncio.timeout(60):
        return [o async for o in engine.generate(evolve(REQUEST, adapter=adapter))]


def text(outputs: list[EngineOutput]) -> str:
    return "".join(output.text for output in outputs)


async def test_each_adapter_says_something_of_its_own(adapted: Engine) -> None:
    assert adapted.info.adapters == ("red", "blue")
    texts = {text(await run(adapted, name)) for name in (None, "red", "blue")}

    assert len(texts) == 3


async def test_adapters_side_by_side_say_what_they_say_alone(adapted: Engine) -> None:
    names = [None, "red", "blue"]
    alone = {name: text(await run(adapted, name)) for name in names}
    together = await asyncio.gather(*(run(adapted, name) for name in names * 4))

    for name, outputs in zip(names * 4, together, strict=True):
        assert text(outputs) == alone[name]


async def test_adapters_share_no_prefixes(adapted: Engine) -> None:
    salted = evolve(REQUEST, cache_salt="adapters")
    seen = []
    for adapter in ("red", "red", None, "blue"):
        outputs = [o async for o in adapted.generate(evolve(salted, adapter=adapter))]
        assert outputs[-1].usage is not None
        seen.append(outputs[-1].usage.cached_tokens > 0)

    assert seen == [False, True, False, False]


async def test_a_salt_that_looks_like_an_adapter_is_a_salt(adapted: Engine) -> None:
    await run(adapted, "red")
    for salt in ("red", '["red", null]'):
        outputs = [o async for o in adapted.generate(evolve(REQUEST, cache_salt=salt))]
        assert outputs[-1].usage is not None
        assert outputs[-1].usage.cached_tokens == 0


@pytest.mark.parametrize("name", ["green", "../red", "red.gguf", ""])
async def test_an_adapter_that_is_not_named_is_refused(adapted: Engine, name: str) -> None:
    with pytest.raises(RequestError, match="no adapter") as caught:
        await run(adapted, name)

    assert caught.value.param == "model"


# -- files -----------------------------------------------------------------------------------


class Boom:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> object:
        return os.mkdir, ("executed",)


async def refusal(path: Path) -> str:
    spec = ModelSpec(name="m", source="smollm2", path="smollm2", adapters={"mine": str(path)})
    with pytest.raises(ModelSourceError) as caught:
        await LLAMA_CPP.load(spec, LlamaCppSettings(n_threads=1))
    assert "'mine'" in caught.value.message
    return caught.value.message


async def test_files_that_are_no_adapters_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S-08."""
    monkeypatch.chdir(tmp_path)
    assert "no such file" in await refusal(tmp_path / "none.gguf")
    assert "no such file" in await refusal(Path("../none.gguf"))
    pickled = tmp_path / "adapter_model.bin"
    pickled.write_bytes(pickle.dumps(Boom()))
    assert "must be GGUF" in await refusal(pickled)
    assert not (tmp_path / "executed").exists()
    assert "0 GGUF files" in await refusal(tmp_path)
    model = write_encoder(tmp_path / "model.gguf", pooling=1)
    assert "no LoRA adapter" in await refusal(model)
    other = write_lora(tmp_path / "other.gguf", architecture="qwen2", layers=1)
    assert "'qwen2'" in await refusal(other)
    cut = write_lora(tmp_path / "cut.gguf", layers=1)
    cut.write_bytes(cut.read_bytes()[:-4000])
    assert "cut off" in await refusal(cut)


async def test_an_adapter_of_another_size_is_refused_by_llama_cpp(tmp_path: Path) -> None:
    path = write_lora(tmp_path / "wide.gguf", width=640, layers=1)

    assert "cannot load the adapter" in (await refusal_of_model(path)).message


async def refusal_of_model(path: Path) -> ModelSourceError:
    spec = ModelSpec(name="m", source="smollm2", path="smollm2", adapters={"mine": str(path)})
    with pytest.raises(ModelSourceError) as caught:
        await LLAMA_CPP.load(spec, LlamaCppSettings(n_threads=1))
    return caught.value


async def test_a_model_that_pools_takes_no_adapters(tmp_path: Path) -> None:
    path = write_lora(tmp_path / "red.gguf", layers=1)
    spec = ModelSpec(name="m", source="smollm2", path="smollm2", adapters={"red": str(path)})
    with pytest.raises(ConfigError, match="pools"):
        await LLAMA_CPP.load(spec, LlamaCppSettings(n_threads=1, pooling="mean"))

"""Loading: what goes wrong is told before llama.cpp could end the process, or with its reason."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jarvis_core import (
    ConfigError,
    InsufficientMemory,
    JarvisError,
    ModelSourceError,
    ModelSpec,
    SettingError,
)
from jarvis_llamacpp import LLAMA_CPP
from jarvis_llamacpp.builtin import find_smollm2
from jarvis_llamacpp.settings import LlamaCppSettings

pytestmark = pytest.mark.anyio


async def refusal(
    path: Path | str, kind: type[JarvisError] = ModelSourceError, **settings: Any
) -> str:
    context_length = settings.pop("context_length", None)
    spec = ModelSpec(name="m", source=str(path), path=str(path), context_length=context_length)
    with pytest.raises(kind) as caught:
        await LLAMA_CPP.load(spec, LlamaCppSettings(n_threads=1, **settings))
    return caught.value.message


def altered(folder: Path, before: bytes, after: bytes) -> Path:
    """The small model with a change in its header; its weights are holes."""
    model = find_smollm2()
    assert model is not None
    with model.open("rb") as file:
        head = file.read(4 << 20)
    assert head.count(before) >= 1
    assert len(before) == len(after)
    path = folder / "model.gguf"
    path.write_bytes(head.replace(before, after))
    with path.open("r+b") as file:
        file.truncate(model.stat().st_size)
    return path


async def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert "no such file" in await refusal(tmp_path / "none.gguf")


async def test_a_truncated_file_is_told_with_what_to_do(tmp_path: Path) -> None:
    model = find_smollm2()
    assert model is not None
    path = tmp_path / "model.gguf"
    with model.open("rb") as file:
        path.write_bytes(file.read(5_000_000))

    assert "download it again" in await refusal(path)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (b"\5\0\0\0\0\0\0\0llama", b"\5\0\0\0\0\0\0\0lxama", "unknown model architecture: 'lxama'"),
        (b"blk.3.attn_q.weight", b"blk.3.attn_z.weight", "blk.3.attn_q.weight"),
        (b"tokenizer.ggml.tokens", b"tokenizer.ggml.tokenz", "tokenizer vocab"),
        (b"\6\0\0\0\0\0\0\0smollm\x15", b"\6\0\0\0\0\0\0\0smallm\x15", "pre-tokenizer type"),
    ],
)
async def test_what_only_llama_cpp_notices_is_told_with_its_own_reason(
    tmp_path: Path, before: bytes, after: bytes, reason: str
) -> None:
    path = altered(tmp_path, before, after)
    message = await refusal(path)

    assert str(path) in message
    assert reason in message


async def test_a_context_that_cannot_fit_is_refused_with_the_numbers() -> None:
    message = await refusal("smollm2", InsufficientMemory, context_length=2_000_000_000)

    assert "KV cache of 2,000,000,000 tokens" in message
    assert "is free" in message


def test_what_llama_cpp_cannot_allocate_is_refused_too() -> None:
    program = """
import asyncio, resource
from jarvis_core import InsufficientMemory, ModelSpec
from jarvis_llamacpp import LLAMA_CPP
from jarvis_llamacpp.settings import LlamaCppSettings

resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
spec = ModelSpec(name="m", source="smollm2", path="smollm2", context_length=1_000_000)
try:
    asyncio.run(LLAMA_CPP.load(spec, LlamaCppSettings(n_threads=1, check_memory=False)))
except InsufficientMemory as error:
    print(error.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )

    assert "memory is not enough" in done.stdout, done.stderr
    assert "JARVIS_MODEL_CONTEXT_WINDOW" in done.stdout


async def test_settings_that_cannot_be_are_refused_with_the_reason() -> None:
    message = await refusal("smollm2", SettingError, cache_type_v="q8_0", flash_attn="off")

    assert "quantized V cache requires flash_attn" in message


async def test_a_model_that_does_not_generate_is_refused(tmp_path: Path) -> None:
    assert issubclass(ModelSourceError, ConfigError)
    path = altered(tmp_path, b"\5\0\0\0\0\0\0\0llama", b"\5\0\0\0\0\0\0\0clips")

    assert "llama.cpp cannot load it" in await refusal(path)


async def test_the_event_loop_goes_on_while_a_model_loads() -> None:
    spec = ModelSpec(name="m", source="smollm2", path="smollm2", context_length=256)
    loading = asyncio.ensure_future(
        LLAMA_CPP.load(spec, LlamaCppSettings(n_threads=1, kv_size=16_384))
    )
    turns = 0
    while not loading.done():
        await asyncio.sleep(0.01)
        turns += 1
    await (await loading).aclose()

    assert turns >= 5


@pytest.mark.parametrize(
    "settings",
    [
        {"mmap": False},
        {"mmap": True, "cache_type_k": "q8_0", "cache_type_v": "q8_0"},
        {"flash_attn": "off", "n_ubatch": 32, "n_batch": 8, "max_num_seqs": 2},
        {"rope_freq_base": 50_000.0, "rope_scaling": "linear", "rope_freq_scale": 0.5},
        {"n_gpu_layers": 0, "split_mode": "none", "tensor_split": (1.0,), "check_tensors": True},
        {"numa": "isolate", "yarn_beta_fast": 32.0, "swa_full": False, "n_threads_batch": 2},
    ],
)
async def test_settings_reach_llama_cpp(settings: dict[str, Any]) -> None:
    spec = ModelSpec(name="m", source="smollm2", path="smollm2", context_length=256)
    engine = await LLAMA_CPP.load(spec, LlamaCppSettings(n_threads=1, kv_size=256, **settings))

    assert engine.info.context_length == 256
    await engine.aclose()

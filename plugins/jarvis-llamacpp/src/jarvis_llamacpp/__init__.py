"""The llama.cpp engine of Jarvis: GGUF models with continuous batching."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from attrs import evolve

from jarvis_core import Capabilities, Engine, EngineType, ModelSpec, hookimpl
from jarvis_llamacpp.settings import LlamaCppSettings

CAPABILITIES = Capabilities(
    constraints=frozenset({"choice", "json_schema", "lark", "regex"}),
    parameters=frozenset(
        {
            "bad_words",
            "cache_salt",
            "dry_allowed_length",
            "dry_base",
            "dry_multiplier",
            "dry_penalty_last_n",
            "dry_sequence_breakers",
            "frequency_penalty",
            "ignore_eos",
            "logit_bias",
            "logprobs",
            "max_tokens",
            "min_p",
            "min_tokens",
            "mirostat",
            "mirostat_eta",
            "mirostat_tau",
            "n",
            "presence_penalty",
            "priority",
            "prompt_logprobs",
            "repetition_penalty",
            "seed",
            "share",
            "stop",
            "stop_token_ids",
            "temperature",
            "top_k",
            "top_p",
            "typical_p",
            "xtc_probability",
            "xtc_threshold",
        }
    ),
    tasks=frozenset({"embed", "generate", "prefix_cache_reset", "rerank"}),
    gives_way=True,
)
"""The upper bound: a model generates, embeds or ranks."""

_GENERATES = evolve(CAPABILITIES, tasks=frozenset({"generate", "prefix_cache_reset"}))


async def load(model: ModelSpec, settings: LlamaCppSettings) -> Engine:
    """Load a GGUF model; the event loop stays free meanwhile."""
    return await asyncio.to_thread(_load, model, settings)


def _load(model: ModelSpec, settings: LlamaCppSettings) -> Engine:
    from jarvis_llamacpp.process import prepare_process

    prepare_process()  # before llama.cpp is imported: it reads the environment then
    from jarvis_llamacpp.engine import load_engine

    return load_engine(model, settings, _GENERATES)


LLAMA_CPP = EngineType(
    name="llama_cpp",
    env_prefix="JARVIS_LLAMACPP_",
    load=load,
    settings=LlamaCppSettings,
    capabilities=CAPABILITIES,
    weights=("*.gguf",),
)


@hookimpl
def jarvis_register_engines() -> Iterable[EngineType]:
    """The engine type ``llama_cpp``."""
    return [LLAMA_CPP]

"""The vLLM engine of Jarvis as a plugin; vllm is imported when a model is loaded, not here."""

from __future__ import annotations

from collections.abc import Iterable

from jarvis_core import Capabilities, Engine, EngineType, ModelSpec, hookimpl
from jarvis_vllm.settings import VllmSettings

CAPABILITIES = Capabilities(
    tasks=frozenset({"generate", "embed", "rerank", "sleep", "prefix_cache_reset"}),
    constraints=frozenset({"choice", "json_schema", "lark", "regex"}),
    parameters=frozenset(
        {
            "bad_words",
            "cache_salt",
            "frequency_penalty",
            "ignore_eos",
            "logit_bias",
            "logprobs",
            "max_tokens",
            "min_p",
            "min_tokens",
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
        }
    ),
    media=frozenset({"image"}),
)


async def load(model: ModelSpec, settings: VllmSettings) -> Engine:
    """Load a model; vLLM is imported in a thread, so the event loop stays free."""
    from jarvis_vllm.loading import load_engine

    return await load_engine(model, settings, CAPABILITIES)


VLLM = EngineType(
    name="vllm",
    env_prefix="JARVIS_VLLM_",
    load=load,
    settings=VllmSettings,
    capabilities=CAPABILITIES,
    # Some repositories have the same weights twice, in their publisher's own layout.
    weights=(
        *("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"),
        *("!consolidated*", "!original/*", "!onnx/*", "!openvino/*"),
    ),
)


@hookimpl
def jarvis_register_engines() -> Iterable[EngineType]:
    """The engine ``vllm``."""
    return [VLLM]

"""Chat formats of common model families, registered as a third party would register its own."""

from __future__ import annotations

from collections.abc import Iterable

from jarvis_core import ChatFormat, ModelInfo, hookimpl
from jarvis_formats import (
    alpaca,
    chatml,
    command_r,
    deepseek_r1,
    gemma2,
    gemma4,
    gpt_oss,
    granite4,
    hermes,
    llama3,
    mistral,
    phi3,
    qwen3,
    smollm3,
    vicuna,
    zephyr,
)

_FAMILIES = (
    chatml,
    llama3,
    mistral,
    gemma2,
    gemma4,
    phi3,
    gpt_oss,
    zephyr,
    vicuna,
    alpaca,
    command_r,
    deepseek_r1,
    granite4,
    hermes,
    qwen3,
    smollm3,
)


@hookimpl
def jarvis_register_chat_formats() -> Iterable[ChatFormat]:
    """Each family's own format, and one for each of its variants."""
    return [chat_format for family in _FAMILIES for chat_format in family.FORMATS]


@hookimpl
def jarvis_detect_chat_format(model: ModelInfo) -> str | None:
    """The family that a model surely belongs to."""
    return next((family.FAMILY for family in _FAMILIES if family.detect(model)), None)

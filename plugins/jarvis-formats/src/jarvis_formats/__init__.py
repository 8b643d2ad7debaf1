"""Chat formats of common model families, registered as a third party would register its own."""

from __future__ import annotations

from collections.abc import Iterable

from jarvis_core import ChatFormat, ModelInfo, hookimpl
from jarvis_formats import chatml, llama3, mistral

_FAMILIES = (chatml, llama3, mistral)


@hookimpl
def jarvis_register_chat_formats() -> Iterable[ChatFormat]:
    """Each family's own format, and one for each of its variants."""
    return [chat_format for family in _FAMILIES for chat_format in family.FORMATS]


@hookimpl
def jarvis_detect_chat_format(model: ModelInfo) -> str | None:
    """The family that a model surely belongs to."""
    return next((family.FAMILY for family in _FAMILIES if family.detect(model)), None)

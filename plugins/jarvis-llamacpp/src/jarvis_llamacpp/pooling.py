"""How a model's token vectors become one vector, and so what it is for."""

from __future__ import annotations

from attrs import frozen

from jarvis_core import Capabilities
from jarvis_llamacpp.gguf import GgufHeader
from jarvis_llamacpp.settings import LlamaCppSettings

POOLING_TYPES = {"none": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}
"""llama.cpp's numbers. Source: llama.h in llama-cpp-python 0.3.36, llama_pooling_type."""

_NAMES = {number: name for name, number in POOLING_TYPES.items()}


@frozen(kw_only=True)
class Pooling:
    """A model that gives vectors or scores instead of text.

    Attributes:
        name: ``mean``, ``cls``, ``last`` or ``rank``.
        causal: Whether tokens see only those before them.
    """

    name: str
    causal: bool

    @property
    def capabilities(self) -> Capabilities:
        """What such a model can do."""
        task = "rerank" if self.name == "rank" else "embed"
        return Capabilities(tasks=frozenset({task}))


def find_pooling(header: GgufHeader, settings: LlamaCppSettings) -> Pooling | None:
    """The pooling of the setting, else of the file; None for a model that generates text."""
    causal = header.of_model("attention.causal") is not False
    name = settings.pooling
    if name == "model":
        name = _NAMES.get(header.number("pooling_type"), "none")
        if name == "none" and not causal:
            name = "mean"
    return None if name == "none" else Pooling(name=name, causal=causal)

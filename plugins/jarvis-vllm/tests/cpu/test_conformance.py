from __future__ import annotations

from jarvis_core.testing import EngineConformance


class TestVllm(EngineConformance):
    """The engine, with a small real model."""

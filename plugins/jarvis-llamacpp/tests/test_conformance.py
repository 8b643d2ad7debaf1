"""The engine does what every engine has to do."""

from __future__ import annotations

from jarvis_core.testing import EngineConformance


class TestLlamaCpp(EngineConformance):
    """With the engine of ``conftest.py``."""

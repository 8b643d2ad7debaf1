"""What authors of plugins import in their tests."""

from jarvis_core.testing.engine_conformance import EngineConformance
from jarvis_core.testing.fake import FakeEngine, FakeFormat, FakeSettings

__all__ = [
    "EngineConformance",
    "FakeEngine",
    "FakeFormat",
    "FakeSettings",
]

"""What authors of plugins import in their tests."""

from jarvis_core.testing.engine_conformance import EngineConformance
from jarvis_core.testing.fake import FakeEngine, FakeSettings
from jarvis_core.testing.fake_format import FakeFormat
from jarvis_core.testing.format_conformance import ChatFormatConformance
from jarvis_core.testing.formats import parse_case, render_case, send_back
from jarvis_core.testing.goldens import chunkings, parse_agrees, render_agrees

__all__ = [
    "ChatFormatConformance",
    "EngineConformance",
    "FakeEngine",
    "FakeFormat",
    "FakeSettings",
    "chunkings",
    "parse_agrees",
    "parse_case",
    "render_agrees",
    "render_case",
    "send_back",
]

"""Fixtures for all tests of the core."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The server runs on asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _fake_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engine hosts started by a test can load the fake engine; no setting of the caller counts."""
    monkeypatch.setenv("JARVIS_PLUGINS", "jarvis_core.testing.fake")

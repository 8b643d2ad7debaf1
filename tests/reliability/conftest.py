"""Servers for the rows of the reliability bar."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from served import Serve, serving


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Starts servers, and ends them with the test."""
    async with serving(tmp_path) as serve:
        yield serve

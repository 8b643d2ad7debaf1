"""Forced calls in every syntax, made by a small real model and read back."""

from __future__ import annotations

import pytest
from forced_calls import forced_calls

from jarvis_core import Engine

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]


async def test_a_call_is_forced_in_every_syntax_and_read_back(engine: Engine) -> None:
    found = await forced_calls(engine)
    assert len(found) > 40
    assert {name: wrong for name, wrong in found.items() if wrong} == {}

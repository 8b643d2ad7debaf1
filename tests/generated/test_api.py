"""S-05: requests generated from the served document, right and wrong ones, on a whole server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, checks
from served import Serve, serving

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

EXAMPLES = 20
"""Requests for each operation, in each of the two modes."""


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    async with serving(tmp_path) as start:
        yield start


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.name.lower())
async def test_only_answers_and_refusals_come_back(serve: Serve, mode: GenerationMode) -> None:
    server = await serve()
    host = await server.host_pid()
    counted = await asyncio.to_thread(send_everything, server.url, mode)

    assert counted >= EXAMPLES
    assert await server.host_pid() == host
    assert await server.ready_status() == 200
    assert "Traceback" not in server.log


def send_everything(url: str, mode: GenerationMode) -> int:
    """Send requests to each operation; how many there were."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    count = 0
    operations = [found.ok() for found in schema.get_all_operations()]
    for operation in operations:
        if mode is GenerationMode.NEGATIVE and not operation.body:
            continue  # there is nothing to get wrong

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def send(case: Any) -> None:
            nonlocal count
            count += 1
            if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
                case.body["model"] = "m"
            response = case.call(timeout=30)
            assert response.status_code < 500, response.text
            case.validate_response(
                response,
                checks=[
                    checks.not_a_server_error,
                    checks.content_type_conformance,
                    checks.response_schema_conformance,
                    checks.status_code_conformance,
                ],
            )

        send()
    return count

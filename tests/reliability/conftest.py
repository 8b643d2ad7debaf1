"""Starts servers as an operator does."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from served import QUICK, Serve, Server


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Starts servers, and ends them with the test."""
    async with AsyncExitStack() as stack:

        async def serve(
            toml: str = '[models.m]\nsource = "fake/m"\nengine = "fake"\n',
            *,
            wait: bool = True,
            arguments: tuple[str, ...] = (),
            **environ: str,
        ) -> Server:
            (tmp_path / "jarvis.toml").write_text(toml)
            kept = {k: v for k, v in os.environ.items() if not k.startswith("JARVIS_")}
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "jarvis_core",
                "serve",
                *arguments,
                cwd=tmp_path,
                env=kept
                | QUICK
                | {"JARVIS_PLUGINS": "jarvis_core.testing.fake", "JARVIS_PORT": "0"}
                | environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            server = Server(process)
            stack.push_async_callback(server.aclose)
            if wait:
                await server.ready()
            return server

        yield serve

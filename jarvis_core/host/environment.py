"""What another Python environment can load: asked once of the interpreter a model names."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from jarvis_core.errors import ConfigError, PluginError
from jarvis_core.host.protocol import PROTOCOL

_PATIENCE = 60.0
"""Seconds that an interpreter gets to describe itself; cold imports take some."""


async def check_environment(python: str, engine: str) -> None:
    """Make sure that ``python`` can host ``engine`` for this server.

    Raises:
        ConfigError: It cannot be started, has no or another Jarvis, or lacks the engine.
    """
    there = await _describe(python)
    if there.get("protocol") != PROTOCOL:
        raise ConfigError(
            f"{python} has a jarvis-core that speaks protocol {there.get('protocol')}, this server "
            f"speaks {PROTOCOL}: install the same jarvis-core in both"
        )
    if engine not in there["engines"]:
        broken = "".join(
            f"; plugin {name!r} is broken: {why}" for name, why in there["broken"].items()
        )
        raise PluginError(
            f"engine {engine!r} is not installed in the environment of {python} "
            f"(installed there: {', '.join(sorted(there['engines'])) or 'none'}{broken})"
        )


async def _describe(python: str) -> dict[str, Any]:
    try:
        process = await asyncio.create_subprocess_exec(
            python,
            "-m",
            "jarvis_core.host",
            "--describe",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise ConfigError(f"cannot start {python}: {error.strerror}") from error
    try:
        out, err = await asyncio.wait_for(process.communicate(), _PATIENCE)
    except TimeoutError:
        raise ConfigError(f"{python} did not describe itself in {_PATIENCE:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        described = json.loads(out)
    except ValueError:
        last = (err.decode(errors="replace").strip().splitlines() or ["no output"])[-1]
        raise ConfigError(f"{python} has no usable jarvis-core: {last}") from None
    return dict(described)

"""What a model's configuration and the server's settings say to an engine host."""

from __future__ import annotations

from jarvis_core.host.client import HostLimits
from jarvis_core.host.protocol import HostPlan
from jarvis_core.settings import ModelConfig, ServerSettings


def host_plan(config: ModelConfig) -> HostPlan:
    """What the host of a model is to load."""
    return HostPlan(
        name=config.name,
        source=config.source,
        engine=config.engine,
        chat_format=config.chat_format,
        chat_template=config.chat_template,
        context_length=config.context_length,
        adapters=dict(config.adapters),
        settings=dict(config.settings),
    )


def host_limits(settings: ServerSettings) -> HostLimits:
    """How long the server is patient with a host."""
    return HostLimits(
        load_timeout=settings.load_timeout,
        heartbeat_interval=settings.heartbeat_interval,
        heartbeat_stale=settings.heartbeat_stale,
        heartbeat_timeout=settings.heartbeat_timeout,
        log_level="debug" if settings.debug else settings.log_level,
    )

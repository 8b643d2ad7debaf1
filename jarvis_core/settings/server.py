"""Settings of the server: ``JARVIS_<FIELD>`` or ``[server]`` in ``jarvis.toml``."""

from __future__ import annotations

import ipaddress

from attrs import frozen

from jarvis_core.settings.fields import setting


@frozen(kw_only=True)
class ServerSettings:
    """How the server listens, whom it lets in, and its limits."""

    host: str = setting(
        default="127.0.0.1",
        help="Address to listen on; one that others can reach needs an API key",
    )
    port: int = setting(
        default=8000, ge=0, le=65535, help="Port to listen on; 0 takes any that is free"
    )
    api_key: str = setting(
        default="", secret=True, help="Keys that clients must send, several separated by commas"
    )
    admin_api_key: str = setting(
        default="",
        secret=True,
        help="Keys that may change what is loaded, separated by commas",
    )
    keys_file: str = setting(
        default="",
        help="TOML file of named keys with their limits; it is read again when it changes",
    )
    cors_origins: tuple[str, ...] = setting(
        default=(), help="Origins of web pages that may call this server"
    )
    debug: bool = setting(default=False, env=("DEBUG",), help="Log at level debug")
    log_level: str = setting(
        default="info",
        choices=("debug", "info", "warning", "error"),
        help="Least level that is logged",
    )
    log_format: str = setting(
        default="auto",
        choices=("auto", "console", "json"),
        help="Shape of log lines; auto is console on a terminal and JSON elsewhere",
    )

    max_body_bytes: int = setting(
        default=32 * 1024 * 1024, ge=1024, help="Bytes of a request's body at most"
    )
    max_messages: int = setting(default=4096, ge=1, help="Messages in a chat at most")
    max_prompts: int = setting(default=64, ge=1, help="Prompts in a completion request at most")
    max_inputs: int = setting(
        default=2048, ge=1, help="Texts to embed, or documents to rerank, in a request at most"
    )
    max_n: int = setting(default=16, ge=1, help="Answers to one request at most")
    max_stop: int = setting(default=16, ge=0, help="Stop strings in a request at most")
    max_stop_bytes: int = setting(default=256, ge=1, help="Bytes of one stop string at most")
    max_logprobs: int = setting(default=20, ge=0, help="Likeliest tokens per place at most")
    max_tools: int = setting(default=256, ge=0, help="Tools in a request at most")
    max_schema_bytes: int = setting(
        default=65536,
        ge=1,
        help="Bytes of one JSON schema or grammar at most; 16 times as many for all tools",
    )
    max_connections: int = setting(default=1024, ge=1, help="Open connections at most")
    queue_size: int = setting(default=256, ge=1, help="Requests that may wait, for each model")

    responses_db: str = setting(
        default="", help="SQLite file that keeps stored responses; not set keeps them in memory"
    )
    responses_ttl: float = setting(
        default=2_592_000.0, ge=1, help="Seconds that a stored response is kept after its last use"
    )
    responses_max: int = setting(default=10_000, ge=1, help="Stored responses at most")
    responses_max_bytes: int = setting(
        default=64 * 1024 * 1024, ge=65_536, help="Bytes of all stored responses at most"
    )

    header_timeout: float = setting(
        default=10.0, ge=0.01, help="Seconds in which a request's headers must arrive"
    )
    body_timeout: float = setting(
        default=30.0, ge=0.01, help="Seconds in which a request's body must arrive"
    )
    request_timeout: float = setting(
        default=600.0, ge=0.01, help="Seconds that answering one request may take"
    )
    write_timeout: float = setting(
        default=60.0, ge=0.01, help="Seconds that a client may leave its answer unread"
    )
    keepalive_interval: float = setting(
        default=15.0, ge=0.01, help="Seconds between keep-alive comments in a silent stream"
    )
    drain_timeout: float = setting(
        default=20.0,
        ge=0,
        help="Seconds that running answers may go on after SIGTERM, or once their model is to be "
        "unloaded or to sleep",
    )
    load_wait: float = setting(
        default=60.0, ge=0, help="Seconds that a request waits for its model to load or wake"
    )
    load_timeout: float = setting(
        default=1800.0, ge=0.01, help="Seconds that loading, falling asleep or waking may take"
    )
    heartbeat_interval: float = setting(
        default=1.0, ge=0.01, help="Seconds between heartbeats of an engine host"
    )
    heartbeat_stale: float = setting(
        default=10.0, ge=0.01, help="Seconds without a heartbeat until a model is not ready"
    )
    heartbeat_timeout: float = setting(
        default=45.0, ge=0.01, help="Seconds without a heartbeat until an engine host is replaced"
    )
    restart_backoff: float = setting(
        default=1.0,
        ge=0,
        help="Seconds before an engine host is started again that died within 10 seconds of being "
        "ready; doubled, up to 60, for each in a row",
    )
    restart_attempts: int = setting(
        default=5, ge=0, help="Starts in a row that may fail before a model counts as failed"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on this address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # another name: what it resolves to may change


def needs_key(server: ServerSettings) -> bool:
    """Whether requests need a key."""
    return bool(server.api_key or server.admin_api_key or server.keys_file)

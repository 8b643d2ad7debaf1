"""How many files the server may have open: each connection is one."""

from __future__ import annotations

import resource

import structlog

_log = structlog.stdlib.get_logger("jarvis.server")

BESIDE = 256
"""Open files beside connections: pipes and sockets to engine hosts, a database, libraries."""


def allow_files(connections: int) -> None:
    """Let so many connections be open, as far as the hard limit goes.

    Beyond the limit the kernel takes a connection and closes it, without a word to anybody. Many
    systems begin programs with a soft limit of 1024.
    """
    wanted = connections + BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _at_least(soft, wanted):
        return
    allowed = wanted if _at_least(hard, wanted) else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        _log.warning(
            "fewer connections than JARVIS_MAX_CONNECTIONS can be open: raise the limit of open "
            "files (ulimit -Hn)",
            open_files=allowed,
            needed=wanted,
        )


def _at_least(limit: int, wanted: int) -> bool:
    return limit == resource.RLIM_INFINITY or limit >= wanted

"""Counts how much of a store of responses each tenant takes."""

from __future__ import annotations

import sqlite3


class Room:
    """How much each tenant has stored: counted once, then kept up, as counting takes long.

    Another server that writes to the same file is noticed; then it is counted again.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._version: tuple[int] | None = None
        self._totals: dict[str, list[int]] = {}

    def forget(self) -> None:
        """Count again: what was noted last was not written."""
        self._version = None

    def taken(self, tenant: str, size: int) -> None:
        """A response was stored."""
        self._change(tenant, 1, size)

    def given(self, tenant: str, count: int, size: int) -> None:
        """Responses were deleted."""
        self._change(tenant, -count, -size)

    def greediest(self, max_responses: int, max_bytes: int) -> str | None:
        """The tenant that takes most of what is too much; None where nothing is."""
        self._count()
        totals = self._totals
        over = (
            sum(count for count, _ in totals.values()) > max_responses
            or sum(size for _, size in totals.values()) > max_bytes
        )
        if not over:
            return None
        return max(
            totals,
            key=lambda name: max(totals[name][0] / max_responses, totals[name][1] / max_bytes),
        )

    def _change(self, tenant: str, count: int, size: int) -> None:
        total = self._totals.setdefault(tenant, [0, 0])
        total[0] += count
        total[1] += size
        if not total[0]:
            del self._totals[tenant]

    def _count(self) -> None:
        version = self._db.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return
        self._version = version
        self._totals = {
            tenant: [count, size]
            for tenant, count, size in self._db.execute(
                "SELECT tenant, COUNT(*), SUM(bytes) FROM responses GROUP BY tenant"
            )
        }

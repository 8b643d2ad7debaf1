"""Stored responses: bounded, kept for a time, each seen by its own tenant only.

SQLite keeps them, in memory or in a file. One thread of its own does all of its work, so that the
event loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import orjson
import structlog
from attrs import frozen

from jarvis_core.errors import SettingError
from jarvis_core.settings import ServerSettings

_log = structlog.stdlib.get_logger("jarvis.responses")

APPLICATION_ID = 0x4A525350
"""Marks a SQLite file as ours: ``JRSP``."""

VERSION = 1
"""Version of the tables."""

LOCK_WAIT = 2.0
"""Seconds that another program may hold the file."""

ROW_BYTES = 256
"""Bytes counted for a response beside its texts: ids and index entries."""

_TABLES = """
CREATE TABLE responses (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    previous TEXT,
    used REAL NOT NULL,
    bytes INTEGER NOT NULL,
    input BLOB NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX responses_by_use ON responses (tenant, used, bytes);
CREATE INDEX responses_by_age ON responses (used);
"""

T = TypeVar("T")


@frozen(kw_only=True)
class StoredResponse:
    """A response and what it answers.

    Attributes:
        id: Its identifier.
        tenant: Whose it is; empty where the server has no keys.
        previous: The response that it goes on from.
        input: Its own input items, as ``items`` writes them; those before are ``previous``'s.
        body: The response on the wire.
    """

    id: str
    tenant: str
    previous: str | None
    input: Sequence[Mapping[str, Any]]
    body: Mapping[str, Any]


class Broken(Exception):
    """A response of a chain is not there any more.

    Attributes:
        id: Which one.
    """

    def __init__(self, id: str) -> None:  # noqa: A002  # the wire's word
        super().__init__(id)
        self.id = id


class ResponseStore:
    """Keeps responses; what was not used for longest makes room for what is new.

    A response that others go on from counts as used whenever one of them is, so a conversation
    loses its newest turn first and never one from its middle. Room is made at the expense of the
    tenant that takes most of it.
    """

    def __init__(
        self,
        path: str = "",
        *,
        ttl: float,
        max_responses: int,
        max_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the store.

        Args:
            path: The file; empty keeps responses in memory.
            ttl: Seconds that a response is kept after its last use.
            max_responses: Responses kept at most.
            max_bytes: Bytes of their texts at most.
            clock: Seconds since the epoch.

        Raises:
            SettingError: The file cannot be used.
        """
        self._ttl = ttl
        self._max_responses = max_responses
        self._max_bytes = max_bytes
        self._clock = clock
        self._db = _open(path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jarvis-responses")
        self._closing = threading.Lock()
        self._closed = False

    @classmethod
    def of(cls, settings: ServerSettings) -> ResponseStore:
        """The store that the operator wants.

        Raises:
            SettingError: Its file cannot be used.
        """
        return cls(
            settings.responses_db,
            ttl=settings.responses_ttl,
            max_responses=settings.responses_max,
            max_bytes=settings.responses_max_bytes,
        )

    def put(self, response: StoredResponse) -> bool:
        """Keep a response; whoever asks for it afterwards finds it.

        Returns:
            Whether it can be kept: one that is larger than the whole store cannot. What goes wrong
            later, with a disk, is in the log.
        """
        if self._closed:
            return False
        written, body = orjson.dumps(response.input), orjson.dumps(response.body)
        size = len(written) + len(body) + ROW_BYTES
        if size > self._max_bytes:
            _log.warning("a response is larger than the whole store", bytes=size)
            return False
        row = (response.id, response.tenant, response.previous, size, written, body)
        self._thread.submit(self._put, *row)
        return True

    async def get(self, id: str, tenant: str) -> StoredResponse | None:  # noqa: A002
        """A response, None if the tenant has none of that id."""
        return await self._run(lambda: self._get(id, tenant))

    async def chain(self, id: str, tenant: str) -> tuple[StoredResponse, ...]:  # noqa: A002
        """A response and those that it goes on from, oldest first.

        Raises:
            Broken: One of them is not there.
        """
        return await self._run(lambda: self._chain(id, tenant))

    async def delete(self, id: str, tenant: str) -> bool:  # noqa: A002
        """Forget a response; False if the tenant has none of that id."""
        return await self._run(lambda: self._delete(id, tenant))

    def close(self) -> None:
        """Write what is waiting to be written, and give the file back; further calls do nothing."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._thread.shutdown()
                self._db.close()

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # -- in the thread -----------------------------------------------------------------------

    def _put(
        self,
        id: str,  # noqa: A002
        tenant: str,
        previous: str | None,
        size: int,
        written: bytes,
        body: bytes,
    ) -> None:
        try:
            with self._transaction():
                self._forget_expired()
                self._db.execute(
                    "INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (id, tenant, previous, self._clock(), size, written, body),
                )
                self._touch(id, tenant)
                self._make_room()
        except sqlite3.Error as error:
            _log.error("a response could not be stored", reason=str(error))

    def _get(self, id: str, tenant: str) -> StoredResponse | None:  # noqa: A002
        with self._transaction():
            found = self._read(id, tenant)
            if found is not None:
                self._touch(id, tenant)
        return found

    def _chain(self, id: str, tenant: str) -> tuple[StoredResponse, ...]:  # noqa: A002
        found: list[StoredResponse] = []
        wanted: str | None = id
        with self._transaction():
            while wanted is not None:
                response = self._read(wanted, tenant)
                if response is None:
                    raise Broken(wanted)
                found.append(response)
                wanted = response.previous
            self._touch(id, tenant)
        return tuple(reversed(found))

    def _delete(self, id: str, tenant: str) -> bool:  # noqa: A002
        with self._transaction():
            done = self._db.execute(
                "DELETE FROM responses WHERE id = ? AND tenant = ? AND used >= ?",
                (id, tenant, self._clock() - self._ttl),
            )
        return done.rowcount > 0

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _read(self, id: str, tenant: str) -> StoredResponse | None:  # noqa: A002
        row = self._db.execute(
            "SELECT previous, input, body FROM responses WHERE id = ? AND tenant = ? AND used >= ?",
            (id, tenant, self._clock() - self._ttl),
        ).fetchone()
        if row is None:
            return None
        previous, written, body = row
        return StoredResponse(
            id=id,
            tenant=tenant,
            previous=previous,
            input=orjson.loads(written),
            body=orjson.loads(body),
        )

    def _touch(self, id: str, tenant: str) -> None:  # noqa: A002
        """Count a response as used, and those that it goes on from as used a moment later."""
        now = self._clock()
        wanted: str | None = id
        for depth in itertools.count():
            row = self._db.execute(
                "SELECT previous FROM responses WHERE id = ? AND tenant = ?", (wanted, tenant)
            ).fetchone()
            if row is None:
                return
            self._db.execute(
                "UPDATE responses SET used = ? WHERE id = ?", (now + depth * 1e-6, wanted)
            )
            wanted = row[0]

    def _forget_expired(self) -> None:
        self._db.execute("DELETE FROM responses WHERE used < ?", (self._clock() - self._ttl,))

    def _make_room(self) -> None:
        """Forget what was not used for longest, of the tenant that takes most room, until it fits.

        What was stored last is used last, so it stays.
        """
        totals = {
            tenant: [count, size]
            for tenant, count, size in self._db.execute(
                "SELECT tenant, COUNT(*), SUM(bytes) FROM responses GROUP BY tenant"
            )
        }
        while (
            sum(count for count, _ in totals.values()) > self._max_responses
            or sum(size for _, size in totals.values()) > self._max_bytes
        ):
            tenant = max(totals, key=lambda name: self._share(*totals[name]))
            id_, size = self._db.execute(
                "SELECT id, bytes FROM responses WHERE tenant = ? ORDER BY used LIMIT 1", (tenant,)
            ).fetchone()
            self._db.execute("DELETE FROM responses WHERE id = ?", (id_,))
            totals[tenant][0] -= 1
            totals[tenant][1] -= size

    def _share(self, count: int, size: int) -> float:
        """How much of the store a tenant takes, of that limit of which it takes most."""
        return max(count / self._max_responses, size / self._max_bytes)


def _open(path: str) -> sqlite3.Connection:
    """The database, ready for use.

    Raises:
        SettingError: The file cannot be used; the message says why.
    """
    try:
        if path:
            # The file holds what people wrote: it is for this user only. SQLite gives the files
            # that it keeps beside it the same mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        db = sqlite3.connect(
            path or ":memory:", timeout=LOCK_WAIT, isolation_level=None, check_same_thread=False
        )
    except (OSError, sqlite3.Error) as error:
        raise _unusable(path, getattr(error, "strerror", None) or str(error)) from None
    try:
        _prepare(db, path)
    except sqlite3.Error as error:
        db.close()
        reason = str(error)
        if "locked" in reason:
            reason = "another program holds it; end that program or choose another file"
        raise _unusable(path, reason) from None
    except SettingError:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: str) -> None:
    empty = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone() == (0,)
    if not empty:
        _check(db, path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA secure_delete = ON")
    db.execute("BEGIN IMMEDIATE")
    if empty:
        for statement in filter(str.strip, _TABLES.split(";")):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")


def _check(db: sqlite3.Connection, path: str) -> None:
    """Refuse a file that is not ours, not of this version, or damaged."""
    if db.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
        raise _unusable(path, "it is the database of another program; choose another file")
    if db.execute("PRAGMA user_version").fetchone() != (VERSION,):
        raise _unusable(path, "another version of Jarvis wrote it; choose another file")
    if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise _unusable(path, "it is damaged; move it away, and a new one is made")


def _unusable(path: str, reason: str) -> SettingError:
    return SettingError(f"JARVIS_RESPONSES_DB: {path} cannot be used: {reason}")

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

from jarvis_core.errors import EngineError, SettingError
from jarvis_core.http.openai.responses.database import LOCK_WAIT, open_database
from jarvis_core.http.openai.responses.room import Room
from jarvis_core.settings import ServerSettings

_log = structlog.stdlib.get_logger("jarvis.responses")

ROW_BYTES = 256
"""Bytes counted for a response beside its texts: ids and index entries."""

MAX_WAITING = 1024
"""Responses that may wait to be written."""

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


class StoreUnavailable(EngineError):
    """The file of responses cannot be read or written now."""

    status_code = 503
    code = "store_unavailable"


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
        self._path = path
        self._db = open_database(path)
        self._room = Room(self._db)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jarvis-responses")
        self._lock = threading.Lock()
        self._waiting = 0
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
            Whether it can be kept: one that is larger than the whole store cannot, and none while a
            slow disk has too much to write already. What goes wrong later is in the log, and
            ``keeps`` says so.
        """
        written, body = orjson.dumps(response.input), orjson.dumps(response.body)
        size = len(written) + len(body) + ROW_BYTES
        if size > self._max_bytes:
            _log.warning("a response is larger than the whole store", bytes=size)
            return False
        with self._lock:
            if self._closed or self._waiting >= MAX_WAITING:
                _log.warning("a response is not stored", waiting=self._waiting)
                return False
            self._waiting += 1
            row = (response.id, response.tenant, response.previous, size, written, body)
            self._thread.submit(self._put, *row)
        return True

    async def keeps(self, id: str) -> bool:  # noqa: A002
        """Wait until what was put before is written, and say whether a response is there."""
        if self._closed:  # it waited for that
            return True
        try:
            return await self._run(lambda: self._has(id))
        except StoreUnavailable:
            return False

    async def get(self, id: str, tenant: str) -> StoredResponse | None:  # noqa: A002
        """A response, None if the tenant has none of that id.

        Raises:
            StoreUnavailable: The file cannot be read.
        """
        return await self._run(lambda: self._get(id, tenant))

    async def chain(self, id: str, tenant: str) -> tuple[StoredResponse, ...]:  # noqa: A002
        """A response and those that it goes on from, oldest first.

        Raises:
            Broken: One of them is not there.
            StoreUnavailable: The file cannot be read.
        """
        return await self._run(lambda: self._chain(id, tenant))

    async def delete(self, id: str, tenant: str) -> bool:  # noqa: A002
        """Forget a response; False if the tenant has none of that id.

        Raises:
            StoreUnavailable: The file cannot be written.
        """
        return await self._run(lambda: self._delete(id, tenant))

    def close(self) -> None:
        """Write what is waiting to be written, and give the file back; further calls do nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._thread.shutdown()
        self._db.close()

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            _log.error("stored responses cannot be reached", reason=str(error))
            raise StoreUnavailable(
                "stored responses cannot be reached now; the server's log says why",
                retry_after=LOCK_WAIT,
            ) from None

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
            self._open_anew_if_removed()
            with self._transaction():
                self._forget_expired()
                self._db.execute(
                    "INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (id, tenant, previous, self._clock(), size, written, body),
                )
                self._room.taken(tenant, size)
                self._touch(id, tenant)
                self._make_room()
        except (sqlite3.Error, SettingError) as error:
            _log.error("a response could not be stored", reason=str(error))
        finally:
            with self._lock:
                self._waiting -= 1

    def _open_anew_if_removed(self) -> None:
        """Use a new file if somebody has removed ours: what is written to that, nobody finds again.

        Raises:
            SettingError: There can be none.
        """
        if not self._path or os.path.exists(self._path):
            return
        _log.warning("the file of responses was removed; a new one is made", path=self._path)
        db, self._db = self._db, open_database(self._path)
        self._room = Room(self._db)
        db.close()

    def _has(self, id: str) -> bool:  # noqa: A002
        found = self._db.execute("SELECT 1 FROM responses WHERE id = ?", (id,)).fetchone()
        return found is not None

    def _get(self, id: str, tenant: str) -> StoredResponse | None:  # noqa: A002
        found = self._read(id, tenant)
        if found is not None:
            self._note_use(id, tenant)
        return found

    def _chain(self, id: str, tenant: str) -> tuple[StoredResponse, ...]:  # noqa: A002
        found: list[StoredResponse] = []
        wanted: str | None = id
        while wanted is not None:
            response = self._read(wanted, tenant)
            if response is None:
                raise Broken(wanted)
            found.append(response)
            wanted = response.previous
        self._note_use(id, tenant)
        return tuple(reversed(found))

    def _delete(self, id: str, tenant: str) -> bool:  # noqa: A002
        with self._transaction():
            row = self._db.execute(
                "SELECT bytes FROM responses WHERE id = ? AND tenant = ? AND used >= ?",
                (id, tenant, self._clock() - self._ttl),
            ).fetchone()
            if row is not None:
                self._db.execute("DELETE FROM responses WHERE id = ?", (id,))
                self._room.given(tenant, 1, row[0])
        return row is not None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        self._db.begin()
        try:
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error:
            self._room.forget()
            raise
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

    def _note_use(self, id: str, tenant: str) -> None:  # noqa: A002
        """Count a response as used, if that can be written: reading goes on without."""
        try:
            with self._transaction():
                self._touch(id, tenant)
        except sqlite3.Error as error:
            _log.warning("the use of a response could not be noted", reason=str(error))

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
        oldest = self._clock() - self._ttl
        expired = self._db.execute(
            "SELECT tenant, COUNT(*), SUM(bytes) FROM responses WHERE used < ? GROUP BY tenant",
            (oldest,),
        ).fetchall()
        if expired:
            self._db.execute("DELETE FROM responses WHERE used < ?", (oldest,))
        for row in expired:
            self._room.given(*row)

    def _make_room(self) -> None:
        """Forget what was not used for longest, of the tenant that takes most room, until it fits.

        What was stored last is used last, so it stays.
        """
        limits = (self._max_responses, self._max_bytes)
        while (tenant := self._room.greediest(*limits)) is not None:
            id_, size = self._db.execute(
                "SELECT id, bytes FROM responses WHERE tenant = ? ORDER BY used LIMIT 1", (tenant,)
            ).fetchone()
            self._db.execute("DELETE FROM responses WHERE id = ?", (id_,))
            self._room.given(tenant, 1, size)

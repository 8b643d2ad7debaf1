"""The SQLite database of stored responses: opened, checked, and made where there is none."""

from __future__ import annotations

import os
import sqlite3

from jarvis_core.errors import SettingError

APPLICATION_ID = 0x4A525350
"""Marks a SQLite file as ours: ``JRSP``."""

VERSION = 1
"""Version of the tables."""

LOCK_WAIT = 2.0
"""Seconds that another program may hold the file."""

_TABLES = """
CREATE TABLE IF NOT EXISTS responses (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    previous TEXT,
    used REAL NOT NULL,
    bytes INTEGER NOT NULL,
    input BLOB NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS responses_by_use ON responses (tenant, used, bytes);
CREATE INDEX IF NOT EXISTS responses_by_age ON responses (used);
"""


class Database(sqlite3.Connection):
    """A connection that waits once for another program that holds the file.

    As long as that goes on holding it, nothing waits again: it would delay every answer.
    """

    _waits = True

    def begin(self) -> None:
        """Begin to write.

        Raises:
            sqlite3.Error: Another program holds the file, or it cannot be written.
        """
        try:
            self.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                self._wait(False)
            raise
        self._wait(True)

    def _wait(self, waits: bool) -> None:
        if waits != self._waits:
            self.execute(f"PRAGMA busy_timeout = {LOCK_WAIT * 1e3 if waits else 0:.0f}")
            self._waits = waits


def open_database(path: str) -> Database:
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
            path or ":memory:",
            timeout=LOCK_WAIT,
            isolation_level=None,
            check_same_thread=False,
            factory=Database,
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


def _prepare(db: Database, path: str) -> None:
    empty = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone() == (0,)
    if not empty:
        _check(db, path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA secure_delete = ON")
    db.begin()
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

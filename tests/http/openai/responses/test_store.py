"""Stored responses: found by their own tenant, kept within bounds, and on a disk if wanted."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jarvis_core.errors import SettingError
from jarvis_core.http.openai.responses import database
from jarvis_core.http.openai.responses import store as store_module
from jarvis_core.http.openai.responses.store import (
    Broken,
    ResponseStore,
    StoredResponse,
    StoreUnavailable,
)

pytestmark = pytest.mark.anyio


class Clock:
    """A clock that goes on when it is told to.

    Attributes:
        now: The time.
        gate: Whoever asks for the time waits for it.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self) -> float:
        self.gate.wait()
        self.now += 0.001
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


Open = Callable[..., ResponseStore]


@pytest.fixture
def opened(clock: Clock) -> Iterator[Open]:
    """Opens stores, and closes them."""
    made = []

    def make(
        path: Path | str = "",
        *,
        ttl: float = 100.0,
        max_responses: int = 100,
        max_bytes: int = 100_000,
    ) -> ResponseStore:
        made.append(
            ResponseStore(
                str(path), ttl=ttl, max_responses=max_responses, max_bytes=max_bytes, clock=clock
            )
        )
        return made[-1]

    yield make
    for store in made:
        store.close()


def response(
    id: str,  # noqa: A002
    *,
    tenant: str = "a",
    previous: str | None = None,
    text: str = "",
) -> StoredResponse:
    return StoredResponse(
        id=id, tenant=tenant, previous=previous, input=[{"text": text}], body={"id": id}
    )


async def ids(store: ResponseStore, tenant: str, *wanted: str) -> list[str]:
    """Those of the ids that are there."""
    return [one for one in wanted if await store.get(one, tenant) is not None]


async def test_what_is_put_is_found_at_once(opened: Open) -> None:
    store = opened()
    assert store.put(response("r1", text="hello"))
    assert await store.get("r1", "a") == response("r1", text="hello")


async def test_another_tenant_finds_and_deletes_nothing(opened: Open) -> None:
    store = opened()
    store.put(response("r1"))
    assert await store.get("r1", "b") is None
    assert not await store.delete("r1", "b")
    with pytest.raises(Broken):
        await store.chain("r1", "b")
    assert await store.get("r1", "a") is not None


async def test_a_chain_is_oldest_first(opened: Open) -> None:
    store = opened()
    store.put(response("r1"))
    store.put(response("r2", previous="r1"))
    store.put(response("r3", previous="r2"))
    assert [r.id for r in await store.chain("r3", "a")] == ["r1", "r2", "r3"]


async def test_a_chain_with_a_deleted_link_is_broken_there(opened: Open) -> None:
    store = opened()
    store.put(response("r1"))
    store.put(response("r2", previous="r1"))
    store.put(response("r3", previous="r2"))
    assert await store.delete("r2", "a")
    assert not await store.delete("r2", "a")
    with pytest.raises(Broken) as broken:
        await store.chain("r3", "a")
    assert broken.value.id == "r2"
    assert await ids(store, "a", "r1", "r2", "r3") == ["r1", "r3"]


async def test_what_is_not_used_expires(opened: Open, clock: Clock) -> None:
    store = opened(ttl=100)
    store.put(response("r1"))
    store.put(response("r2"))
    assert await ids(store, "a", "r1", "r2") == ["r1", "r2"]
    clock.now += 60
    assert await ids(store, "a", "r2") == ["r2"]
    clock.now += 60
    assert await ids(store, "a", "r1", "r2") == ["r2"]
    assert not await store.delete("r1", "a")


async def test_a_conversation_that_goes_on_expires_nowhere(opened: Open, clock: Clock) -> None:
    store = opened(ttl=100)
    store.put(response("r0"))
    for turn in range(1, 5):
        clock.now += 60
        await store.chain(f"r{turn - 1}", "a")
        store.put(response(f"r{turn}", previous=f"r{turn - 1}"))
    assert len(await store.chain("r4", "a")) == 5


async def test_the_least_recently_used_one_makes_room(opened: Open) -> None:
    store = opened(max_responses=3)
    for name in ("r1", "r2", "r3"):
        store.put(response(name))
    await store.get("r1", "a")
    store.put(response("r4"))
    assert await ids(store, "a", "r1", "r2", "r3", "r4") == ["r1", "r3", "r4"]


async def test_bytes_are_bounded_too(opened: Open) -> None:
    store = opened(max_bytes=10_000)
    for number in range(10):
        store.put(response(f"r{number}", text="x" * 2000))
    kept = await ids(store, "a", *(f"r{number}" for number in range(10)))
    assert kept == ["r6", "r7", "r8", "r9"]


async def test_what_is_larger_than_the_store_is_not_kept(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(max_bytes=10_000)
    store.put(response("r1"))
    assert not store.put(response("r2", text="x" * 10_000))
    assert await ids(store, "a", "r1", "r2") == ["r1"]


async def test_a_conversation_loses_its_newest_turn_first(opened: Open) -> None:
    store = opened(max_responses=4)
    store.put(response("r1"))
    store.put(response("r2", previous="r1"))
    store.put(response("r3", previous="r2"))
    for name in ("o1", "o2"):
        store.put(response(name))
    assert [r.id for r in await store.chain("r2", "a")] == ["r1", "r2"]
    assert await ids(store, "a", "r3") == []


async def test_one_tenants_burst_takes_no_room_from_another(opened: Open) -> None:
    store = opened(max_responses=10)
    store.put(response("mine", tenant="b"))
    for number in range(50):
        store.put(response(f"r{number}", tenant="a"))
    assert await ids(store, "b", "mine") == ["mine"]
    assert len(await ids(store, "a", *(f"r{number}" for number in range(50)))) == 9


# -- a file ----------------------------------------------------------------------------------


async def test_a_file_outlives_its_server(opened: Open, tmp_path: Path) -> None:
    first = opened(tmp_path / "responses.db")
    first.put(response("r1", text="hello"))
    first.put(response("r2", previous="r1"))
    first.close()
    second = opened(tmp_path / "responses.db")
    assert [r.id for r in await second.chain("r2", "a")] == ["r1", "r2"]
    assert await second.get("r1", "b") is None


async def test_two_servers_may_share_a_file(opened: Open, tmp_path: Path) -> None:
    first, second = opened(tmp_path / "responses.db"), opened(tmp_path / "responses.db")
    first.put(response("r1"))
    assert await first.get("r1", "a") is not None
    assert await second.get("r1", "a") is not None


async def test_what_two_servers_store_is_bounded_together(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "responses.db"
    first, second = opened(path, max_responses=4), opened(path, max_responses=4)
    for number in range(4):
        first.put(response(f"a{number}"))
        await first.get("none", "a")
        second.put(response(f"b{number}"))
        await second.get("none", "a")
    names = [f"{server}{number}" for number in range(4) for server in "ab"]
    assert await ids(first, "a", *names) == ["a2", "b2", "a3", "b3"]


async def test_what_waits_for_a_slow_disk_is_bounded(
    opened: Open, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_WAITING", 3)
    store = opened()
    clock.gate.clear()  # the thread asks for the time, and waits
    assert [store.put(response(f"r{number}")) for number in range(5)] == [True] * 3 + [False] * 2
    clock.gate.set()
    assert await ids(store, "a", "r0", "r1", "r2", "r3") == ["r0", "r1", "r2"]
    assert store.put(response("r5"))


async def test_a_file_is_for_its_owner_only(opened: Open, tmp_path: Path) -> None:
    store = opened(tmp_path / "responses.db")
    store.put(response("r1"))
    await store.get("r1", "a")
    modes = {stat.S_IMODE(os.stat(path).st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o600}


async def test_deleted_text_is_gone_from_the_file(opened: Open, tmp_path: Path) -> None:
    store = opened(tmp_path / "responses.db")
    store.put(response("r1", text="canary"))
    await store.delete("r1", "a")
    store.close()
    assert all(b"canary" not in path.read_bytes() for path in tmp_path.iterdir())


def refusal(opened: Open, path: Path) -> str:
    with pytest.raises(SettingError) as refused:
        opened(path)
    assert str(refused.value).startswith(f"JARVIS_RESPONSES_DB: {path} cannot be used: ")
    return str(refused.value)


def test_a_file_in_no_folder_is_refused(opened: Open, tmp_path: Path) -> None:
    assert refusal(opened, tmp_path / "none/responses.db").endswith("No such file or directory")


def test_a_folder_is_refused(opened: Open, tmp_path: Path) -> None:
    assert refusal(opened, tmp_path).endswith("Is a directory")


def test_a_file_that_is_no_database_is_refused(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes " * 100)
    assert refusal(opened, path).endswith("file is not a database")
    assert path.read_text().startswith("these are my notes")


def test_another_programs_database_is_refused_and_left_alone(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE responses (id TEXT)")
    before = path.read_bytes()
    assert "another program" in refusal(opened, path)
    assert path.read_bytes() == before


def test_a_later_versions_file_is_refused(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "responses.db"
    opened(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    assert "another version of Jarvis" in refusal(opened, path)


async def test_a_damaged_file_is_refused(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "responses.db"
    store = opened(path)
    for number in range(40):
        store.put(response(f"r{number}", text="x" * 2000))
    store.close()
    content = bytearray(path.read_bytes())
    content[8192:20480] = b"\xff" * 12288
    path.write_bytes(content)
    assert "damaged" in refusal(opened, path) or "malformed" in refusal(opened, path)


def test_a_locked_file_is_refused(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_WAIT", 0.05)
    path = tmp_path / "responses.db"
    opened(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("UPDATE responses SET used = 0")
        assert "another program holds it" in refusal(opened, path)


async def test_what_cannot_be_written_can_still_be_read(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "LOCK_WAIT", 0.05)
    store = opened(tmp_path / "responses.db")
    store.put(response("r1"))
    assert await store.get("r1", "a") is not None
    with closing(sqlite3.connect(tmp_path / "responses.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await store.get("r1", "a") is not None
        assert len(await store.chain("r1", "a")) == 1
        store.put(response("r2"))
        assert await store.get("r2", "a") is None
        assert not await store.keeps("r2")
    assert "could not be noted" in caplog.text
    assert "could not be stored" in caplog.text
    store.put(response("r3"))
    assert await store.keeps("r3")
    assert await store.get("r3", "a") is not None


async def test_what_has_expired_takes_no_room(opened: Open, clock: Clock) -> None:
    store = opened(max_responses=2)
    for name in ("r1", "r2"):
        store.put(response(name))
    assert await store.keeps("r2")
    clock.now += 101
    for name in ("r3", "r4"):
        store.put(response(name))
    assert await ids(store, "a", "r1", "r2", "r3", "r4") == ["r3", "r4"]


async def test_room_is_right_after_a_write_that_failed_half_way(
    opened: Open, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(max_responses=2)
    for name in ("r1", "r2"):
        store.put(response(name))
        assert await store.keeps(name)
        clock.now += 60
    store.put(response("r2"))  # forgets r1, and is refused: r1 is there again
    assert await store.keeps("r2")
    assert "could not be stored" in caplog.text
    for name in ("r3", "r4"):
        store.put(response(name))
    assert await ids(store, "a", "r1", "r2", "r3", "r4") == ["r3", "r4"]


async def test_a_file_that_stays_locked_is_waited_for_once(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_WAIT", 0.5)
    store = opened(tmp_path / "responses.db")
    store.put(response("r"))
    assert await store.keeps("r")
    began = time.monotonic()
    with closing(sqlite3.connect(tmp_path / "responses.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for number in range(10):
            assert len(await store.chain("r", "a")) == 1
            store.put(response(f"r{number}"))
            assert not await store.keeps(f"r{number}")
    assert time.monotonic() - began < 5  # one wait, not twenty


async def test_a_file_that_was_free_again_is_waited_for_again(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_WAIT", 0.05)
    store = opened(tmp_path / "responses.db")
    with closing(
        sqlite3.connect(tmp_path / "responses.db", isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        store.put(response("r1"))
        assert not await store.keeps("r1")
        other.execute("ROLLBACK")
        monkeypatch.setattr(database, "LOCK_WAIT", 60.0)
        store.put(response("r2"))
        assert await store.keeps("r2")
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.2, other.execute, ["ROLLBACK"])
        release.start()
        store.put(response("r3"))
        assert await store.keeps("r3")
        release.join()


async def test_a_disk_that_fails_later_is_told_in_the_log(
    opened: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(tmp_path / "responses.db")
    store.put(response("r1"))
    assert await store.get("r1", "a") is not None
    with closing(sqlite3.connect(tmp_path / "responses.db")) as db, db:
        db.execute("DROP TABLE responses")
    for work in (store.get("r1", "a"), store.chain("r1", "a"), store.delete("r1", "a")):
        with pytest.raises(StoreUnavailable, match="cannot be reached now"):
            await work
    with caplog.at_level(logging.ERROR):
        assert store.put(response("r2"))
        assert not await store.keeps("r2")
        store.close()
    assert "could not be stored" in caplog.text
    assert not store.put(response("r3"))


async def test_after_a_file_was_removed_a_new_one_is_written(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "responses.db"
    store = opened(path)
    store.put(response("r1"))
    assert await store.keeps("r1")
    for file in tmp_path.iterdir():
        file.unlink()
    store.put(response("r2"))
    assert await ids(store, "a", "r1", "r2") == ["r2"]
    store.close()
    assert await ids(opened(path), "a", "r1", "r2") == ["r2"]


async def test_without_its_folder_nothing_is_stored_until_that_is_back(
    opened: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    store = opened(folder / "responses.db")
    shutil.rmtree(folder)
    store.put(response("r1"))
    assert not await store.keeps("r1")
    assert "could not be stored" in caplog.text
    folder.mkdir()
    store.put(response("r2"))
    assert await ids(store, "a", "r1", "r2") == ["r2"]

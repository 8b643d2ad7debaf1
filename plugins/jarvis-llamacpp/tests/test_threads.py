"""How many threads compute."""

from __future__ import annotations

from pathlib import Path

import pytest

from jarvis_llamacpp.threads import count_cores, cpu_quota, default_threads


def topology(folder: Path, siblings: dict[int, str]) -> Path:
    for cpu, text in siblings.items():
        place = folder / f"cpu{cpu}/topology"
        place.mkdir(parents=True)
        (place / "thread_siblings_list").write_text(text + "\n")
    return folder


def test_threads_of_one_core_count_once(tmp_path: Path) -> None:
    folder = topology(tmp_path, {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"})

    assert count_cores({0, 1, 2, 3}, folder) == 2
    assert count_cores({0, 2}, folder) == 1
    assert count_cores({0, 1}, folder) == 2


def test_without_a_topology_every_cpu_is_a_core(tmp_path: Path) -> None:
    assert count_cores({0, 1, 2}, tmp_path) == 3
    assert count_cores(set(), tmp_path) == 1


@pytest.mark.parametrize(
    ("content", "quota"), [("max 100000", None), ("250000 100000", 2.5), ("nonsense", None)]
)
def test_a_containers_quota_is_read(tmp_path: Path, content: str, quota: float | None) -> None:
    (tmp_path / "cpu.max").write_text(content)

    assert cpu_quota(tmp_path) == quota


def test_without_a_container_there_is_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


def test_there_is_always_a_thread() -> None:
    assert default_threads() >= 1

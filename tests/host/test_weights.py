"""From a source to a path: local files, and downloads from a hub on this machine."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jarvis_core.errors import ModelSourceError
from jarvis_core.host.client import Host, HostLimits
from jarvis_core.host.protocol import HostPlan
from jarvis_core.host.weights import locate

pytestmark = pytest.mark.anyio

COMMIT = "0" * 40
GGUF = ("*.gguf",)
PLUGIN = """
from attrs import evolve
from jarvis_core import hookimpl
from jarvis_core.testing.fake import FAKE, FakeEngine
from jarvis_core.testing.fake_format import FakeFormat

class Engine(FakeEngine):
    pass

async def load(model, settings):
    engine = Engine(model)
    engine._info = evolve(engine.info, title=model.path)
    return engine

@hookimpl
def jarvis_register_engines():
    return [evolve(FAKE, name="from_hub", load=load, weights={patterns!r})]
"""


class Hub(ThreadingHTTPServer):
    """Answers what the hub's client asks: the file list of a repository, and its files."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.slow = 0.0
        self.downloads: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._file(body=False)

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if not path.startswith("/api/models/"):
            self._file(body=True)
            return
        repo = "/".join(path.split("/")[3:5])
        if repo not in self.server.repos:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        files = self.server.repos[repo]
        siblings = [{"rfilename": n, "size": len(data)} for n, data in files.items()]
        body = {"id": repo, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
        self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _file(self, *, body: bool) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        data = self.server.repos.get("/".join(parts[:2]), {}).get("/".join(parts[4:]))
        if data is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
        if not body:
            self._send(200, b"", headers, length=len(data))
            return
        self.server.downloads.append(parts[-1])
        self._send(200, data, headers)

    def _send(
        self, status: int, data: bytes, headers: dict[str, str], length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        half = len(data) // 2
        self.wfile.write(data[:half])
        self.wfile.flush()
        if data:
            time.sleep(self.server.slow)
        self.wfile.write(data[half:])


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setenv("JARVIS_PLUGINS", "hub_plugin,jarvis_core.testing.fake")
        (tmp_path / "hub_plugin.py").write_text(PLUGIN.format(patterns=GGUF))
        yield server
        server.shutdown()
        thread.join()


async def load(source: str) -> tuple[Path, list[tuple[int, int]]]:
    """Where a host found the weights, and the progress that it told."""
    seen: list[tuple[int, int]] = []
    host = Host(
        HostPlan(name="m", source=source, engine="from_hub", chat_format="fake"),
        HostLimits(load_timeout=60),
        on_progress=lambda done, total: seen.append((done, total)),
    )
    try:
        await host.start()
        assert host.info is not None
        return Path(host.info.title or ""), seen
    finally:
        await host.stop()


async def test_local_paths_stay_local_and_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "name").mkdir()

    async def at(source: str) -> str:
        return await locate(source, GGUF, lambda done, total: None)

    assert await at("org/name") == str(tmp_path / "org/name")
    assert await at("missing.gguf") == str(tmp_path / "missing.gguf")
    assert await at("~/x/y.gguf") == str(tmp_path / "x/y.gguf")
    assert await at("/no/such/file") == "/no/such/file"
    assert await at("smollm2") == "smollm2"


async def test_one_quantization_is_downloaded_with_progress_and_only_once(hub: Hub) -> None:
    hub.slow = 1.2
    hub.repos["org/tiny-GGUF"] = {
        "README.md": b"hi",
        "tiny-Q4_K_M.gguf": b"q" * 300_000,
        "tiny-Q8_0.gguf": b"8" * 500_000,
    }
    path, seen = await load("org/tiny-GGUF:q8_0")
    assert path.read_bytes() == b"8" * 500_000
    assert seen[-1] == (500_000, 500_000)
    assert {total for _, total in seen} == {500_000}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    await load("org/tiny-GGUF:Q8_0")
    assert hub.downloads == ["tiny-Q8_0.gguf"]


async def test_repository_without_a_named_quantization_takes_the_usual_one(hub: Hub) -> None:
    hub.repos["org/tiny"] = {"tiny-Q4_K_M.gguf": b"4", "tiny-Q8_0.gguf": b"8"}
    path, _ = await load("org/tiny")
    assert path.name == "tiny-Q4_K_M.gguf"


async def test_only_quantization_there_is_needs_no_name(hub: Hub) -> None:
    hub.repos["org/tiny"] = {"tiny.F16.gguf": b"16"}
    assert (await load("org/tiny"))[0].name == "tiny.F16.gguf"


async def test_shards_of_one_model_are_all_fetched_and_the_first_is_the_path(hub: Hub) -> None:
    shards = {f"Q8_0/big-Q8_0-0000{i}-of-00002.gguf": b"%d" % i for i in (1, 2)}
    hub.repos["org/big"] = shards | {"big-Q2_K.gguf": b"2"}
    path, _ = await load("org/big:Q8_0")
    assert path.name == "big-Q8_0-00001-of-00002.gguf"
    assert (path.parent / "big-Q8_0-00002-of-00002.gguf").read_bytes() == b"2"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("org/none", "neither a file here nor a repository"),
        ("org/tiny:Q2_K", r"no quantization 'Q2_K'; name one as org/tiny:QUANT of Q4_0, Q8_0"),
        ("org/tiny", r"no quantization 'Q4_K_M'; name one as org/tiny:QUANT"),
        ("org/safe", r"has none of \*\.gguf"),
    ],
)
async def test_what_cannot_be_downloaded_is_refused_with_the_reason(
    hub: Hub, source: str, why: str
) -> None:
    hub.repos["org/tiny"] = {"tiny-Q4_0.gguf": b"4", "tiny-Q8_0.gguf": b"8"}
    hub.repos["org/safe"] = {"model.safetensors": b"s", "config.json": b"{}"}
    with pytest.raises(ModelSourceError, match=why):
        await load(source)


async def test_hub_that_cannot_be_reached_is_named_as_the_cause(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelSourceError, match="no such file here, and downloading it failed"):
        await load("org/tiny")


async def test_directory_of_files_is_the_path_where_the_weights_are_not_gguf(
    hub: Hub, tmp_path: Path
) -> None:
    patterns = ("*.safetensors", "*.json", "!consolidated*")
    (tmp_path / "hub_plugin.py").write_text(PLUGIN.format(patterns=patterns))
    hub.repos["org/safe"] = {
        "model.safetensors": b"s",
        "config.json": b"{}",
        "x.bin": b"x",
        "consolidated.safetensors": b"the same again",
    }
    path, _ = await load("org/safe")
    assert sorted(p.name for p in path.iterdir()) == ["config.json", "model.safetensors"]

"""Rows S-02 and S-08 of the reliability bar, and starts that must fail with one clear line."""

from __future__ import annotations

import socket

import pytest
from served import Serve

pytestmark = pytest.mark.anyio

FAULTY = (
    '[models.m]\nsource = "fake/m"\nengine = "fake"\n[models.m.settings]\nload_fault = "missing"\n'
)


async def refused(serve: Serve, toml: str = "", **environ: str) -> str:
    """What a server prints that exits with code 2."""
    server = await serve(toml, wait=False, **environ)
    assert await server.ended(20) == 2
    assert "Traceback" not in server.log
    return server.log


async def test_public_bind_without_a_key_is_refused(serve: Serve) -> None:
    """S-02."""
    log = await refused(
        serve, JARVIS_INFERENCE_ENGINE="fake", JARVIS_MODEL_NAME="x", JARVIS_HOST="0.0.0.0"
    )
    assert "JARVIS_HOST" in log
    assert "JARVIS_API_KEY" in log


async def test_port_in_use_is_named(serve: Serve) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        log = await refused(
            serve, JARVIS_INFERENCE_ENGINE="fake", JARVIS_MODEL_NAME="x", JARVIS_PORT=port
        )
    assert f"JARVIS_PORT is {port} (environment): another program uses it on 127.0.0.1" in log


async def test_only_model_that_cannot_be_loaded_ends_the_server(serve: Serve) -> None:
    assert "no such file" in await refused(serve, FAULTY)


async def test_engine_and_format_that_do_not_exist_are_named(serve: Serve) -> None:
    log = await refused(serve, JARVIS_INFERENCE_ENGINE="nope", JARVIS_MODEL_NAME="x")
    assert "engine 'nope' is not installed: pip install jarvis-nope" in log
    log = await refused(
        serve,
        JARVIS_INFERENCE_ENGINE="fake",
        JARVIS_MODEL_NAME="x",
        JARVIS_MODEL_CHAT_FORMAT="nope",
    )
    assert "chat format 'nope' does not exist; there are: auto" in log


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "m/../../x",
        "m\x00",
        "file:///x",
    ],
)
async def test_names_that_are_paths_open_nothing(serve: Serve, name: str) -> None:
    """S-08."""
    server = await serve()
    response = await server.post("hi", name)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    for method, path in (("GET", f"/v1/models/{name}"), ("POST", f"/v1/models/{name}/load")):
        url = server.client.base_url.copy_with(raw_path=path.replace("\x00", "%00").encode())
        response = await server.client.request(method, url)
        assert response.status_code == 404
    assert await server.say("unharmed") == "unharmed"

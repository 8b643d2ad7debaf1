"""Models: listed, shown, loaded, put to sleep, unloaded."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from jarvis_core.models.status import ModelState

pytestmark = pytest.mark.anyio


async def test_the_list_has_openais_keys_and_ours(serve: Any, kit: Any) -> None:
    served = await serve(kit.make_model(), kit.make_model("other"))
    body = (await served.client.get("/v1/models")).json()
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == ["tiny", "other"]
    model = body["data"][0]
    assert model["object"] == "model"
    assert model["created"] == 1_700_000_000
    assert model["owned_by"] == "jarvis"
    assert model["engine"] == "fake"
    assert model["source"] == "org/tiny"
    assert model["aliases"] == ["small", "a/b"]
    assert model["state"] == "ready"
    assert model["context_length"] == 4096
    assert model["capabilities"]["constraints"] == ["choice", "json_schema", "lark", "regex"]
    assert "temperature" in model["parameters"]


@pytest.mark.parametrize("name", ["tiny", "small", "a/b", "a%2Fb", "org/tiny", "org%2ftiny"])
async def test_one_model_is_found_by_name_alias_and_source(serve: Any, name: str) -> None:
    served = await serve()
    answer = await served.client.get(f"/v1/models/{name}")
    assert answer.json()["id"] == "tiny"


@pytest.mark.parametrize("name", ["nope", "a", "tiny/load", "..%2f..%2fetc%2fpasswd", "%00"])
async def test_a_model_that_is_not_configured_is_404(serve: Any, name: str) -> None:
    """S-08."""
    served = await serve()
    answer = await served.client.get(f"/v1/models/{name}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


async def test_a_loading_model_shows_how_far_it_is(serve: Any, kit: Any) -> None:
    model = kit.make_model(
        state=ModelState.LOADING, info=None, healthy=False, loaded_bytes=5, total_bytes=10
    )
    served = await serve(model)
    shown = (await served.client.get("/v1/models/tiny")).json()
    assert shown["state"] == "loading"
    assert shown["loading"] == {"bytes_done": 5, "bytes_total": 10}
    assert shown["context_length"] is None
    assert "parameters" not in shown


async def test_a_failed_model_says_why(serve: Any, kit: Any) -> None:
    served = await serve(kit.make_model(state=ModelState.FAILED, error="no such file"))
    assert (await served.client.get("/v1/models/tiny")).json()["error"] == "no such file"


@pytest.mark.parametrize("name", ["tiny", "a/b", "org%2Ftiny"])
async def test_a_model_can_be_unloaded_and_loaded_again(serve: Any, name: str) -> None:
    served = await serve(admin_api_key="root")
    headers = {"authorization": "Bearer root"}
    unloaded = await served.client.post(f"/v1/models/{name}/unload", headers=headers)
    assert unloaded.status_code == 200
    assert unloaded.json()["state"] == "cold"
    loaded = await served.client.post(f"/v1/models/{name}/load", headers=headers)
    assert loaded.json()["state"] == "ready"


@pytest.mark.parametrize(
    ("query", "body", "level"),
    [
        ("", {}, 1),
        ("", {"json": {}}, 1),
        ("", {"json": {"level": 2}}, 2),
        ("?level=2", {}, 2),
        ("?level=1", {"json": {"level": 2}}, 2),
    ],
)
async def test_a_model_can_be_put_to_sleep_and_woken(
    serve: Any, query: str, body: Any, level: int
) -> None:
    served = await serve()
    asleep = await served.client.post(f"/v1/models/a%2Fb/sleep{query}", **body)
    assert asleep.status_code == 200
    assert asleep.json()["state"] == "asleep"
    assert asleep.json()["context_length"] == 4096
    assert served.model.levels == [level]
    awake = await served.client.post("/v1/models/a%2Fb/wake")
    assert awake.json()["state"] == "ready"


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("", b'{"level": 0}'),
        ("", b'{"level": 3}'),
        ("", b'{"level": "1"}'),
        ("", b"[1]"),
        ("?level=3", b""),
        ("?level=deep", b""),
        ("?level=" + "9" * 5000, b""),
    ],
)
async def test_a_level_that_is_none_is_refused(serve: Any, query: str, body: bytes) -> None:
    served = await serve()
    answer = await served.client.post(f"/v1/models/tiny/sleep{query}", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == (None if body == b"[1]" else "level")
    assert served.model.levels == []


async def test_what_sleep_does_not_know_is_named(serve: Any) -> None:
    served = await serve()
    answer = await served.client.post("/v1/models/tiny/sleep", json={"levle": 2})
    assert answer.headers["x-jarvis-ignored-params"] == "levle"


async def test_a_prefix_cache_can_be_reset(serve: Any) -> None:
    served = await serve()
    headers = {"x-request-id": "mine"}
    answer = await served.client.post("/v1/models/small/reset_prefix_cache", headers=headers)
    assert answer.json()["state"] == "ready"
    assert served.model.request_ids == ["mine"]


async def test_what_does_not_fit_the_state_is_409(serve: Any) -> None:
    served = await serve()
    served.model.status = evolve(served.model.status, state=ModelState.UNLOADING)
    answer = await served.client.post("/v1/models/tiny/unload")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "conflict"


async def test_a_model_itself_takes_no_post(serve: Any) -> None:
    served = await serve()
    for path in ("/v1/models/tiny", "/v1/models/tiny/explode", "/v1/models/load"):
        answer = await served.client.post(path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == "GET, HEAD"
    assert (await served.client.post("/v1/models/nope/load")).status_code == 404

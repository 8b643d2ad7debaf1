"""Keys and scopes, over every route."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jarvis_core.errors import InvalidApiKey, PermissionDenied
from jarvis_core.http import protocol
from jarvis_core.http.auth import Keyring, Scope
from jarvis_core.http.routes import ROUTES
from jarvis_core.models.turns import Claim
from jarvis_core.settings import ServerSettings

pytestmark = pytest.mark.anyio

KEYS = {"api_key": "user-1, user-2", "admin_api_key": "root"}


def keyring(**settings: Any) -> Keyring:
    return Keyring(ServerSettings(**settings))


@pytest.mark.parametrize("key", ["user-1", "user-2", "root"])
def test_every_configured_key_may_use_the_api(key: str) -> None:
    keyring(**KEYS).admit(f"Bearer {key}", Scope.USER)


def test_the_scheme_is_read_in_any_case() -> None:
    keyring(**KEYS).admit("bearer user-1", Scope.USER)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "user-1",
        "Basic user-1",
        "Bearer user-",
        "Bearer user-1,",
        "Bearer é",
    ],
)
def test_anything_else_is_refused(header: str) -> None:
    with pytest.raises(InvalidApiKey):
        keyring(**KEYS).admit(header, Scope.USER)


def test_a_list_of_keys_is_not_itself_a_key() -> None:
    with pytest.raises(InvalidApiKey):
        keyring(**KEYS).admit("Bearer user-1, user-2", Scope.USER)


def test_a_user_key_may_not_do_what_an_admin_key_may() -> None:
    with pytest.raises(PermissionDenied, match="JARVIS_ADMIN_API_KEY"):
        keyring(**KEYS).admit("Bearer user-1", Scope.ADMIN)
    keyring(**KEYS).admit("Bearer root", Scope.ADMIN)


def test_without_keys_everybody_may_do_everything() -> None:
    keyring().admit("", Scope.ADMIN)


def test_with_only_an_admin_key_no_other_is_known() -> None:
    keys = keyring(admin_api_key="root")
    keys.admit("Bearer root", Scope.USER)
    with pytest.raises(InvalidApiKey):
        keys.admit("", Scope.USER)


def test_a_caller_is_known_by_the_name_of_its_key(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text('[alice]\nkey = "sk-a"\nmax_concurrency = 2\n')
    caller = keyring(keys_file=str(file)).admit("Bearer sk-a", Scope.USER)
    assert caller.tenant == "alice"
    assert caller.key is not None
    assert caller.key.max_concurrency == 2


def test_two_keys_of_a_variable_are_two_tenants_and_stay_so() -> None:
    first, second = (keyring(**KEYS).admit(f"Bearer user-{i}", Scope.USER) for i in (1, 2))
    assert first.tenant != second.tenant
    assert keyring(api_key="user-2").admit("Bearer user-2", Scope.USER).tenant == second.tenant


def test_a_key_that_is_user_and_admin_is_admin() -> None:
    keyring(api_key="both", admin_api_key="both").admit("Bearer both", Scope.ADMIN)


def test_a_changed_keys_file_is_read_again(tmp_path: Path) -> None:
    file, now = tmp_path / "keys.toml", 0.0
    file.write_text('[alice]\nkey = "old"\n')
    keys = Keyring(ServerSettings(keys_file=str(file)), clock=lambda: now)
    keys.admit("Bearer old", Scope.USER)
    file.write_text('[alice]\nkey = "newer"\n')
    now += 2
    keys.admit("Bearer newer", Scope.USER)
    with pytest.raises(InvalidApiKey):
        keys.admit("Bearer old", Scope.USER)


@pytest.mark.parametrize("text", ["[alice\n", None])
def test_a_keys_file_that_breaks_changes_nothing(tmp_path: Path, text: str | None) -> None:
    file, now = tmp_path / "keys.toml", 0.0
    file.write_text('[alice]\nkey = "old"\n')
    keys = Keyring(ServerSettings(keys_file=str(file)), clock=lambda: now)
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    now += 2
    keys.admit("Bearer old", Scope.USER)


def test_an_empty_keys_file_lets_nobody_in(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text("")
    with pytest.raises(InvalidApiKey):
        keyring(keys_file=str(file)).admit("Bearer anything", Scope.USER)


async def test_a_key_may_come_as_x_api_key(serve: Any) -> None:
    served = await serve(**KEYS)
    answer = await served.client.get("/v1/models", headers={"x-api-key": "user-1"})
    assert answer.status_code == 200
    answer = await served.client.get("/v1/models", headers={"x-api-key": "wrong"})
    assert answer.status_code == 401


def _paths() -> list[tuple[str, str]]:
    return [(r.method, r.path.replace("<name:path>", "tiny")) for r in ROUTES]


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}])
async def test_every_route_but_live_ready_and_docs_needs_a_key(serve: Any, headers: Any) -> None:
    """S-01."""
    served = await serve(**KEYS)
    for method, path in _paths():
        answer = await served.client.request(method, path, headers=headers)
        if path in ("/health/live", "/health/ready", "/docs"):
            assert answer.status_code == 200
            continue
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
        error = answer.json()["error"]
        if path.startswith("/v1/messages"):
            assert error["type"] == "authentication_error"
            continue
        assert error["code"] == "invalid_api_key"
        assert error["type"] == "invalid_request_error"
        assert error["param"] is None
        assert "user-1" not in answer.text


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/../v1/models",
        b"//v1/models",
        b"/v1/models/",
        b"/v1/models%2f",
        b"/V1/MODELS",
        b"/health/live/../../v1/models",
        b"/health/live%2f..%2f..%2fv1%2fmodels",
        b"/nothing",
        b"http://elsewhere/v1/models",
    ],
)
async def test_path_tricks_and_odd_hosts_do_not_get_past_the_key(serve: Any, target: bytes) -> None:
    """S-01."""
    served = await serve(**KEYS)
    for host in (b"localhost", b"evil.example", b"", b"a b", b"[::1"):
        answer = await served.raw(
            b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
        )
        assert answer.split(b" ")[1] in (b"400", b"401", b"404")
        assert b"tiny" not in answer


@pytest.mark.parametrize("action", ["load", "unload", "sleep", "wake", "reset_prefix_cache"])
async def test_a_user_key_is_forbidden_to_change_models(serve: Any, action: str) -> None:
    served = await serve(**KEYS)
    headers = {"authorization": "Bearer user-1"}
    answer = await served.client.post(f"/v1/models/tiny/{action}", headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["type"] == "permission_error"
    assert answer.json()["error"]["code"] == "insufficient_scope"
    assert served.model.status.state.value == "ready"


async def test_a_body_is_not_read_before_the_key_is_checked(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "LINGER", 0.1)
    served = await serve(**KEYS, body_timeout=5, header_timeout=0.4)
    reply = await served.raw(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
        b"Connection: close\r\n\r\n"
    )
    assert reply.startswith(b"HTTP/1.1 401")


async def test_a_request_waits_for_its_turn_in_the_name_of_its_key(
    serve: Any, tmp_path: Path
) -> None:
    file = tmp_path / "keys.toml"
    file.write_text('[alice]\nkey = "a"\npriority = -2\n[bob]\nkey = "b"\n')
    served = await serve(keys_file=str(file))
    served.client.headers["authorization"] = "Bearer a"
    await served.chat()
    assert served.model.claims == [Claim(tenant="alice", priority=-2, shared=True)]


async def test_a_single_key_shares_with_nobody(serve: Any) -> None:
    served = await serve(api_key="only")
    served.client.headers["authorization"] = "Bearer only"
    await served.chat()
    (claim,) = served.model.claims
    assert claim.tenant
    assert not claim.shared

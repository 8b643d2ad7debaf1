from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from jarvis_core import SettingError
from jarvis_core.settings.keys import KeyConfig, read_keys


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def test_a_key_has_a_name_and_limits_and_only_its_hash_is_kept(keys_file):
    keys_file.write_text(
        '[alice]\nkey = "sk-a"\nmax_concurrency = 4\ntokens_per_minute = 9000\npriority = -1\n'
        '[root]\nkey = "sk-r"\nscope = "admin"\n'
    )
    alice, root = read_keys(keys_file)
    assert alice == KeyConfig(
        name="alice",
        digest=sha256(b"sk-a").digest(),
        max_concurrency=4,
        tokens_per_minute=9000,
        priority=-1,
    )
    assert root.admin
    assert "sk-a" not in repr(alice)


def test_a_key_may_be_given_by_its_hash(keys_file):
    keys_file.write_text(f'[alice]\nsha256 = "{sha256(b"sk-a").hexdigest()}"\n')
    (alice,) = read_keys(keys_file)
    assert alice.digest == sha256(b"sk-a").digest()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[alice]\n", r"\[alice\]: needs either key or sha256"),
        ('[alice]\nkey = " "\n', "needs either key or sha256"),
        (f'[alice]\nkey = "a"\nsha256 = "{"0" * 64}"\n', "needs either key or sha256"),
        ('[alice]\nsha256 = "0000"\n', "sha256 must be 64 hexadecimal digits"),
        ('alice = "sk-a"\n', r"\[alice\]: must be a table with a key"),
        ('[alice]\nkey = "a"\nscop = "user"\n', "scop"),
        ('[alice]\nkey = "a"\nscope = "root"\n', "one of: user, admin"),
        ('[alice]\nkey = "a"\nmax_concurrency = 0\n', "max_concurrency"),
        ('[a]\nkey = "k"\n[b]\nkey = "k"\n', r"\[a\] and \[b\] are the same key"),
        ("[alice\n", "not valid TOML"),
    ],
)
def test_what_makes_no_sense_is_refused(keys_file, text, message):
    keys_file.write_text(text)
    with pytest.raises(SettingError, match=message) as caught:
        read_keys(keys_file)
    assert "sk-a" not in caught.value.message


def test_a_file_that_is_not_there_stops_the_start(load, tmp_path):
    with pytest.raises(SettingError, match="JARVIS_KEYS_FILE: there is no file"):
        load(env={"JARVIS_KEYS_FILE": str(tmp_path / "none.toml")})


def test_a_keys_file_lets_the_server_be_reachable(load, keys_file):
    keys_file.write_text('[alice]\nkey = "sk-a"\n')
    settings = load(env={"JARVIS_KEYS_FILE": str(keys_file), "JARVIS_HOST": "0.0.0.0"})
    assert settings.server.host == "0.0.0.0"

"""API keys: those of the variables, and the named ones of a file, each with its limits."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

from attrs import frozen

from jarvis_core.errors import SettingError
from jarvis_core.settings.fields import setting
from jarvis_core.settings.sources import read_toml
from jarvis_core.settings.structuring import structure_settings

_HEX = re.compile(r"[0-9a-fA-F]{64}")


@frozen(kw_only=True)
class KeyConfig:
    """What one key may do; of the key itself only its hash is kept.

    Attributes:
        name: As the file calls it; a key of a variable has the beginning of its hash.
        named: Whether its name is the operator's, who finds it in the log.
        digest: SHA-256 of the key.
        admin: Whether it may load, unload and put to sleep models too.
        max_concurrency: Requests that may be answered at the same time; None is any number.
        tokens_per_minute: Tokens of prompts and completions; None is any number.
        priority: Smaller is sooner than the requests of other keys.
    """

    name: str
    digest: bytes
    named: bool = True
    admin: bool = False
    max_concurrency: int | None = None
    tokens_per_minute: int | None = None
    priority: int = 0


@frozen(kw_only=True)
class KeySection:
    """One key in the keys file: the table ``[<name>]``."""

    key: str = setting(default="", secret=True, help="The key")
    sha256: str = setting(default="", help="SHA-256 of the key in hex, instead of the key itself")
    scope: str = setting(
        default="user",
        choices=("user", "admin"),
        help="admin may change what is loaded",
    )
    max_concurrency: int | None = setting(
        default=None, ge=1, help="Requests that may be answered at the same time"
    )
    tokens_per_minute: int | None = setting(
        default=None, ge=1, help="Tokens of prompts and completions per minute"
    )
    priority: int = setting(
        default=0, ge=-100, le=100, help="Smaller is sooner than the requests of other keys"
    )


def digest_of(key: str) -> bytes:
    """SHA-256 of a key."""
    return sha256(key.encode(errors="surrogateescape")).digest()


def split_keys(text: str) -> tuple[str, ...]:
    """The keys in ``api_key`` or ``admin_api_key``."""
    return tuple(key for part in text.split(",") if (key := part.strip()))


def key_of_variable(key: str, *, admin: bool) -> KeyConfig:
    """A key without a name or limits of its own."""
    digest = digest_of(key)
    return KeyConfig(name=f"key-{digest.hex()[:12]}", digest=digest, named=False, admin=admin)


def read_keys(path: Path) -> tuple[KeyConfig, ...]:
    """The keys of a file.

    Raises:
        SettingError: It is not there, cannot be read, or says what is not allowed.
    """
    if not path.is_file():
        raise SettingError(f"JARVIS_KEYS_FILE: there is no file {path}")
    keys: dict[bytes, KeyConfig] = {}
    for name, values in read_toml(path).items():
        key = _key_of_section(name, values, where=f"{path} [{name}]")
        if key.digest in keys:
            raise SettingError(f"{path}: [{keys[key.digest].name}] and [{name}] are the same key")
        keys[key.digest] = key
    return tuple(keys.values())


def _key_of_section(name: str, values: object, *, where: str) -> KeyConfig:
    if not isinstance(values, dict):
        raise SettingError(f"{where}: must be a table with a key")
    section: KeySection = structure_settings(KeySection, values, where=where)
    if bool(section.key.strip()) == bool(section.sha256):
        raise SettingError(f"{where}: needs either key or sha256")
    if section.sha256 and not _HEX.fullmatch(section.sha256):
        raise SettingError(f"{where}: sha256 must be 64 hexadecimal digits")
    hashed = bytes.fromhex(section.sha256) if section.sha256 else digest_of(section.key.strip())
    return KeyConfig(
        name=name,
        digest=hashed,
        admin=section.scope == "admin",
        max_concurrency=section.max_concurrency,
        tokens_per_minute=section.tokens_per_minute,
        priority=section.priority,
    )

"""API keys: who asks, and what they may do."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Sequence
from enum import IntEnum
from pathlib import Path

import structlog
from attrs import frozen

from jarvis_core.errors import InvalidApiKey, PermissionDenied, SettingError
from jarvis_core.settings import ServerSettings
from jarvis_core.settings.keys import (
    KeyConfig,
    digest_of,
    key_of_variable,
    read_keys,
    split_keys,
)

LOOK_AGAIN = 1.0
"""Seconds after which the keys file is looked at again."""

_log = structlog.get_logger("jarvis.keys")


class Scope(IntEnum):
    """What a route asks of a key; a greater scope contains the smaller ones."""

    OPEN = 0
    USER = 1
    ADMIN = 2


@frozen(kw_only=True)
class Caller:
    """Who sent a request.

    Attributes:
        key: The key that it came with; None where the server has no keys, or the route needs none.
    """

    key: KeyConfig | None = None

    @property
    def tenant(self) -> str | None:
        """Whose prefixes, stored answers and turns these are; None where all are everybody's."""
        return None if self.key is None else self.key.name


ANYBODY = Caller()


class Keyring:
    """The keys that the operator configured. Without any, everybody may do everything.

    Args:
        settings: Where the keys are.
        clock: Seconds that only grow.
    """

    def __init__(
        self, settings: ServerSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._of_variables = [
            *(key_of_variable(key, admin=False) for key in split_keys(settings.api_key)),
            *(key_of_variable(key, admin=True) for key in split_keys(settings.admin_api_key)),
        ]
        self._file = _KeysFile(Path(settings.keys_file), clock) if settings.keys_file else None

    @property
    def in_use(self) -> bool:
        """Whether requests need a key."""
        return bool(self._of_variables) or self._file is not None

    @property
    def shared(self) -> bool:
        """Whether there are several keys."""
        return len(self.keys()) > 1

    def keys(self) -> Sequence[KeyConfig]:
        """Every key that is known now."""
        return [*self._of_variables, *(self._file.keys() if self._file else ())]

    def admit(self, authorization: str, needed: Scope) -> Caller:
        """Let a request pass, or raise.

        Args:
            authorization: The request's header of that name, empty if it has none.
            needed: What the route asks for.

        Raises:
            InvalidApiKey: No key, or one that is not configured.
            PermissionDenied: The key may not do this.
        """
        if needed is Scope.OPEN or not self.in_use:
            return ANYBODY
        scheme, _, text = authorization.partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            raise InvalidApiKey(
                "no API key: send the header 'Authorization: Bearer KEY' "
                "with one of the keys that this server was given"
            )
        key = self._find(text.strip())
        if key is None:
            # OpenAI's first words: LiteLLM knows this error by them, and not by its status.
            raise InvalidApiKey(
                "Incorrect API key provided: it is not one of those that this server was given"
            )
        if needed is Scope.ADMIN and not key.admin:
            raise PermissionDenied(
                "this API key may not do that: it takes a key of JARVIS_ADMIN_API_KEY, or one "
                "with scope admin"
            )
        return Caller(key=key)

    def _find(self, text: str) -> KeyConfig | None:
        """The key of that text; takes equally long whichever key it is."""
        digest, found = digest_of(text), None
        for key in self.keys():
            if hmac.compare_digest(key.digest, digest) and (found is None or key.admin):
                found = key
        return found


class _KeysFile:
    """The keys file, read again when it has changed."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._stamp = self._read_stamp()
        self._keys = read_keys(path)
        self._looked = clock()

    def keys(self) -> tuple[KeyConfig, ...]:
        """The keys; those of before where the file cannot be read any more."""
        if self._clock() - self._looked >= LOOK_AGAIN:
            self._looked = self._clock()
            stamp = self._read_stamp()
            if stamp != self._stamp:
                self._stamp = stamp
                self._reread()
        return self._keys

    def _reread(self) -> None:
        try:
            self._keys = read_keys(self._path)
        except SettingError as error:
            _log.error("the keys file is not used as it is now", reason=error.message)
        else:
            _log.info("the keys file was read again", keys=len(self._keys))

    def _read_stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

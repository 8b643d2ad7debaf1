"""API keys: who may do what."""

from __future__ import annotations

import hmac
from enum import IntEnum
from hashlib import sha256

from jarvis_core.errors import InvalidApiKey, PermissionDenied
from jarvis_core.settings import ServerSettings
from jarvis_core.settings.server import split_keys


class Scope(IntEnum):
    """What a route asks of a key; a greater scope contains the smaller ones."""

    OPEN = 0
    USER = 1
    ADMIN = 2


class Keyring:
    """The keys that the operator configured. Without any, everybody may do everything."""

    def __init__(self, settings: ServerSettings) -> None:
        self._keys = tuple(
            (_digest(key), scope)
            for scope, keys in (
                (Scope.USER, settings.api_key),
                (Scope.ADMIN, settings.admin_api_key),
            )
            for key in split_keys(keys)
        )

    def admit(self, authorization: str, needed: Scope) -> None:
        """Let a request pass, or raise.

        Args:
            authorization: The request's header of that name, empty if it has none.
            needed: What the route asks for.

        Raises:
            InvalidApiKey: No key, or one that is not configured.
            PermissionDenied: The key may not do this.
        """
        if needed is Scope.OPEN or not self._keys:
            return
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise InvalidApiKey(
                "no API key: send the header 'Authorization: Bearer KEY' "
                "with one of the keys that this server was given"
            )
        granted = self._scope_of(key.strip())
        if granted is Scope.OPEN:
            raise InvalidApiKey("this API key is not one of those that this server was given")
        if granted < needed:
            raise PermissionDenied(
                "this API key may not do that: it takes a key of JARVIS_ADMIN_API_KEY"
            )

    def _scope_of(self, key: str) -> Scope:
        """The greatest scope of a key; takes equally long whichever key it is."""
        digest, found = _digest(key), Scope.OPEN
        for known, scope in self._keys:
            found = max(found, Scope(scope * hmac.compare_digest(known, digest)))
        return found


def _digest(key: str) -> bytes:
    return sha256(key.encode(errors="surrogateescape")).digest()

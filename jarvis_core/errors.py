"""The one error tree. A branch says who must act.

::

    JarvisError
    ├── ConfigError                 the operator: the start fails with exit code 2
    │   ├── SettingError            a bad value of a setting
    │   ├── PluginError             an engine or format that is missing, broken or there twice
    │   └── ModelSourceError        weights that are missing or cannot be loaded
    ├── RequestError            400 the client
    │   ├── UnsupportedParameter    known, but not to this model's engine
    │   ├── ContextLengthExceeded   the prompt does not fit
    │   ├── InvalidApiKey       401
    │   ├── PermissionDenied    403
    │   ├── ModelNotFound       404
    │   ├── NotFound            404
    │   ├── MethodNotAllowed    405
    │   ├── SlowRequest         408
    │   ├── StateConflict       409
    │   ├── BodyTooLarge        413
    │   ├── PoisonRequest       422
    │   └── RateLimited         429
    └── EngineError             500 the server
        ├── EngineDied          503 its host ended; it is being replaced
        ├── ModelUnavailable    503 loading, failed, draining
        ├── QueueFull           503
        ├── DeadlineExceeded    504
        └── InsufficientMemory  507

Anything else that is raised is a bug: a traceback in the log, 500 without detail for the client.
Errors cross from an engine host to the server as ``to_wire()`` and come back by ``from_wire()``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self


class JarvisError(Exception):
    """An error with a message for people: what, where, what to do.

    Attributes:
        message: The text. No traceback, no address, nothing that a user wrote.
        param: The field of the request that is at fault, as ``messages[1].content``.
        retry_after: Seconds after which trying again makes sense.
    """

    status_code: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None

    def __init__(
        self, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after

    def with_message(self, message: str) -> Self:
        """The same error with another message."""
        return type(self)(message, param=self.param, retry_after=self.retry_after)

    def to_wire(self) -> dict[str, Any]:
        """The error as plain values, for a frame of the host protocol."""
        return {
            "class": _nearest_class(type(self)).__name__,
            "message": self.message,
            "param": self.param,
            "retry_after": self.retry_after,
        }


class ConfigError(JarvisError):
    """Something that only the operator can change. Over HTTP: a model that cannot be loaded."""

    status_code = 409
    type = "invalid_request_error"
    code = "model_load_failed"


class SettingError(ConfigError):
    """A setting whose value is not allowed; the message names setting, value, origin, allowed."""


class PluginError(ConfigError):
    """An engine or chat format that is not installed, broken, or registered twice."""


class ModelSourceError(ConfigError):
    """Weights that are missing, truncated, or not what the engine loads."""


class RequestError(JarvisError):
    """The request is at fault; sending it again unchanged cannot help."""

    status_code = 400
    type = "invalid_request_error"


class UnsupportedParameter(RequestError):
    """A parameter that Jarvis knows and this model's engine cannot honour."""

    code = "unsupported_parameter"


class ContextLengthExceeded(RequestError):
    """Prompt and wanted completion do not fit; the message has both numbers."""

    code = "context_length_exceeded"


class InvalidApiKey(RequestError):
    """No key, or one that is not known."""

    status_code = 401
    code = "invalid_api_key"


class PermissionDenied(RequestError):
    """The key is known but not for this."""

    status_code = 403
    type = "permission_error"
    code = "insufficient_scope"


class ModelNotFound(RequestError):
    """No model of that name is configured."""

    status_code = 404
    code = "model_not_found"


class NotFound(RequestError):
    """No such path."""

    status_code = 404
    code = "not_found"


class MethodNotAllowed(RequestError):
    """The path exists, the method does not."""

    status_code = 405
    code = "method_not_allowed"


class SlowRequest(RequestError):
    """The request did not arrive in time."""

    status_code = 408
    code = "request_timeout"


class StateConflict(RequestError):
    """What was asked does not fit the state that the model is in."""

    status_code = 409
    code = "conflict"


class BodyTooLarge(RequestError):
    """The body is over the limit."""

    status_code = 413
    code = "body_too_large"


class PoisonRequest(RequestError):
    """A request that ended an engine host on its own, sent again."""

    status_code = 422
    code = "poison_request"


class RateLimited(RequestError):
    """The key's own quota is used up."""

    status_code = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class EngineError(JarvisError):
    """The server or its engine failed; the request may be right."""

    code = "engine_error"


class EngineDied(EngineError):
    """The engine host ended while it held the request."""

    status_code = 503
    code = "engine_died"


class ModelUnavailable(EngineError):
    """The model exists but cannot answer now."""

    status_code = 503
    code = "model_unavailable"


class QueueFull(EngineError):
    """More requests are waiting than may."""

    status_code = 503
    code = "queue_full"


class DeadlineExceeded(EngineError):
    """The request's time is over."""

    status_code = 504
    code = "deadline_exceeded"


class InsufficientMemory(EngineError):
    """The model does not fit in memory; the message has the numbers."""

    status_code = 507
    code = "insufficient_memory"


def _tree(root: type[JarvisError]) -> Iterator[type[JarvisError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == __name__:
            yield from _tree(child)


_BY_NAME: Mapping[str, type[JarvisError]] = {cls.__name__: cls for cls in _tree(JarvisError)}


def _nearest_class(cls: type[JarvisError]) -> type[JarvisError]:
    """The class itself, or for a plugin's own error the first of its bases that is in this tree."""
    return next(base for base in cls.__mro__ if _BY_NAME.get(base.__name__) is base)


def from_wire(wire: Mapping[str, Any]) -> JarvisError:
    """Rebuild an error from ``to_wire()``; a plugin's own subclass comes back as its base here."""
    cls = _BY_NAME.get(wire["class"], EngineError)
    return cls(wire["message"], param=wire.get("param"), retry_after=wire.get("retry_after"))

"""What happens to models, told to whoever watches the server: the terminal, a log."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

EventKind = Literal["listening", "loading", "downloading", "ready", "failed", "stopping"]


@frozen(kw_only=True)
class ModelEvent:
    """One step in the life of a model or of the server that serves it.

    Attributes:
        kind: ``listening``: the server accepts connections at the address in ``message``;
            ``stopping``: the server drains. The others concern ``model``.
        model: Name of the model; empty for ``listening`` and ``stopping``.
        engine: Name of its engine type.
        message: The address, why it failed, or what is being done.
        done_bytes: Bytes downloaded so far.
        total_bytes: Bytes to download, None where the hub does not say.
        seconds: Seconds that the step took, for ``ready`` and ``failed``.
    """

    kind: EventKind
    model: str = ""
    engine: str = ""
    message: str = ""
    done_bytes: int | None = None
    total_bytes: int | None = None
    seconds: float | None = None

"""Tells the terminal what the server is doing, in plain lines."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from jarvis_core.models.events import ModelEvent
from jarvis_core.settings import ModelConfig, Settings
from jarvis_core.settings.server import needs_key

QUESTION = "How do plants make food?"
_DOWNLOAD_INTERVAL = 2.0
"""Seconds between two lines about one download."""


class Announcer:
    """Prints a line for each event, and the address with a line to try once all is ready.

    Args:
        settings: What is being served.
        out: Where to print; standard output by default.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._out = out or sys.stdout
        self._clock = clock
        self._address = ""
        self._waiting = {m.name for m in settings.models.values() if m.preload}
        self._failed: set[str] = set()
        self._downloads: dict[str, float] = {}
        self._invited = False

    def __call__(self, event: ModelEvent) -> None:
        """Tell about an event."""
        match event.kind:
            case "listening":
                self._address = event.message
            case "loading":
                source = "" if event.message == event.model else event.message
                self._print(_sentence(f"loading {event.model} with {event.engine}", source))
            case "downloading":
                self._download(event)
            case "ready":
                self._settle(event, f"{event.model} is ready{_particulars(event)}", failed=False)
            case "failed":
                text = f"{event.model} cannot be loaded: {event.message}"
                self._settle(event, text, failed=True)
            case "stopping":
                self._print(_sentence("stopping", event.message))
        if self._address and not self._waiting and not self._invited:
            self._invited = True
            self._invite()

    def _settle(self, event: ModelEvent, text: str, *, failed: bool) -> None:
        self._downloads.pop(event.model, None)
        self._waiting.discard(event.model)
        (self._failed.add if failed else self._failed.discard)(event.model)
        self._print(text)

    def _download(self, event: ModelEvent) -> None:
        done, total = event.done_bytes or 0, event.total_bytes
        due = self._downloads.get(event.model, 0.0)
        now = self._clock()
        if event.model in self._downloads and now < due and done != total:
            return
        self._downloads[event.model] = now + _DOWNLOAD_INTERVAL
        self._print(_sentence(f"downloading {event.model}: {_amount(done, total)}", event.message))

    def _invite(self) -> None:
        address = _reachable(self._address)
        models = self._settings.models.values()
        usable = [model for model in models if model.name not in self._failed]
        if not usable:
            self._print(f"Listening at {address}, but no model could be loaded.")
            return
        ready = [model for model in usable if model.preload]
        first = (ready or usable)[0]
        width = max(len(model.name) for model in models)
        self._print(
            "\n".join(
                [
                    "",
                    f"Jarvis is ready at {address}",
                    "",
                    *(f"  {m.name:<{width}}  {m.engine}{self._state(m)}" for m in models),
                    "",
                    "Try it:",
                    "",
                    f"  {curl_line(address, first.name, key=needs_key(self._settings.server))}",
                    "",
                    f"What else there is: {address}/docs",
                    "",
                    "Ctrl-C ends it.",
                    "",
                ]
            )
        )

    def _state(self, model: ModelConfig) -> str:
        if model.name in self._failed:
            return ", could not be loaded"
        return "" if model.preload else ", loads on the first request"

    def _print(self, text: str) -> None:
        encoding = getattr(self._out, "encoding", None) or "utf-8"
        printable = text.encode(encoding, "backslashreplace").decode(encoding)
        with suppress(OSError, ValueError):  # the terminal is gone; the server serves on
            print(printable, file=self._out, flush=True)


def curl_line(address: str, model: str, *, key: bool) -> str:
    """A shell command that asks a question.

    Args:
        address: ``http://127.0.0.1:8000``.
        model: Name of the model.
        key: Whether the server wants an API key.
    """
    body = json.dumps(
        {"model": model, "messages": [{"role": "user", "content": QUESTION}]}, ensure_ascii=False
    )
    header = ' -H "Authorization: Bearer YOUR_API_KEY"' if key else ""
    return f"curl {address}/v1/chat/completions{header} -d {shlex.quote(body)}"


def _reachable(address: str) -> str:
    """An address to connect to: one that means every interface is replaced by this machine's."""
    return address.replace("//0.0.0.0", "//127.0.0.1").replace("//[::]", "//[::1]")


def _sentence(text: str, detail: str) -> str:
    return f"{text} ({detail}) ..." if detail else f"{text} ..."


def _particulars(event: ModelEvent) -> str:
    """How long it took and what else is said about it, in brackets."""
    took = "" if event.seconds is None else f"{event.seconds:.1f} s"
    known = [text for text in (took, event.message) if text]
    return f" ({', '.join(known)})" if known else ""


def _amount(done: int, total: int | None) -> str:
    if not total:
        return f"{done / 1e6:,.0f} MB"
    return f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB ({100 * done // total} %)"

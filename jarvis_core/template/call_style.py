"""How the models of a family write calls of tools, and how such calls are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from attrs import frozen

from jarvis_core.grammar import CallSyntax, calls_are_constrained
from jarvis_core.interfaces import DeltaParser
from jarvis_core.parsing import Call, CallParser
from jarvis_core.scanning import Cursor, Scan
from jarvis_core.structs import ChatRequest

Scanner = Callable[[Cursor, str], Scan[Sequence[Call]]]


@frozen(kw_only=True)
class CallStyle:
    """One way to write calls.

    Attributes:
        needs: Texts that a template holds whose model writes so.
        lacks: Texts that it does not hold.
        syntax: How calls are written; its marker is what begins one.
        scan: Reads calls after the marker.
        scan_for: Gives what reads them, also if a grammar made them, where it takes the request to
            read them.
        tags: Further markers.
        bare: Characters that begin a call without a marker where an answer begins.
        ending: A marker that may stand behind the last call and means nothing there.
        make_id: Makes the identifier of a call, where the templates print no other: of a request,
            the place of the call in the answer, and its name.
    """

    needs: tuple[str, ...]
    syntax: CallSyntax
    scan: Scanner | None = None
    scan_for: Callable[[ChatRequest], Scanner] | None = None
    lacks: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    bare: str = ""
    ending: str = ""
    make_id: Callable[[ChatRequest, int, str], str] | None = None

    def fits(self, template: str) -> bool:
        """Whether the model of a template writes so."""
        template = template.replace("\\n", "\n")  # as it stands in strings of Jinja
        return all(text in template for text in self.needs) and not any(
            text in template for text in self.lacks
        )

    def parser(self, request: ChatRequest) -> DeltaParser:
        """A parser of one answer."""
        return CallParser(
            self._scan(request),
            markers=[m for m in (self.syntax.marker, *self.tags) if m],
            bare=self.bare,
            ending=self.ending,
            make_id=partial(self.make_id, request) if self.make_id else None,
        )

    def _scan(self, request: ChatRequest) -> Scanner:
        if self.scan_for is not None:
            return self.scan_for(request)
        if self.scan is None or calls_are_constrained(request):
            return self.syntax.scan
        return self.scan

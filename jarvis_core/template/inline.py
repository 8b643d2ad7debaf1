"""Renders in the engine host what is certain to take little time and memory.

The way to the process and back takes longer than most renderings. So a template that the process
has rendered is prepared here too: rewritten so that it pays for what it does, and compiled. It has
plain values within its reach and the operations of a meter, nothing else. A rendering that could
cost much, and every one that fails, is left to the process, which judges it by its own limits.
"""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Any

from jinja2.environment import Template
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import Namespace

from jarvis_core.template.meter import GiveUpError, Meter, is_key
from jarvis_core.template.process import options, raise_exception
from jarvis_core.template.rewriting import DICT_NAMES, FUNCTIONS, TESTS, rewrite

BUDGET = 500_000
"""Units of one rendering; a unit is up to 35 ns and some 20 bytes, mostly far less."""
SOURCE_LIMIT = 32 << 10
"""Characters of a template; those of publishers have up to 17,000."""
KNOWN_LIMIT = 8
"""Templates that are kept."""
CALLS_LIMIT = 32
"""Calls of macros in one another."""


class InlineRenderer:
    """Renders templates that it has learnt, or leaves them to the process.

    It may be used from several threads. It never waits: the process may be free.
    """

    def __init__(self, *, budget: int = BUDGET) -> None:
        """Know no template yet."""
        self._budget = budget
        self._lock = threading.Lock()
        self._meter = Meter()
        self._environment = _Environment(self._meter)
        self._known: dict[str, Template | None] = {}

    def learn(self, source: str) -> None:
        """Prepare a template, if it is one that may be rendered here."""
        with self._lock:
            if source in self._known:
                return
            while len(self._known) >= KNOWN_LIMIT:
                del self._known[next(iter(self._known))]
            try:
                self._known[source] = self._environment.prepared(source)
            except Exception:  # whatever is wrong with it, the process says so
                self._known[source] = None

    def render(self, source: str, variables: dict[str, Any], *, now: str) -> str | None:
        """The rendered text; None if it is for the process to render.

        Args:
            source: The template.
            variables: What it may use; plain JSON values.
            now: The clock, in ISO format, for ``strftime_now``.
        """
        template = self._known.get(source)
        if template is None or not self._lock.acquire(blocking=False):
            return None
        self._meter.left = self._budget
        try:
            clock = datetime.fromisoformat(now)
            given = {**template.globals, **variables, "strftime_now": clock.strftime}
            context = Context(self._environment, given, None, {})
            return self._meter.concat(template.root_render_func(context))
        except Exception:  # what counts is what the process says
            return None
        finally:
            self._meter.left = 0
            self._lock.release()


class _Environment(SandboxedEnvironment):
    """Where templates have plain values and what a meter lets them do, and nothing else."""

    def __init__(self, meter: Meter) -> None:
        super().__init__(**options(), optimized=False)  # nothing is computed when one is compiled
        self._calls = 0  # in one another
        self.concat = meter.concat  # type: ignore[method-assign]
        self.filters = meter.operations
        self.tests = {name: self.tests[name] for name in TESTS}
        self.globals["raise_exception"] = raise_exception

    def prepared(self, source: str) -> Template:
        """A template, rewritten and compiled.

        Raises:
            GiveUpError: It holds what is not known here.
        """
        if len(source) > SOURCE_LIMIT:
            raise GiveUpError
        names = {*self.globals, *FUNCTIONS}
        tree = rewrite(self.parse(source), operations=self.filters, names=names)
        return Template.from_code(self, self.compile(tree), self.globals)

    def call(self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """What a macro prints, or one of the functions that are let in."""
        if self._calls >= CALLS_LIMIT:
            raise GiveUpError
        self._calls += 1
        try:
            return super().call(__context, __obj, *args, **kwargs)
        finally:
            self._calls -= 1

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A value of a dict, a namespace or a loop; never a method."""
        if type(obj) is dict:
            if attribute in obj and attribute not in DICT_NAMES:
                return obj[attribute]
        elif type(obj) is Namespace or type(obj) is LoopContext:
            try:
                return getattr(obj, attribute)
            except AttributeError:
                return self.undefined(obj=obj, name=attribute)
        if hasattr(obj, attribute):  # or it is undefined, and says so
            raise GiveUpError
        return self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """An item; never an attribute."""
        if not is_key(argument):
            raise GiveUpError
        try:
            return obj[argument]
        except (TypeError, LookupError):
            if isinstance(argument, str) and hasattr(obj, argument):
                raise GiveUpError from None
        return self.undefined(obj=obj, name=argument)

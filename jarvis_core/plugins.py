"""Plugins: entry points of the group ``jarvis``, loaded one by one into a registry.

A plugin that cannot be imported, names a hook that does not exist, or fails in a hook is
quarantined: it is reported, and everything else works. pluggy's own loader is not used because it
stops at the first plugin that fails.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from importlib.metadata import Distribution, EntryPoint, entry_points, version
from typing import Any

import pluggy
from attrs import evolve, field, frozen

from jarvis_core.errors import PluginError
from jarvis_core.hookspecs import PROJECT, hookimpl
from jarvis_core.interfaces import ChatFormat, EngineType
from jarvis_core.probe import fault, new_manager, probe
from jarvis_core.structs import ModelInfo

GROUP = "jarvis"
MODULES_VARIABLE = "JARVIS_PLUGINS"
"""Names modules, separated by commas, that are plugins without being installed as such."""

_log = logging.getLogger(__name__)

CORE = "core"
"""Name of the plugin that the core is to itself."""


@frozen(kw_only=True)
class PluginReport:
    """What one plugin brought, or why it is broken.

    Attributes:
        name: Name of its entry point.
        distribution: What pip installed it as.
        version: Version of the distribution.
        engines: Names of its engine types.
        chat_formats: Names of its chat formats.
        error: Why it was quarantined, None if it works.
    """

    name: str
    distribution: str
    version: str
    engines: tuple[str, ...] = ()
    chat_formats: tuple[str, ...] = ()
    error: str | None = None


@frozen(kw_only=True)
class Registry:
    """Everything that plugins brought.

    Attributes:
        engines: Engine types by name.
        chat_formats: Chat formats by name.
        plugins: One report for each plugin, the core's own first.
    """

    engines: Mapping[str, EngineType] = field(factory=dict)
    chat_formats: Mapping[str, ChatFormat] = field(factory=dict)
    plugins: tuple[PluginReport, ...] = ()
    _manager: pluggy.PluginManager = field(factory=lambda: pluggy.PluginManager(PROJECT))

    @property
    def broken(self) -> tuple[PluginReport, ...]:
        """The plugins that were quarantined."""
        return tuple(p for p in self.plugins if p.error)

    def engine(self, name: str) -> EngineType:
        """The engine type of that name.

        Raises:
            PluginError: There is none; the message says what to install and what there is.
        """
        if name in self.engines:
            return self.engines[name]
        raise PluginError(missing_engine(name, self.engines, self.broken))

    def chat_format(self, name: str) -> ChatFormat:
        """The chat format of that name, in any spelling: ``llama-3`` is ``llama3``.

        A format is found by its ``aliases`` too, if it has any and no name is meant.

        Raises:
            PluginError: There is none; the message lists those that there are.
        """
        if name in self.chat_formats:
            return self.chat_formats[name]
        meant = _letters(name)
        for names in (lambda f: (f.name,), _aliases):
            found = [f for f in self.chat_formats.values() if meant in map(_letters, names(f))]
            if len(found) == 1:
                return found[0]
        known = ", ".join(["auto", *sorted(self.chat_formats)])
        raise PluginError(
            f"chat format {name!r} does not exist; there are: {known}{_broken_hint(self.broken)}"
        )

    def detect_chat_format(self, model: ModelInfo) -> Detection:
        """The format that fits a loaded model; ``template`` where no plugin knows."""
        for impl in reversed(self._manager.hook.jarvis_detect_chat_format.get_hookimpls()):
            name = _detect(impl, model)
            if name is None or impl.plugin_name == CORE:
                continue
            if isinstance(name, str) and name in self.chat_formats:
                if lacking := self._media_lacking(name, model):
                    return Detection(
                        name="template",
                        reason=f"its own chat template has a place for {lacking}, which format "
                        f"{name!r} has not",
                    )
                named = _detect(impl, evolve(model, chat_template=None)) == name
                by = "name and special tokens" if named else "chat template"
                return Detection(
                    name=name, reason=f"plugin {impl.plugin_name} knows the model by its {by}"
                )
            _log.warning("plugin %s detected the unknown format %r", impl.plugin_name, name)
        has = "prints its own chat template" if model.chat_template else "has no chat template"
        return Detection(name="template", reason=f"no plugin knows the model, which {has}")

    def _media_lacking(self, name: str, model: ModelInfo) -> str:
        """What the model's own template has a place for, and the format of that name has not."""
        own = media_of(self.chat_formats["template"], model)
        return ", ".join(sorted(own - media_of(self.chat_formats[name], model)))


def _detect(impl: pluggy.HookImpl, model: ModelInfo) -> Any:
    """What one plugin says; a plugin that fails says nothing."""
    try:
        name: Any = impl.function(*[model][: len(impl.argnames)])  # a hook may take less
    except Exception:
        _log.exception("plugin %s failed to detect a chat format", impl.plugin_name)
        return None
    return name


@frozen(kw_only=True)
class Detection:
    """Which chat format fits a model.

    Attributes:
        name: Its name.
        reason: Why it does, for people.
    """

    name: str
    reason: str


def media_of(chat_format: ChatFormat, model: ModelInfo) -> frozenset[str]:
    """Kinds of parts that a model understands and that a chat format has a place for."""
    kinds = getattr(chat_format, "media", None)
    return model.capabilities.media & frozenset(() if kinds is None else kinds(model))


def _letters(name: str) -> str:
    """What spellings of a name have in common."""
    return re.sub(r"[-_. ]", "", name).lower()


def _aliases(chat_format: ChatFormat) -> Iterable[str]:
    return getattr(chat_format, "aliases", ())


def missing_engine(
    name: str, engines: Mapping[str, EngineType], broken: Iterable[PluginReport] = ()
) -> str:
    """The message for an engine that is not there, the same wherever it is missed."""
    meant = get_close_matches(name.lower(), list(engines), n=1, cutoff=0.7)
    # Of a misspelt name there is no package, or somebody else's.
    package = f"jarvis-{name.replace('_', '')}"
    advice = f"; did you mean {meant[0]}?" if meant else f": pip install {package}"
    there = ", ".join(sorted(engines)) or "none"
    return (
        f"engine {name!r} is not installed{advice} (installed engines: {there})"
        f"{_broken_hint(broken)}"
    )


def _broken_hint(broken: Iterable[PluginReport]) -> str:
    return "".join(f"; plugin {p.name!r} ({p.distribution}) is broken: {p.error}" for p in broken)


class _CorePlugin:
    """What the core brings, through the same hooks as everyone."""

    @hookimpl
    def jarvis_register_chat_formats(self) -> Iterable[ChatFormat]:
        from jarvis_core.template import TemplateFormat

        return [TemplateFormat()]

    @hookimpl(trylast=True)
    def jarvis_detect_chat_format(self, model: ModelInfo) -> str | None:
        return "template"


def load_plugins(points: Iterable[EntryPoint] | None = None) -> Registry:
    """Load every plugin.

    Args:
        points: Entry points to load instead of those that are installed, for tests.

    Raises:
        PluginError: Two plugins have one name, or brought an engine type or a chat format of one.
    """
    loader = _Loader()
    loader.add(CORE, "jarvis_core", _CorePlugin, "jarvis-core", version("jarvis-core"))
    found = entry_points(group=GROUP) if points is None else points
    for point in sorted(found, key=lambda p: p.name):
        dist = point.dist
        installed = (dist.name, dist.version, _wants(dist)) if dist else ("unknown",)
        loader.add(point.name, point.value, point.load, *installed)
    for module in map(str.strip, os.environ.get(MODULES_VARIABLE, "").split(",")):
        if module:
            loader.add(module, module, partial(import_module, module), MODULES_VARIABLE)
    return loader.registry()


def _wants(dist: Distribution) -> str:
    """Which core a distribution was made for, for the report of one that does not work."""
    wanted = [r for r in dist.requires or () if re.match(r"jarvis[-_.]core\b", r, re.IGNORECASE)]
    return f"; it wants {wanted[0]}, and {version('jarvis-core')} is here" if wanted else ""


class _Loader:
    """Collects plugins; each is tried in a manager of its own before it joins the shared one."""

    def __init__(self) -> None:
        self._manager = new_manager()
        self._engines: dict[str, EngineType] = {}
        self._formats: dict[str, ChatFormat] = {}
        self._modules: dict[str, str] = {}
        self._owner: dict[tuple[str, str], str] = {}
        self._reports: list[PluginReport] = []

    def add(
        self,
        name: str,
        module: str,
        load: Callable[[], Any],
        distribution: str,
        version: str = "",
        wants: str = "",
    ) -> None:
        """Try a plugin and keep what it brings.

        Args:
            name: What it is called.
            module: Where it is.
            load: Imports it.
            distribution: What pip installed it as.
            version: Version of that.
            wants: Which core it was made for, in words.

        Raises:
            PluginError: It has the name of another one, or brings something of the same name.
        """
        if name in self._modules and self._modules[name] != module:
            raise PluginError(
                f"two plugins are named {name!r}: {self._modules[name]} and {module}; uninstall one"
            )
        if name in self._modules:
            return  # one distribution found twice on sys.path
        self._modules[name] = module
        report = partial(PluginReport, name=name, distribution=distribution, version=version)
        try:
            plugin = load()
            if self._manager.is_registered(plugin):
                return  # installed, and in JARVIS_PLUGINS too
            engines, formats = probe(plugin, name)
        except (Exception, SystemExit) as error:
            _log.debug("plugin %s is broken", name, exc_info=True)
            self._reports.append(report(error=fault(error) + wants))
            return
        for engine in engines:
            self._claim("engine", engine.name, name, distribution)
            self._engines[engine.name] = engine
        for chat_format in formats:
            self._claim("chat format", chat_format.name, name, distribution)
            self._formats[chat_format.name] = chat_format
        self._manager.register(plugin, name)
        self._reports.append(
            report(
                engines=tuple(e.name for e in engines),
                chat_formats=tuple(f.name for f in formats),
            )
        )

    def _claim(self, what: str, thing: str, plugin: str, distribution: str) -> None:
        me = f"{plugin!r} ({distribution})"
        other = self._owner.setdefault((what, thing), me)
        if other != me:
            raise PluginError(
                f"two plugins bring the {what} {thing!r}: {other} and {me}; uninstall one"
            )

    def registry(self) -> Registry:
        return Registry(
            engines=self._engines,
            chat_formats=self._formats,
            plugins=tuple(self._reports),
            manager=self._manager,
        )

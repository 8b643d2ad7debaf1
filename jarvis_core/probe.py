"""Whether a plugin is what the hooks say: tried alone, before it joins the others.

What is found here is told to its author: which hook, what came of it, and what should have.
"""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import pluggy

from jarvis_core import hookspecs
from jarvis_core.errors import PluginError
from jarvis_core.hookspecs import PROJECT
from jarvis_core.interfaces import ChatFormat, EngineType

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_PREFIX = re.compile(r"[A-Z][A-Z0-9_]*_")
_FORMAT_METHODS = ("render", "parser", "tool_grammar")
_OWN_FOLDER = __file__.rpartition("/")[0]


def new_manager() -> pluggy.PluginManager:
    """A manager that knows the hooks, and no plugin yet."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def probe(plugin: Any, name: str) -> tuple[list[EngineType], list[ChatFormat]]:
    """What a plugin brings, asked of it alone.

    Raises:
        PluginError: It is not what the hooks say; the message says what is wrong.
    """
    known = {n for n, _ in inspect.getmembers(hookspecs) if n.startswith(f"{PROJECT}_")}
    for hook in sorted(known):
        function = getattr(plugin, hook, None)
        if callable(function) and not hasattr(function, f"{PROJECT}_impl"):
            raise PluginError(f"{hook} is not marked with jarvis_core.hookimpl")
    manager = new_manager()
    try:
        manager.register(plugin, name)
    except pluggy.PluginValidationError as error:
        raise PluginError(_signature(error, known)) from error
    callers = manager.get_hookcallers(plugin) or []
    for caller in callers:
        if not caller.has_spec():
            raise PluginError(
                f"hook {caller.name!r} does not exist; there are: {', '.join(sorted(known))}"
            )
        for impl in caller.get_hookimpls():
            if inspect.iscoroutinefunction(impl.function):
                raise PluginError(f"{caller.name} is a coroutine function: make it a plain one")
    if not callers:
        raise PluginError(
            "it brings nothing: no function of it is marked with jarvis_core.hookimpl; the entry "
            "point has to name the module that holds the hooks"
        )
    brings = {caller.name for caller in callers}
    engines = _brought(manager.hook.jarvis_register_engines, brings)
    formats = _brought(manager.hook.jarvis_register_chat_formats, brings)
    for engine in engines:
        _check_engine(engine)
    for chat_format in formats:
        _check_format(chat_format)
    _check_unique("engine", engines)
    _check_unique("chat format", formats)
    return engines, formats


def fault(error: BaseException) -> str:
    """An error of a plugin in one line, with the place in the plugin that it comes from."""
    if isinstance(error, PluginError):
        return error.message
    text = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith(("<", _OWN_FOLDER))]
    if not own or isinstance(error, (SyntaxError, ImportError)):  # which say where or what
        return text
    return f"{text} ({own[-1].filename}:{own[-1].lineno})"


def _signature(error: pluggy.PluginValidationError, known: Iterable[str]) -> str:
    """What pluggy says of a hook with arguments that it is not given, in our words."""
    hook = next((name for name in known if f"{name!r}" in str(error)), None)
    if hook is None:
        return " ".join(str(error).split())
    given = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    return f"{hook} has arguments that it is not given: write def {hook}({given})"


def _brought(hook: pluggy.HookCaller, brings: Iterable[str]) -> list[Any]:
    """All that the plugin returned from a hook."""
    if hook.name not in brings:
        return []
    results = hook()
    if not results:  # pluggy leaves None out
        raise PluginError(f"{hook.name} returned None, not a list: is a return missing?")
    for result in results:
        if not isinstance(result, Iterable):
            raise PluginError(
                f"{hook.name} returned {type(result).__name__}, not a list: put it into one"
            )
    return [thing for result in results for thing in result]


def _check_engine(engine: Any) -> None:
    if not isinstance(engine, EngineType):
        raise PluginError(f"jarvis_register_engines returned {engine!r}, not an EngineType")
    _check_name("engine", engine)
    where = f"of engine {engine.name!r}"
    if not _PREFIX.fullmatch(str(engine.env_prefix)):
        raise PluginError(
            f"the env_prefix {where} is {engine.env_prefix!r}: it takes upper case letters, digits "
            "and '_', and ends with one"
        )
    if not callable(engine.load):
        raise PluginError(f"load {where} is {engine.load!r}, not a coroutine function")
    if not (isinstance(engine.settings, type) and attrs.has(engine.settings)):
        raise PluginError(f"the settings {where} are not an attrs class")


def _check_format(chat_format: Any) -> None:
    if isinstance(chat_format, type):
        raise PluginError(
            f"jarvis_register_chat_formats returned the class {chat_format.__name__}: return "
            f"{chat_format.__name__}()"
        )
    if not hasattr(chat_format, "name"):
        raise PluginError(
            f"jarvis_register_chat_formats returned {chat_format!r}, no ChatFormat: it has no name"
        )
    _check_name("chat format", chat_format)
    lacking = [m for m in _FORMAT_METHODS if not callable(getattr(chat_format, m, None))]
    if lacking:
        raise PluginError(f"chat format {chat_format.name!r} has no method {', '.join(lacking)}")


def _check_name(what: str, thing: EngineType | ChatFormat) -> None:
    if not (isinstance(thing.name, str) and _NAME.fullmatch(thing.name)):
        raise PluginError(
            f"the name of {what} {thing.name!r} takes lower case letters, digits, '-', '_' and '.' "
            "only"
        )


def _check_unique(what: str, things: Sequence[EngineType | ChatFormat]) -> None:
    names = [thing.name for thing in things]
    if twice := [name for name in names if names.count(name) > 1]:
        raise PluginError(f"it brings the {what} {twice[0]!r} twice")

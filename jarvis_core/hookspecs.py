"""The hooks that a Jarvis plugin may implement.

A plugin is a module named by an entry point in the group ``jarvis``. It marks functions with
``jarvis_core.hookimpl``::

    [project.entry-points.jarvis]
    echo = "jarvis_echo"
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from jarvis_core.interfaces import ChatFormat, EngineType
from jarvis_core.structs import ModelInfo

PROJECT = "jarvis"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def jarvis_register_engines() -> Iterable[EngineType]:  # type: ignore[empty-body]
    """Engine types that this plugin brings.

    Called once, when plugins are loaded, in the server and in every engine host. It must be
    quick and must not import the backend. Every plugin's result is used; two engine types with
    one name are an error that names both plugins.

    Example::

        @hookimpl
        def jarvis_register_engines():
            return [ECHO]
    """


@hookspec
def jarvis_register_chat_formats() -> Iterable[ChatFormat]:  # type: ignore[empty-body]
    """Chat formats that this plugin brings.

    Called once, when plugins are loaded, in the server and in every engine host. Every plugin's
    result is used; two formats with one name are an error that names both plugins.

    Example::

        @hookimpl
        def jarvis_register_chat_formats():
            return [ShoutFormat()]
    """


@hookspec(firstresult=True)
def jarvis_detect_chat_format(model: ModelInfo) -> str | None:
    """Name of the chat format that fits a loaded model.

    Called in the engine host after a model is loaded, unless the operator named a format. None
    means: not mine, ask the next plugin. The first name wins; the core answers last, with
    ``template``.

    Example::

        @hookimpl
        def jarvis_detect_chat_format(model):
            return "shout" if model.architecture == "shout" else None
    """

"""Puts the settings together, once, at start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from jarvis_core.errors import SettingError
from jarvis_core.interfaces import EngineType
from jarvis_core.plugins import MODULES_VARIABLE, PluginReport
from jarvis_core.settings.engines import InstalledEngines, engine_variables
from jarvis_core.settings.model import ModelConfig, SingleModel
from jarvis_core.settings.models import (
    by_name,
    model_values,
    models_of_file,
    single_model,
    without_effect,
)
from jarvis_core.settings.server import ServerSettings, is_loopback, split_keys
from jarvis_core.settings.sources import read_toml
from jarvis_core.settings.structuring import check_names
from jarvis_core.settings.values import (
    DEFAULT,
    DOTENV_FILE,
    ENVIRONMENT,
    TOML_FILE,
    RawValue,
    SettingValue,
)
from jarvis_core.settings.variables import PREFIX, Layers, Variable, read_layers, variables_of


@frozen(kw_only=True)
class Settings:
    """Everything that an operator can say.

    Attributes:
        server: How the server behaves.
        models: The configured models by name.
        values: Every setting with its value and its origin, for ``jarvis settings``.
        warnings: What looks wrong but stops nothing, one line each.
    """

    server: ServerSettings
    models: Mapping[str, ModelConfig]
    values: tuple[SettingValue, ...] = ()
    warnings: tuple[str, ...] = ()

    def value(self, name: str) -> SettingValue:
        """One of the values, by the name of its variable: ``JARVIS_PORT``."""
        return next(value for value in self.values if value.name == name)


def load_settings(
    *,
    options: Mapping[str, str | None],
    environ: Mapping[str, str],
    directory: Path,
    engines: Mapping[str, EngineType],
    broken: Iterable[PluginReport] = (),
) -> Settings:
    """Read all settings.

    Args:
        options: The command line, by name of setting or variable; None is not given.
        environ: The environment.
        directory: Where ``.env`` and ``jarvis.toml`` are looked for.
        engines: The installed engine types by name.
        broken: Plugins that were quarantined, for the message about a missing engine.

    Raises:
        SettingError: A value is not allowed, a file cannot be read, or two settings do not fit.
        PluginError: An engine is not installed.
    """
    of_server = variables_of(ServerSettings, PREFIX)
    of_single = variables_of(SingleModel, PREFIX)
    of_engines = engine_variables(engines)
    layers = read_layers(
        (*of_single, *of_server, *(v for variables in of_engines.values() for v in variables)),
        options=options,
        environ=environ,
        dotenv=directory / DOTENV_FILE,
        environment_only=(MODULES_VARIABLE,),
    )
    tables = _tables(directory / TOML_FILE)

    server_values = _resolve(of_server, layers, tables["server"])
    single_values = _resolve(of_single, layers, {})
    installed = InstalledEngines.read(engines, broken, of_engines, layers)
    server = ServerSettings(**_by_setting(of_server, server_values))
    single = SingleModel(**_by_setting(of_single, single_values))
    _check_bind(server, {value.name: value for value in server_values})

    sections = tables["models"]
    in_file = models_of_file(
        sections, directory=directory, engine=single.inference_engine, engines=installed
    )
    alone = single_model(single, alone=not in_file, engines=installed)
    warnings = list(layers.warnings)
    if in_file and alone is None:
        warnings += without_effect(single_values)
    return Settings(
        server=server,
        models=by_name([*in_file, *([alone] if alone else [])]),
        values=(
            *single_values,
            *server_values,
            *(v for engine in installed.settings.values() for v in engine.values.values()),
            _plugin_modules(environ),
            *(v for m in in_file for v in model_values(m, sections[m.name], installed)),
        ),
        warnings=tuple(warnings),
    )


def _tables(path: Path) -> dict[str, Mapping[str, Any]]:
    """The tables of ``jarvis.toml``, each there even if the file is not.

    Raises:
        SettingError: It has another name at the top, or something that is no table.
    """
    content = read_toml(path)
    known = ("server", "models")
    check_names(content, known, where=TOML_FILE)
    for name, value in content.items():
        if not isinstance(value, Mapping):
            raise SettingError(f"{TOML_FILE}: {name} must be a table, [{name}]")
    return {name: content.get(name, {}) for name in known}


def _resolve(
    variables: tuple[Variable, ...], layers: Layers, section: Mapping[str, Any]
) -> tuple[SettingValue, ...]:
    """The value of each variable, in order; the section of ``jarvis.toml`` is the weakest layer."""
    where = f"{TOML_FILE} [server]"
    check_names(section, [v.setting.name for v in variables], where=where)
    in_file = {
        name: RawValue(value=value, origin=where, text=False) for name, value in section.items()
    }
    return tuple(v.resolve(layers.find(v) or in_file.get(v.setting.name)) for v in variables)


def _by_setting(
    variables: tuple[Variable, ...], values: tuple[SettingValue, ...]
) -> dict[str, Any]:
    return {v.setting.name: value.value for v, value in zip(variables, values, strict=True)}


def _plugin_modules(environ: Mapping[str, str]) -> SettingValue:
    """The variable that names plugins; engines, and so settings, come after it."""
    modules = environ.get(MODULES_VARIABLE, "")
    return SettingValue(
        name=MODULES_VARIABLE,
        value=tuple(filter(None, map(str.strip, modules.split(",")))),
        origin=ENVIRONMENT if modules else DEFAULT,
        help="Modules that are plugins without being installed as such; environment only",
    )


def _check_bind(server: ServerSettings, values: Mapping[str, SettingValue]) -> None:
    """Refuse to be reachable for others without a key.

    Raises:
        SettingError: It says what to set.
    """
    keys = values["JARVIS_API_KEY"]
    if server.api_key and not split_keys(server.api_key):
        raise keys.error("must be keys separated by commas; it holds none")
    if not server.api_key and not is_loopback(server.host):
        raise values["JARVIS_HOST"].error(
            "others can reach this address, and JARVIS_API_KEY is not set;"
            " set it, or JARVIS_HOST to 127.0.0.1"
        )

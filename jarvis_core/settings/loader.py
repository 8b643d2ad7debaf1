"""Puts the settings together, once, at start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from attrs import frozen

from jarvis_core.errors import SettingError
from jarvis_core.interfaces import EngineType
from jarvis_core.plugins import MODULES_VARIABLE, PluginReport
from jarvis_core.settings.engines import InstalledEngines, engine_variables
from jarvis_core.settings.keys import read_keys, split_keys
from jarvis_core.settings.model import ModelConfig, SingleModel
from jarvis_core.settings.models import (
    by_name,
    model_values,
    models_of_file,
    single_model,
    without_effect,
)
from jarvis_core.settings.sampling import SAMPLING_PREFIX, SamplingSettings
from jarvis_core.settings.server import ServerSettings, is_loopback
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
        """One of the values, by the name of its variable: ``JARVIS_PORT``.

        Raises:
            KeyError: There is none; settings that a program made itself have none at all.
        """
        return {value.name: value for value in self.values}[name]


@frozen(kw_only=True)
class SettingsReading:
    """Settings that were read and each found allowed, not yet checked against one another.

    Attributes:
        server: How the server behaves.
        values: Every variable with its value and its origin.
        warnings: What looks wrong but stops nothing.
    """

    server: ServerSettings
    values: tuple[SettingValue, ...]
    warnings: tuple[str, ...]
    _single: SingleModel
    _sampling: SamplingSettings
    _single_values: tuple[SettingValue, ...]
    _sections: Mapping[str, Any]
    _directory: Path
    _installed: InstalledEngines

    def complete(self) -> Settings:
        """The settings, with their models.

        Raises:
            SettingError: Two settings do not fit, or a model's section is wrong.
            PluginError: An engine is not installed.
        """
        _check_bind(self.server, {value.name: value for value in self.values})
        in_file = models_of_file(
            self._sections,
            directory=self._directory,
            engine=self._single.inference_engine,
            engines=self._installed,
        )
        alone = single_model(
            self._single, self._sampling, alone=not in_file, engines=self._installed
        )
        idle = without_effect(self._single_values) if in_file and alone is None else []
        of_models = (model_values(m, self._sections[m.name], self._installed) for m in in_file)
        return Settings(
            server=self.server,
            models=by_name([*in_file, *([alone] if alone else [])]),
            values=(*self.values, *chain.from_iterable(of_models)),
            warnings=(*self.warnings, *idle),
        )


def read_settings(
    *,
    options: Mapping[str, str | None],
    environ: Mapping[str, str],
    directory: Path,
    engines: Mapping[str, EngineType],
    broken: Iterable[PluginReport] = (),
) -> SettingsReading:
    """Read command line, environment, ``.env`` and ``jarvis.toml``.

    Args:
        options: The command line, by name of setting or variable; None is not given.
        environ: The environment.
        directory: Where ``.env`` and ``jarvis.toml`` are looked for.
        engines: The installed engine types by name.
        broken: Plugins that were quarantined, for the message about a missing engine.

    Raises:
        SettingError: A value is not allowed, or a file cannot be read.
        PluginError: An engine's settings class is wrong.
    """
    of_server = variables_of(ServerSettings, PREFIX)
    of_single = variables_of(SingleModel, PREFIX)
    of_sampling = variables_of(SamplingSettings, SAMPLING_PREFIX)
    of_engines = engine_variables(engines)
    layers = read_layers(
        (*of_single, *of_sampling, *of_server, *chain.from_iterable(of_engines.values())),
        options=options,
        environ=environ,
        dotenv=directory / DOTENV_FILE,
        environment_only=(MODULES_VARIABLE,),
    )
    tables = _tables(directory / TOML_FILE)
    server_values = _resolve(of_server, layers, tables["server"])
    single_values = _resolve(of_single, layers, {})
    sampling_values = _resolve(of_sampling, layers, {})
    installed = InstalledEngines.read(engines, broken, of_engines, layers)
    of_all_engines = (settings.values.values() for settings in installed.settings.values())
    return SettingsReading(
        server=ServerSettings(**_by_setting(of_server, server_values)),
        values=(
            *single_values,
            *sampling_values,
            *server_values,
            *chain.from_iterable(of_all_engines),
            _plugin_modules(environ),
        ),
        warnings=layers.warnings,
        single=SingleModel(**_by_setting(of_single, single_values)),
        sampling=SamplingSettings(**_by_setting(of_sampling, sampling_values)),
        single_values=(*single_values, *sampling_values),
        sections=tables["models"],
        directory=directory,
        installed=installed,
    )


def load_settings(
    *,
    options: Mapping[str, str | None],
    environ: Mapping[str, str],
    directory: Path,
    engines: Mapping[str, EngineType],
    broken: Iterable[PluginReport] = (),
) -> Settings:
    """Read all settings and check them; the arguments are those of ``read_settings``.

    Raises:
        SettingError: A value is not allowed, a file cannot be read, or two settings do not fit.
        PluginError: An engine is not installed.
    """
    return read_settings(
        options=options,
        environ=environ,
        directory=directory,
        engines=engines,
        broken=broken,
    ).complete()


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
    if server.keys_file:
        read_keys(Path(server.keys_file))
    elif not server.api_key and not is_loopback(server.host):
        raise values["JARVIS_HOST"].error(
            "others can reach this address, and neither JARVIS_API_KEY nor JARVIS_KEYS_FILE is"
            " set; set one of them, or JARVIS_HOST to 127.0.0.1"
        )

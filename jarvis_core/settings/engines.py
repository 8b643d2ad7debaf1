"""Settings of engines: defaults from variables, and what a model's own section says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from jarvis_core.errors import PluginError, SettingError
from jarvis_core.interfaces import EngineType
from jarvis_core.plugins import PluginReport, missing_engine
from jarvis_core.settings.fields import Setting, settings_of
from jarvis_core.settings.sampling import SamplingSettings
from jarvis_core.settings.structuring import build, plain, structure_values
from jarvis_core.settings.values import DEFAULT, SettingValue
from jarvis_core.settings.variables import Layers, Variable, variables_of


@frozen(kw_only=True)
class EngineSettings:
    """The settings of one installed engine.

    Attributes:
        cls: Its settings class.
        values: What its variables say, by the setting's name; defaults included.
    """

    cls: type
    values: Mapping[str, SettingValue]

    @property
    def given(self) -> dict[str, Any]:
        """The values that somebody set."""
        return {name: v.value for name, v in self.values.items() if v.origin != DEFAULT}


def engine_variables(engines: Mapping[str, EngineType]) -> dict[str, tuple[Variable, ...]]:
    """The variables of every engine, by its name.

    Raises:
        PluginError: A plugin's settings class is none.
    """
    found = {}
    for name, engine in engines.items():
        try:
            found[name] = variables_of(engine.settings, engine.env_prefix)
        except TypeError as error:
            raise PluginError(
                f"engine {name!r} cannot be used: its settings class is wrong: {error};"
                " tell its author, or uninstall its plugin"
            ) from error
    return found


@frozen(kw_only=True)
class InstalledEngines:
    """Which engines there are, and what a model on one of them gets as settings.

    Attributes:
        engines: The engine types by name.
        broken: Plugins that were quarantined, for the message about a missing engine.
        settings: The settings of each engine.
    """

    engines: Mapping[str, EngineType]
    broken: tuple[PluginReport, ...]
    settings: Mapping[str, EngineSettings]

    @classmethod
    def read(
        cls,
        engines: Mapping[str, EngineType],
        broken: Iterable[PluginReport],
        variables: Mapping[str, tuple[Variable, ...]],
        layers: Layers,
    ) -> InstalledEngines:
        """Resolve the variables of every engine.

        Raises:
            SettingError: A variable's value is not allowed.
        """
        return cls(
            engines=engines,
            broken=tuple(broken),
            settings={
                name: EngineSettings(
                    cls=engine.settings,
                    values={v.setting.name: v.resolve(layers.find(v)) for v in variables[name]},
                )
                for name, engine in engines.items()
            },
        )

    def check(self, name: str) -> None:
        """Refuse an engine that is not there.

        Raises:
            PluginError: It says what to install, and what is installed.
        """
        if name not in self.engines:
            raise PluginError(missing_engine(name, self.engines, self.broken))

    def check_sampling(self, engine: str, sampling: SamplingSettings, *, where: str) -> None:
        """Refuse sampling params that no model on an engine honours.

        Args:
            engine: Name of the engine, which is installed.
            sampling: What the operator says.
            where: Where, for messages.

        Raises:
            SettingError: It names the param.
        """
        honoured = self.engines[engine].capabilities.parameters
        for name in sampling.given:
            if name not in honoured:
                raise SettingError(
                    f"{where}: engine {engine!r} cannot honour {name}: remove it, or serve the "
                    "model with another engine"
                )

    def setting(self, engine: str, name: str) -> Setting | None:
        """What is known about a setting of an engine; None where the engine is elsewhere."""
        if engine not in self.engines:
            return None
        settings = settings_of(self.settings[engine].cls)
        return next((s for s in settings if s.name == name), None)

    def merge(
        self, engine: str, section: Mapping[str, Any], *, where: str, elsewhere: bool
    ) -> dict[str, Any]:
        """What a model gets: its own section over what the engine's variables say.

        Args:
            engine: Name of the engine.
            section: The model's own settings.
            where: The section's name, for messages.
            elsewhere: Whether another Python has the engine; only that one can check the section.

        Raises:
            PluginError: The engine is not installed.
            SettingError: The section has a name or a value that is not allowed.
        """
        if elsewhere:
            given = self.settings[engine].given if engine in self.settings else {}
            return {**given, **section}
        self.check(engine)
        settings = self.settings[engine]
        own = structure_values(settings_of(settings.cls), section, where=where)
        merged = {**settings.given, **own}
        build(settings.cls, merged, where=where)
        return {name: plain(value) for name, value in merged.items()}

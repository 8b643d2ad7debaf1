"""Variables: the names of settings on the command line, in the environment and in ``.env``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from attrs import frozen

from jarvis_core.errors import SettingError
from jarvis_core.settings.fields import Setting, settings_of
from jarvis_core.settings.sources import read_dotenv
from jarvis_core.settings.structuring import structure_value
from jarvis_core.settings.values import (
    COMMAND_LINE,
    DEFAULT,
    ENVIRONMENT,
    RawValue,
    SettingValue,
    nearest,
)

PREFIX = "JARVIS_"


@frozen(kw_only=True)
class Variable:
    """A setting with its variable.

    Attributes:
        setting: The setting.
        name: ``JARVIS_PORT``.
        older: Other names of the variable.
    """

    setting: Setting
    name: str
    older: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every name of the variable, the first is preferred."""
        return (self.name, *self.older)

    def resolve(self, raw: RawValue | None) -> SettingValue:
        """The setting's value: what was read, else the default.

        Raises:
            SettingError: What was read is not allowed.
        """
        setting = self.setting
        return SettingValue(
            name=self.name,
            value=setting.default if raw is None else structure_value(setting, raw, self.name),
            origin=DEFAULT if raw is None else raw.origin,
            help=setting.help,
            secret=setting.secret,
        )


def variables_of(cls: type, prefix: str) -> tuple[Variable, ...]:
    """The variables of a settings class."""
    return tuple(
        Variable(setting=setting, name=f"{prefix}{setting.name.upper()}", older=setting.env)
        for setting in settings_of(cls)
    )


@frozen(kw_only=True)
class Layers:
    """What command line, environment and ``.env`` say, strongest first.

    Attributes:
        layers: Values by name of variable; none is empty text.
        warnings: What looks wrong but stops nothing.
    """

    layers: tuple[Mapping[str, RawValue], ...]
    warnings: tuple[str, ...]

    def find(self, variable: Variable) -> RawValue | None:
        """What the strongest layer says about a variable."""
        for layer in self.layers:
            for name in variable.names:
                if name in layer:
                    return layer[name]
        return None


def read_layers(
    variables: Iterable[Variable],
    *,
    options: Mapping[str, str | None],
    environ: Mapping[str, str],
    dotenv: Path,
    environment_only: Collection[str] = (),
) -> Layers:
    """Read every layer and look for names that nobody knows.

    Args:
        variables: The variables of all settings.
        options: The command line, by name of setting or variable; None is not given.
        environ: The environment.
        dotenv: The ``.env`` file; it need not exist.
        environment_only: Names that mean something before settings are read.

    Raises:
        SettingError: An option is unknown, or ``.env`` cannot be read.
    """
    variables = tuple(variables)
    known = {name for variable in variables for name in variable.names}
    in_file, warnings = read_dotenv(dotenv, lambda name: name in known or name.startswith(PREFIX))
    layers = (
        {
            _variable_of(name, known): RawValue(value=text, origin=COMMAND_LINE)
            for name, text in options.items()
            if text is not None
        },
        {name: RawValue(value=text, origin=ENVIRONMENT) for name, text in environ.items()},
        in_file,
    )
    for name in environment_only:
        if name in in_file:
            warnings.append(
                f"{name} ({in_file[name].origin}) has no effect: set it in the environment"
            )
    for layer in layers[1:]:
        for name, raw in layer.items():
            if name.startswith(PREFIX) and name not in known.union(environment_only):
                hint = nearest(name, known) or "; `jarvis settings` lists all of them"
                warnings.append(f"{name} ({raw.origin}) is not a setting of Jarvis{hint}")
    kept = tuple(_without_blanks(layer) for layer in layers)
    for layer in kept:
        warnings.extend(_overruled(variables, layer))
    return Layers(layers=kept, warnings=tuple(warnings))


def _variable_of(option: str, known: set[str]) -> str:
    """The variable that an option's name stands for: ``port`` is ``JARVIS_PORT``."""
    upper = option.upper().replace("-", "_")
    for name in (upper, f"{PREFIX}{upper}"):
        if name in known:
            return name
    raise SettingError(
        f"command line: {option} is not a setting of Jarvis{nearest(f'{PREFIX}{upper}', known)}"
    )


def _without_blanks(layer: Mapping[str, RawValue]) -> dict[str, RawValue]:
    """A layer without empty values: they count as not set."""
    stripped = {name: _stripped(raw) for name, raw in layer.items()}
    return {name: raw for name, raw in stripped.items() if raw.value}


def _stripped(raw: RawValue) -> RawValue:
    return RawValue(value=raw.value.strip(), origin=raw.origin)


def _overruled(variables: Iterable[Variable], layer: Mapping[str, RawValue]) -> list[str]:
    """Warnings about two names of one variable that say different things."""
    warnings = []
    for variable in variables:
        first, *rest = [name for name in variable.names if name in layer] or [""]
        warnings += [
            f"{name} ({layer[name].origin}) has no effect: {first} sets the same"
            for name in rest
            if layer[name].value != layer[first].value
        ]
    return warnings

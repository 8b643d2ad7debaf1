"""What counts for a model where a request does not say how tokens are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from attrs import field, frozen

from jarvis_core.errors import SettingError
from jarvis_core.sampling_checks import BOUNDS
from jarvis_core.settings.sampling import SAMPLING_PREFIX, SamplingSettings
from jarvis_core.structs import ModelInfo, SamplingParams, Scalar

CHOOSING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)
"""The sampling params that have defaults: the numbers that choose a token."""

_WHOLE = frozenset({"top_k"})
_NEUTRAL = SamplingParams()


@frozen(kw_only=True)
class SamplingDefault:
    """The default of one sampling param.

    Attributes:
        value: The number.
        origin: Who says so: the operator's ``setting``, the ``model``'s files, or nobody, and it is
            the API's own ``default``.
    """

    value: float
    origin: Literal["setting", "model", "default"]


@frozen(kw_only=True)
class SamplingDefaults:
    """The defaults of a loaded model, for each param that it honours.

    Attributes:
        chosen: By name; ``max_tokens`` among them only where the operator says how many.
        unusable: What the model's files recommend that cannot be, by name.
    """

    chosen: Mapping[str, SamplingDefault] = field(factory=dict)
    unusable: Mapping[str, Scalar] = field(factory=dict)

    @classmethod
    def of(cls, model: ModelInfo, settings: SamplingSettings) -> SamplingDefaults:
        """What the operator says, else what the model's files recommend, else what is neutral.

        Raises:
            SettingError: The operator asks for what the model's engine cannot honour.
        """
        honoured, given = model.capabilities.parameters, settings.given
        for name in given:
            if name not in honoured:
                raise SettingError(
                    f"model {model.name!r} on engine {model.engine!r} cannot honour {name}: remove "
                    f"it from [models.{model.name}.sampling], or {SAMPLING_PREFIX}{name.upper()}"
                )
        chosen = {
            name: SamplingDefault(value=getattr(_NEUTRAL, name), origin="default")
            for name in CHOOSING
            if name in honoured
        }
        unusable: dict[str, Scalar] = {}
        for name, value in model.sampling.items() if settings.from_model else ():
            number = _number(name, value)
            if number is not None and name in honoured:
                chosen[name] = SamplingDefault(value=number, origin="model")
            elif value is not None and (number is None or number != getattr(_NEUTRAL, name)):
                unusable[name] = value
        for name, number in given.items():
            chosen[name] = SamplingDefault(value=number, origin="setting")
        return cls(chosen=chosen, unusable=unusable)

    @property
    def values(self) -> dict[str, Scalar]:
        """The numbers, by name."""
        return {name: default.value for name, default in self.chosen.items()}

    @property
    def line(self) -> str:
        """Those that somebody chose, for the log: ``top_p 0.9 (model), top_k 20 (setting)``."""
        return ", ".join(
            f"{name} {default.value:g} ({default.origin})"
            for name, default in self.chosen.items()
            if default.origin != "default"
        )


def _number(name: str, value: Scalar) -> float | None:
    """What a model's files recommend, None if it cannot be."""
    if name not in CHOOSING or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    least, most = BOUNDS[name]
    if not least <= value <= most:
        return None
    if name not in _WHOLE:
        return float(value)
    return int(value) if value == int(value) else None

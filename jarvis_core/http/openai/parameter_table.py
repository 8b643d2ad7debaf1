"""What becomes of each parameter of a route: rows, and the table that is made of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

from attrs import frozen

from jarvis_core.errors import UnsupportedParameter
from jarvis_core.structs import Capabilities, ModelInfo

IGNORED_HEADER = "x-jarvis-ignored-params"

_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


class Treatment(Enum):
    """What becomes of a parameter."""

    CORE = "honoured with every model"
    ENGINE = "honoured where the model's engine can"
    CONSTRAINT = "honoured where the model's engine enforces constraints"
    NO_EFFECT = "taken, without effect by nature"
    REFUSED = "refused unless neutral"


@frozen(kw_only=True)
class Parameter:
    """One row of a table.

    Attributes:
        name: As clients send it.
        treatment: What becomes of it.
        needs: For ``ENGINE``: the name in ``Capabilities.parameters``. For ``CONSTRAINT``: the kind
            in ``Capabilities.constraints``; empty where it depends on the value.
        neutral: Values that change nothing; None always does.
        unless: Name of a parameter without which this one changes nothing.
        note: What else to know.
    """

    name: str
    treatment: Treatment
    needs: str = ""
    neutral: tuple[Any, ...] = ()
    unless: str = ""
    note: str = ""


def core(name: str, note: str = "") -> Parameter:
    """A parameter that the core honours with every model."""
    return Parameter(name=name, treatment=Treatment.CORE, note=note)


def engine(
    name: str, *neutral: Any, needs: str = "", unless: str = "", note: str = ""
) -> Parameter:
    """A parameter that takes an engine that can."""
    return Parameter(
        name=name,
        treatment=Treatment.ENGINE,
        needs=needs or name,
        neutral=neutral,
        unless=unless,
        note=note,
    )


def constraint(name: str, needs: str = "", *neutral: Any) -> Parameter:
    """A parameter that takes an engine that enforces constraints."""
    return Parameter(name=name, treatment=Treatment.CONSTRAINT, needs=needs, neutral=neutral)


def no_effect(name: str, note: str) -> Parameter:
    """A parameter that has no effect by nature."""
    return Parameter(name=name, treatment=Treatment.NO_EFFECT, note=note)


def refused(name: str, note: str, *neutral: Any) -> Parameter:
    """A parameter that no model honours."""
    return Parameter(name=name, treatment=Treatment.REFUSED, note=note, neutral=neutral)


class ParameterTable(Mapping[str, Parameter]):
    """Every parameter that a route knows, by name, in the order in which it is documented."""

    def __init__(self, *rows: Parameter) -> None:
        """A table of these rows."""
        self._rows = {row.name: row for row in rows}
        self._checked = tuple(
            row
            for row in rows
            if row.treatment in (Treatment.ENGINE, Treatment.REFUSED)
            or (row.treatment is Treatment.CONSTRAINT and row.needs)
        )

    def __getitem__(self, name: str) -> Parameter:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def is_neutral(self, name: str, body: Any) -> bool:
        """Whether the value in a route's body changes nothing."""
        row, value = self._rows[name], getattr(body, name)
        if value is None or value in row.neutral:
            return True
        return bool(row.unless) and self.is_neutral(row.unless, body)

    def refuse_what_cannot_be(self, body: Any, model: ModelInfo) -> None:
        """Refuse the first parameter that would have an effect and cannot have it.

        Raises:
            UnsupportedParameter: It names parameter, model and engine.
        """
        for row in self._checked:
            if getattr(body, row.name) is None or self.is_neutral(row.name, body):
                continue
            if not _can(row, model.capabilities):
                raise unsupported(row.name, model, row.note)

    def honoured(self, capabilities: Capabilities) -> list[str]:
        """Names of the parameters that have their effect with such a model."""
        return [
            row.name
            for row in self._rows.values()
            if row.treatment is not Treatment.NO_EFFECT
            and _can(row, capabilities)
            and (row.treatment is not Treatment.CONSTRAINT or row.needs or capabilities.constraints)
        ]

    def outcomes(self, capabilities: Capabilities) -> dict[str, list[str]]:
        """Names by what becomes of them with such a model, if they are not neutral."""
        honoured = self.honoured(capabilities)
        idle = [r.name for r in self._rows.values() if r.treatment is Treatment.NO_EFFECT]
        return {
            "honoured": honoured,
            "without_effect": idle,
            "refused": [name for name in self._rows if name not in (*honoured, *idle)],
        }

    def sorted_out(self, names: Iterable[str]) -> tuple[list[str], list[str]]:
        """The known names that have an effect, and those that have none by nature."""
        known = [self._rows[name] for name in names if name in self._rows]
        idle = [row.name for row in known if row.treatment is Treatment.NO_EFFECT]
        return [row.name for row in known if row.name not in idle], idle

    def ignored(self, names: Iterable[str]) -> str:
        """Value of the header that lists unknown names; odd ones are only counted."""
        unknown = [name for name in names if name not in self._rows]
        plain = [name for name in unknown if _PLAIN.match(name)][:32]
        if len(plain) < len(unknown):
            plain.append(f"+{len(unknown) - len(plain)}")
        return ", ".join(plain)


def ignored_header(ignored: str) -> dict[str, str]:
    """The header that lists unknown names, if there are any."""
    return {IGNORED_HEADER: ignored} if ignored else {}


def unsupported(name: str, model: ModelInfo, why: str = "") -> UnsupportedParameter:
    """The error for a parameter that this model cannot honour."""
    reason = f": {why}" if why else ""
    return UnsupportedParameter(
        f"model {model.name!r} on engine {model.engine!r} cannot honour {name}{reason}", param=name
    )


def _can(row: Parameter, capabilities: Capabilities) -> bool:
    match row.treatment:
        case Treatment.ENGINE:
            return row.needs in capabilities.parameters
        case Treatment.CONSTRAINT:
            return not row.needs or row.needs in capabilities.constraints
        case Treatment.REFUSED:
            return False
    return True

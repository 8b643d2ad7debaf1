"""Figures of a benchmark, each with its bar."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen


@frozen(kw_only=True)
class Figure:
    """One figure.

    Attributes:
        label: What it is.
        value: The figure.
        unit: Of the value.
        least: The bar, if more is better.
        most: The bar, if less is better.
    """

    label: str
    value: float
    unit: str = ""
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether it meets its bars; None if it has none."""
        if self.least is None and self.most is None:
            return None
        enough = self.least is None or self.value >= self.least
        return enough and (self.most is None or self.value <= self.most)

    def __str__(self) -> str:
        line = f"{self.label:56}{self.value:12,.2f} {self.unit:6}"
        if self.met is None:
            return line.rstrip()
        bars = [f"≥ {self.least:,g}"] if self.least is not None else []
        bars += [f"≤ {self.most:,g}"] if self.most is not None else []
        return f"{line} bar {' and '.join(bars):16} {'met' if self.met else 'missed'}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of the others does not exceed; 0 of none."""
    found = sorted(values)
    return found[min(len(found) - 1, int(len(found) * share))] if found else 0.0

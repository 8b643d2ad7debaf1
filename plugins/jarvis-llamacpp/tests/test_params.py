"""Extra params from requests."""

from __future__ import annotations

from typing import Any

import pytest

from jarvis_core import RequestError
from jarvis_llamacpp.params import Extra, read_extra


def test_nothing_is_on_without_its_switch() -> None:
    assert read_extra({}) == Extra()
    assert read_extra({"dry_base": 2.0, "xtc_threshold": 0.2, "mirostat_tau": 3.0}) == Extra()
    assert read_extra({"dry_multiplier": 0, "xtc_probability": 0.0, "mirostat": 0}) == Extra()
    assert read_extra({"dry_multiplier": 1.0, "dry_penalty_last_n": 0}) == Extra()


def test_values_replace_defaults() -> None:
    extra = read_extra(
        {
            "dry_multiplier": 0.8,
            "dry_allowed_length": 3,
            "dry_sequence_breakers": '["\\n", "END"]',
            "xtc_probability": 0.5,
            "mirostat": 2,
            "mirostat_eta": 0.2,
        }
    )

    assert extra.dry is not None
    assert (extra.dry.multiplier, extra.dry.base, extra.dry.allowed_length) == (0.8, 1.75, 3)
    assert extra.dry.sequence_breakers == ("\n", "END")
    assert extra.xtc is not None
    assert (extra.xtc.probability, extra.xtc.threshold) == (0.5, 0.1)
    assert extra.mirostat is not None
    assert (extra.mirostat.version, extra.mirostat.tau, extra.mirostat.eta) == (2, 5.0, 0.2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dry_base", 0.5),
        ("dry_multiplier", float("nan")),
        ("dry_multiplier", True),
        ("dry_allowed_length", 1.5),
        ("dry_penalty_last_n", -2),
        ("dry_sequence_breakers", "[1]"),
        ("dry_sequence_breakers", '[""]'),
        ("dry_sequence_breakers", "no"),
        ("xtc_probability", 1.5),
        ("mirostat", 3),
        ("mirostat_tau", "much"),
        ("frobnicate", 1),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(RequestError, match=name) as caught:
        read_extra({"dry_multiplier": 1.0, name: value})

    assert caught.value.param == name

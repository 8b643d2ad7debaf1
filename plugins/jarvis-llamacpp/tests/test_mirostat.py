"""Mirostat keeps surprise near its target."""

from __future__ import annotations

import random

import numpy as np
import pytest

from jarvis_llamacpp.mirostat import Mirostat
from jarvis_llamacpp.params import MirostatParams

ZIPF = 1.0 / np.arange(1, 2001)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("tau", [2.0, 4.0, 6.0])
def test_the_average_surprise_is_the_target(version: int, tau: float) -> None:
    mirostat = Mirostat(MirostatParams(version=version, tau=tau))
    rng = random.Random(3)
    shuffled = np.random.default_rng(1).permutation(len(ZIPF))
    weights = ZIPF[shuffled]
    surprise = 0.0
    for _ in range(1000):
        before = mirostat.limit
        mirostat.choose(np.arange(len(ZIPF)), weights, len(ZIPF), rng.random())
        surprise += tau + (before - mirostat.limit) / 0.1

    assert surprise / 1000 == pytest.approx(tau, abs=0.3)


@pytest.mark.parametrize("version", [1, 2])
def test_a_low_target_takes_the_likeliest_token(version: int) -> None:
    mirostat = Mirostat(MirostatParams(version=version, tau=0.0, eta=0.1))
    weights = np.array([0.1, 0.7, 0.2])

    assert mirostat.choose(np.array([5, 6, 7]), weights, 3, 0.99) == 6


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("weights", [[1.0], [1.0, 1.0, 1.0], [0.0, 1.0], [1.0, 1e-300]])
@pytest.mark.parametrize("tau", [0.0, 5.0, 1000.0])
def test_odd_shares_are_no_trouble(version: int, weights: list[float], tau: float) -> None:
    mirostat = Mirostat(MirostatParams(version=version, tau=tau))
    for mark in (0.0, 0.5, 1 - 1e-16):
        at = mirostat.choose(np.arange(len(weights)), np.array(weights), len(weights), mark)
        assert weights[at] > 0

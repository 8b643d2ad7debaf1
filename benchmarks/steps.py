"""The steps of an engine: those that llama.cpp computed, or those that streams show."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import orjson
from attrs import frozen
from load import Answer


@frozen(kw_only=True)
class Step:
    """One step.

    Attributes:
        began: In seconds of the performance counter, which all processes share.
        ended: On the same clock.
        whose: Names of the keys for which it computed.
        stopped: Whether it was stopped for a request that had just come.
    """

    began: float
    ended: float
    whose: frozenset[str]
    stopped: bool = False

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


class StepLog:
    """Has an engine host of llama.cpp write its steps down.

    Args:
        folder: Where to; its name is the files' name.

    Attributes:
        python: What the model must name as its interpreter.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder.with_suffix(".steps.jsonl")
        self.python = folder.with_suffix(".python")
        program = Path(__file__).with_name("stepped_host.py")
        command = shlex.join([sys.executable, str(program), str(self._file)])
        self.python.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        self.python.chmod(0o755)

    def read(self) -> list[Step]:
        """All steps so far."""
        lines = map(orjson.loads, self._file.read_bytes().splitlines())
        return [
            Step(
                began=line["began"],
                ended=line["ended"],
                whose=frozenset(line["whose"]),
                stopped=line["stopped"],
            )
            for line in lines
        ]


def in_streams(answers: Iterable[Answer], key: str) -> list[Step]:
    """Steps that wrote a token of a key's answers after its first, as their streams show them."""
    return [
        Step(began=began, ended=ended, whose=frozenset([key]))
        for answer in answers
        for began, ended in pairwise(answer.came[1:])
    ]

"""An engine host of llama.cpp whose steps are written to a file, a line of JSON for each.

    stepped_host.py FILE -m jarvis_core.host ...

It stands for the interpreter that a model names, so the arguments after the file are what the
server would have an interpreter do.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO


def watch(out: TextIO) -> None:
    """Write when each step began and ended, whom it computed for, and whether it was stopped."""
    from jarvis_llamacpp import runner
    from jarvis_llamacpp.stepper import Stepper

    class Watched(Stepper):
        """Knows the sequences of its last plan."""

        def _fill(self, plan: Any) -> None:
            self._sequences = [*(chunk.sequence for chunk in plan.chunks), *plan.singles]
            self._before = sum(s.computed for s in self._sequences)
            super()._fill(plan)

        def step(self) -> Any:
            self._sequences, began = [], perf_counter()
            try:
                return super().step()
            finally:
                if self._sequences:
                    self._write(began)

        def _write(self, began: float) -> None:
            line = {
                "began": began,
                "ended": perf_counter(),
                "whose": sorted({s.share.name for s in self._sequences if s.share is not None}),
                "stopped": sum(s.computed for s in self._sequences) <= self._before,
            }
            print(json.dumps(line), file=out, flush=True)

    runner.Stepper = Watched  # type: ignore[misc]


def main() -> None:
    """Be the host, or what describes its environment."""
    out, module, name, *arguments = sys.argv[1:]
    if (module, name) != ("-m", "jarvis_core.host"):
        sys.exit(f"stepped_host.py cannot run {module} {name}")
    # As a script this file's folder comes first, where other files have names of the library's.
    sys.path = [*sys.path[1:], sys.path[0]]
    from jarvis_core.host.__main__ import main as host

    sys.argv = [name, *arguments]
    with Path(out).open("a") as file:
        if "--describe" not in arguments:
            watch(file)
        host()


if __name__ == "__main__":
    main()

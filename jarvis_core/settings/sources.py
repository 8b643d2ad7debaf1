"""The files that settings come from, read but not yet understood."""

from __future__ import annotations

import io
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jarvis_core.errors import SettingError
from jarvis_core.settings.values import DOTENV_FILE, RawValue

_NEWLINE = re.compile(r"\r\n|\n|\r")


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; none where there is no file.

    Raises:
        SettingError: It cannot be read, or is no TOML; the message has the position.
    """
    text = _read(path)
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise SettingError(f"{path}: not valid TOML: {error}") from error
    except RecursionError:
        raise SettingError(f"{path}: not valid TOML: nested too deeply") from None


def read_dotenv(
    path: Path, is_ours: Callable[[str], bool]
) -> tuple[dict[str, RawValue], list[str]]:
    """The variables of a ``.env`` file, and warnings about it.

    Values are taken as they stand, without interpolation: a key may hold a ``$``.

    Args:
        path: The file; it need not exist.
        is_ours: Whether a name is a setting of Jarvis. The file may serve other programs too: what
            is wrong with their lines is passed over.

    Raises:
        SettingError: The file cannot be read, or a line of ours makes no sense.
    """
    # Imported here: `jarvis --version` needs none of it.
    from dotenv.parser import parse_stream

    values: dict[str, RawValue] = {}
    warnings = []
    text = _read(path, or_directory=True)  # a virtual environment may have the name .env
    for binding in parse_stream(io.StringIO(text, newline="")):
        written = binding.original.string
        blank = written[: len(written) - len(written.lstrip())]
        line = binding.original.line + len(_NEWLINE.findall(blank))
        origin = f"{DOTENV_FILE} line {line}"
        if binding.error:
            if any(map(is_ours, re.findall(r"\w+", written))):
                # The text of the line may hold a key: it is not repeated.
                raise SettingError(
                    f"{path} line {line}: not NAME=value; is a quotation mark left open?"
                )
            continue
        if binding.key is None or binding.value is None:
            continue
        if binding.key in values and is_ours(binding.key):
            before = values[binding.key].origin
            warnings.append(f"{binding.key} ({before}) has no effect: {origin} sets it again")
        values[binding.key] = RawValue(value=binding.value, origin=origin)
    return values, warnings


def _read(path: Path, *, or_directory: bool = False) -> str:
    """The text of a file, empty where there is none, or with ``or_directory`` a directory."""
    try:
        none = not path.exists() or (or_directory and path.is_dir())
        data = b"" if none else path.read_bytes()
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise SettingError(f"{path}: cannot be read: {error.strerror}") from error

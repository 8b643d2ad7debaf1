"""Tables for the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH = 200


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table to standard output; cells are folded, but for the first of a row."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, heading in enumerate(headings):
        table.add_column(heading, overflow="fold", no_wrap=i == 0)
    for row in rows:
        table.add_row(*map(_cell, row))
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    Console(width=wide, highlight=False).print(table)


def _cell(text: str) -> Text:
    # Text, so that brackets are no markup; bytes that were no UTF-8 cannot be printed as they are.
    return Text(text.encode("utf-8", "backslashreplace").decode())

"""The command line ``jarvis``: one file per command, imported when it is called."""

from jarvis_core.cli.program import main

__all__ = ["main"]

"""``python -m jarvis_core`` is ``jarvis``."""

from jarvis_core.cli import main

main()

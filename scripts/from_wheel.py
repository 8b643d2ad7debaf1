"""Fails unless the named packages come from installed wheels, not from this checkout."""

import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

SITE = Path(sysconfig.get_path("purelib")).resolve()


def origin(package: str) -> str:
    """Where the package would be imported from."""
    spec = find_spec(package)
    return str(spec.origin) if spec else "nowhere"


sys.path.pop(0)  # the folder of this file; what counts is what a test would import
found = {package: origin(package) for package in sys.argv[1:]}
wrong = [
    f"{p} would be imported from {o}, not {SITE}"
    for p, o in found.items()
    if SITE not in Path(o).resolve().parents
]
sys.exit("\n".join(wrong) or 0)

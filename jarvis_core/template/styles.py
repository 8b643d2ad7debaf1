"""The ways to write calls of tools that are known by what a template holds."""

from __future__ import annotations

from jarvis_core.template.json_styles import JSON_STYLES
from jarvis_core.template.named_styles import PYTHONIC_STYLES, TAGGED_STYLES

STYLES = (*JSON_STYLES, *TAGGED_STYLES, *PYTHONIC_STYLES)
"""The first that fits is the one."""

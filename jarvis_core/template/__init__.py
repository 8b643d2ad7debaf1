"""The built-in chat format: the model's own Jinja template."""

from jarvis_core.template.format import TemplateFormat

__all__ = ["TemplateFormat"]

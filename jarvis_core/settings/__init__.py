"""Settings: attrs classes, and where their values come from.

Precedence: command line > environment > ``.env`` > ``jarvis.toml`` > default. What a model's own
section in ``jarvis.toml`` says beats ``JARVIS_<ENGINE>_*``, wherever those come from: they set the
defaults of every model on that engine. Where ``jarvis.toml`` has models and
``JARVIS_MODEL_NAME`` is set too, all of them are served.
"""

from jarvis_core.settings.fields import Setting, setting, settings_of
from jarvis_core.settings.loader import Settings, load_settings, read_settings
from jarvis_core.settings.model import ModelConfig
from jarvis_core.settings.server import ServerSettings
from jarvis_core.settings.structuring import structure_settings
from jarvis_core.settings.values import SettingValue

__all__ = [
    "ModelConfig",
    "ServerSettings",
    "Setting",
    "SettingValue",
    "Settings",
    "load_settings",
    "read_settings",
    "setting",
    "settings_of",
    "structure_settings",
]

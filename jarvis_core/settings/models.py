"""The configured models: those of ``jarvis.toml``, and the one that variables describe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jarvis_core.errors import SettingError
from jarvis_core.settings.engines import InstalledEngines
from jarvis_core.settings.fields import settings_of
from jarvis_core.settings.model import (
    BUILT_IN_ENGINE,
    BUILT_IN_MODEL,
    ModelConfig,
    SingleModel,
    absolute_path,
    absolute_source,
    expanded,
    id_of_source,
)
from jarvis_core.settings.sampling import SAMPLING_PREFIX, SamplingSettings
from jarvis_core.settings.structuring import build, structure_settings, structure_values
from jarvis_core.settings.values import DEFAULT, TOML_FILE, SettingValue, bad_value

_SECTION = tuple(s for s in settings_of(ModelConfig) if s.name != "name")
_OWN_SECTIONS = ("sampling", "settings")
"""Keys whose values are sections of their own."""


def models_of_file(
    sections: Mapping[str, Any], *, directory: Path, engine: str, engines: InstalledEngines
) -> list[ModelConfig]:
    """The models of ``jarvis.toml``.

    Args:
        sections: The table ``models``.
        directory: Where the file lies.
        engine: Engine of models that name none.
        engines: What is installed.

    Raises:
        SettingError: A section has a name or a value that is not allowed, or lacks one.
        PluginError: A model's engine is not installed.
    """
    return [
        _model_of_section(name, section, directory, engine, engines)
        for name, section in sections.items()
    ]


def _model_of_section(
    name: str, section: Any, directory: Path, engine: str, engines: InstalledEngines
) -> ModelConfig:
    where = f"{TOML_FILE} [models.{name}]"
    if not isinstance(section, Mapping):
        raise SettingError(f"{where}: must be a table with a source, not {section!r}")
    own = {key: value for key, value in section.items() if key != "sampling"}
    values: dict[str, Any] = {
        "name": name,
        "engine": engine,
        **structure_values(_SECTION, own, where=where),
    }
    if "source" in values:
        if not values["source"].strip():
            raise bad_value("source", values["source"], where, "must be a path or a hub id")
        values["source"] = absolute_source(values["source"], directory)
    python = values.get("python")
    if python and "/" in python:
        values["python"] = absolute_path(python, directory)
    if template := values.get("chat_template"):
        values["chat_template"] = absolute_path(template, directory)
    values["adapters"] = {
        adapter: absolute_path(path, directory)
        for adapter, path in values.get("adapters", {}).items()
    }
    values["settings"] = engines.merge(
        values["engine"],
        values.get("settings", {}),
        where=f"{TOML_FILE} [models.{name}.settings]",
        elsewhere=bool(python),
    )
    values["sampling"] = _sampling_of_section(name, section)
    if not python:
        engines.check_sampling(
            values["engine"], values["sampling"], where=f"{TOML_FILE} [models.{name}.sampling]"
        )
    return build(ModelConfig, values, where=where)  # type: ignore[no-any-return]


def _sampling_of_section(name: str, section: Mapping[str, Any]) -> SamplingSettings:
    sampling, where = section.get("sampling", {}), f"{TOML_FILE} [models.{name}"
    if not isinstance(sampling, Mapping):
        raise bad_value("sampling", sampling, f"{where}]", "must be a table")
    return structure_settings(  # type: ignore[no-any-return]
        SamplingSettings, sampling, where=f"{where}.sampling]"
    )


def single_model(
    single: SingleModel, sampling: SamplingSettings, *, alone: bool, engines: InstalledEngines
) -> ModelConfig | None:
    """The model that variables describe.

    Args:
        single: What the variables say.
        sampling: What they say of its sampling.
        alone: Whether ``jarvis.toml`` has no models; then there is one even if none is named.
        engines: What is installed.

    Raises:
        PluginError: Its engine is not installed.
        SettingError: No model is named and the engine has none built in, or its engine cannot
            sample like that.
    """
    engine = single.inference_engine
    source = single.model_name
    if source is None:
        if not alone:
            return None
        engines.check(engine)
        if engine != BUILT_IN_ENGINE:
            raise SettingError(
                f"JARVIS_MODEL_NAME is not set: engine {engine!r} has no model of its own;"
                " set JARVIS_MODEL_NAME to the path or hub id of one"
            )
        source = BUILT_IN_MODEL
    name = single.model_id or id_of_source(source)
    settings = engines.merge(engine, {}, where=f"settings of engine {engine}", elsewhere=False)
    engines.check_sampling(engine, sampling, where=f"{SAMPLING_PREFIX}*")
    return ModelConfig(
        name=name,
        source=expanded(source),
        engine=engine,
        chat_format=single.model_chat_format,
        chat_template=single.model_chat_template and expanded(single.model_chat_template),
        aliases=() if source == name else (source,),
        context_length=single.model_context_window,
        sampling=sampling,
        settings=settings,
    )


def without_effect(values: Iterable[SettingValue]) -> list[str]:
    """Warnings about variables of the single model where ``jarvis.toml`` names the models.

    Args:
        values: The variables of the single model.
    """
    return [
        f"{value.name} ({value.origin}) has no effect: {TOML_FILE} names the models"
        " and JARVIS_MODEL_NAME is not set"
        for value in values
        if value.origin != DEFAULT and value.name != "JARVIS_INFERENCE_ENGINE"
    ]


def by_name(models: Iterable[ModelConfig]) -> dict[str, ModelConfig]:
    """The models by name.

    Raises:
        SettingError: A name is empty or has control characters, or two models claim one name.
    """
    owners: dict[str, ModelConfig] = {}
    found: dict[str, ModelConfig] = {}
    for model in models:
        for name in {model.name: None, **dict.fromkeys((*model.aliases, *model.adapters))}:
            if not name.strip() or not name.isprintable():
                raise SettingError(
                    f"model {model.source!r} cannot be called {name!r}: a name needs letters,"
                    " and no line breaks; set JARVIS_MODEL_ID, or the section's name in"
                    f" {TOML_FILE}"
                )
            if name in owners:
                raise SettingError(
                    f"two models are called {name!r}: {owners[name].source} and {model.source};"
                    f" change a section's name or its aliases in {TOML_FILE}, or JARVIS_MODEL_ID"
                )
            owners[name] = model
        found[model.name] = model
    return found


def model_values(
    model: ModelConfig, section: Mapping[str, Any], engines: InstalledEngines
) -> list[SettingValue]:
    """What ``jarvis settings`` shows of a model of ``jarvis.toml``.

    Args:
        model: The model.
        section: Its section.
        engines: What is installed.
    """
    prefix = f"models.{model.name}"
    origin = f"{TOML_FILE} [{prefix}]"
    values = [
        SettingValue(
            name=f"{prefix}.{s.name}",
            value=getattr(model, s.name),
            origin=origin if s.name in section else DEFAULT,
            help=s.help,
        )
        for s in _SECTION
        if s.name not in _OWN_SECTIONS
    ]
    values += [
        SettingValue(
            name=f"{prefix}.sampling.{s.name}",
            value=getattr(model.sampling, s.name),
            origin=f"{TOML_FILE} [{prefix}.sampling]",
            help=s.help,
        )
        for s in settings_of(SamplingSettings)
        if s.name in section.get("sampling", {})
    ]
    for name in section.get("settings", {}):
        known = engines.setting(model.engine, name)
        values.append(
            SettingValue(
                name=f"{prefix}.settings.{name}",
                value=model.settings[name],
                origin=f"{TOML_FILE} [{prefix}.settings]",
                help=known.help if known else "",
                # Of an engine elsewhere nothing is known: what may be a key is not printed.
                secret=known.secret if known else True,
            )
        )
    return values

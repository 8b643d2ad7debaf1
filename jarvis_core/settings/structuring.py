"""From values as they were read to instances of settings classes: strict, and never guessing."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from jarvis_core.errors import SettingError
from jarvis_core.settings.fields import Setting, inner_type, item_type, members_of, settings_of
from jarvis_core.settings.values import RawValue, bad_value, nearest

if TYPE_CHECKING:
    from cattrs import Converter

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_WHOLE = re.compile(r"[+-]?[0-9]+")


def structure_settings(cls: type, values: Mapping[str, Any], *, where: str) -> Any:
    """An instance of a settings class from typed values; nothing is converted but lists.

    Args:
        cls: The settings class.
        values: By the settings' names, of the settings' own types.
        where: Where they come from, for messages: ``jarvis.toml [models.phi3.settings]``.

    Raises:
        SettingError: A name is unknown, or a value is not allowed or missing.
    """
    structured = structure_values(settings_of(cls), values, where=where)
    return build(cls, structured, where=where)


def structure_values(
    settings: Iterable[Setting], values: Mapping[str, Any], *, where: str
) -> dict[str, Any]:
    """The given values, checked, without an instance: what nobody set stays out.

    Raises:
        SettingError: A name is unknown, or a value is not allowed.
    """
    known = {setting.name: setting for setting in settings}
    check_names(values, known, where=where)
    return {
        name: structure_value(known[name], RawValue(value=value, origin=where, text=False), name)
        for name, value in values.items()
    }


def check_names(names: Iterable[str], known: Iterable[str], *, where: str) -> None:
    """Refuse a name that is not known.

    Raises:
        SettingError: It names the nearest known one, and all of them.
    """
    known = tuple(known)
    for name in names:
        if name not in known:
            raise SettingError(
                f"{where}: unknown setting {name!r}{nearest(name, known)}"
                f" (there are: {', '.join(known) or 'none'})"
            )


def structure_value(setting: Setting, raw: RawValue, name: str) -> Any:
    """One value, parsed if it is text, and checked.

    Args:
        setting: The setting that it is for.
        raw: The value as it was read.
        name: The setting's name in messages.

    Raises:
        SettingError: The value is not allowed; the message names setting, value, origin, allowed.
    """
    try:
        value = _parse(raw.value, setting) if raw.text else raw.value
        value = _converter().structure(value, setting.type)
    except Exception:  # cattrs raises what the type's own constructor raises
        allowed = False
    else:
        allowed = all(_in_bounds(item, setting) for item in _items(value))
    if not allowed:
        reason = f"must be {setting.allowed(text=raw.text)}"
        raise bad_value(name, raw.value, raw.origin, reason, secret=setting.secret)
    return value


def build(cls: type, values: Mapping[str, Any], *, where: str) -> Any:
    """An instance of a settings class from values that were checked one by one.

    Raises:
        SettingError: A value is missing, or the class's own validators refuse.
    """
    for setting in settings_of(cls):
        if setting.name not in values and setting.required:
            what = setting.help or f"must be {setting.allowed()}"
            raise SettingError(f"{where}: {setting.name} is missing: {what}")
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        # attrs' validators put more than the message into the arguments.
        reason = error.args[0] if error.args else type(error).__name__
        raise SettingError(f"{where}: {reason}") from error


def plain(value: Any) -> Any:
    """A value without attrs classes and enums, fit to travel and to be structured again."""
    return _converter().unstructure(value)


def _items(value: Any) -> Any:
    return value if isinstance(value, tuple | list | set | frozenset) else (value,)


def _in_bounds(value: Any, setting: Setting) -> bool:
    if value is None:
        return True
    if setting.choices and value not in setting.choices:
        return False
    if not isinstance(value, int | float):
        return True
    if setting.ge is not None and value < setting.ge:
        return False
    return setting.le is None or value <= setting.le


def _parse(text: str, setting: Setting) -> Any:
    """The typed value that a text from a variable stands for."""
    item = item_type(setting.type)
    if item is not None:
        parts = (part.strip() for part in text.split(","))
        return [_scalar(part, item, setting) for part in parts if part]
    return _scalar(text, inner_type(setting.type), setting)


def _scalar(text: str, tp: Any, setting: Setting) -> Any:
    choices = setting.choices or (get_args(tp) if get_origin(tp) is Literal else ())
    for choice in choices:
        if str(choice).casefold() == text.casefold():
            return choice
    if choices or tp is str:
        return text
    if tp is bool:
        return text.lower() in _TRUE if text.lower() in _TRUE | _FALSE else text
    if tp is int:
        return int(text) if _WHOLE.fullmatch(text) else text
    if tp is float:
        return float(text)
    for member in members_of(tp):
        value = _scalar(text, member, setting)
        if _fits(value, member):
            return value
    try:
        return json.loads(text)
    except ValueError:
        return text


def _fits(value: Any, tp: Any) -> bool:
    try:
        _converter().structure(value, tp)
    except Exception:  # as in structure_value
        return False
    return True


@functools.cache
def _converter() -> Converter:
    # Imported here: `jarvis --version` and plugins that only declare settings need no cattrs.
    from cattrs import Converter

    converter = Converter(forbid_extra_keys=True)
    for scalar in (bool, int, str):
        converter.register_structure_hook(scalar, _exactly)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook_factory(
        lambda tp: item_type(tp) is not None and inner_type(tp) is tp,
        lambda tp: functools.partial(_list, converter, tp),
    )
    converter.register_structure_hook_factory(
        lambda tp: bool(members_of(tp)),
        lambda tp: functools.partial(_union, converter, tp),
    )
    return converter


def _exactly(value: Any, tp: type) -> Any:
    if type(value) is not tp:
        raise TypeError(f"{value!r} is not of type {tp.__name__}")
    return value


def _number(value: Any, tp: type) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError(f"{value!r} is no finite number")
    return float(value)


def _union(converter: Converter, tp: Any, value: Any, _: Any) -> Any:
    """What the first member of the union that accepts the value makes of it."""
    if value is None and type(None) in get_args(tp):
        return None
    for member in members_of(tp):
        if _fits(value, member):
            return converter.structure(value, member)
    raise TypeError(f"{value!r} is none of {tp}")


def _list(converter: Converter, tp: Any, value: Any, _: Any) -> Any:
    """A list of items; a text or a table is none."""
    if not isinstance(value, tuple | list | set | frozenset):
        raise TypeError(f"{value!r} is no list")
    kind = get_origin(tp) or tp
    item: Any = item_type(tp)
    items = [converter.structure(v, item) for v in value]
    return kind(items) if kind in (list, set, frozenset) else tuple(items)

"""Turns JSON values into wire shapes, strictly: nothing is coerced, the first fault is named."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import attrs
import cattrs
from attrs import frozen
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ClassValidationError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn

from jarvis_core.errors import RequestError

T = TypeVar("T")


@frozen
class Between:
    """Bounds of a number, both allowed."""

    least: float
    greatest: float

    def check(self, value: Any) -> None:
        """Raise ``Fault`` for a number outside."""
        if not self.least <= value <= self.greatest:
            raise Fault(f"must be between {self.least} and {self.greatest}")


@frozen
class Length:
    """Bounds of a length in characters or items, both allowed."""

    least: int
    greatest: int

    def check(self, value: Any) -> None:
        """Raise ``Fault`` for a length outside."""
        size = len(value)
        if size < self.least:
            raise Fault("must not be empty")
        if size > self.greatest:
            raise Fault(f"is too long: {size}, at most {self.greatest}")


class Fault(ValueError):
    """What is wrong with a value: the message continues a sentence that begins with its path."""


def structurer(shape: type[T]) -> Callable[[Any], T]:
    """A function that gives a JSON value its shape. Making it takes long, calling it does not.

    The function raises ``RequestError`` if the value has not that shape; ``param`` is the path of
    the first fault.
    """
    hook = _converter.get_structure_hook(shape)

    def structure(value: Any) -> T:
        try:
            return cast(T, hook(value, shape))
        except (BaseValidationError, Fault) as error:
            path, message = _first_fault(error, "")
            raise RequestError(f"{path or 'the body'} {message}", param=path or None) from None

    return structure


def json_type(value: Any) -> str:
    """What a JSON value is, for messages."""
    for kind, name in _JSON_TYPES:
        if isinstance(value, kind):
            return name
    return "something else"


_JSON_TYPES: tuple[tuple[type, str], ...] = (
    (types.NoneType, "null"),
    (bool, "a boolean"),
    (int, "an integer"),
    (float, "a number"),
    (str, "a string"),
    (list, "an array"),
    (dict, "an object"),
)


# -- faults ----------------------------------------------------------------------------------


def _first_fault(error: BaseException, path: str) -> tuple[str, str]:
    """Path and message of the first fault in cattrs' tree of exceptions."""
    if isinstance(error, ClassValidationError | IterableValidationError):
        child = error.exceptions[0]
        for note in getattr(child, "__notes__", ()):
            if isinstance(note, AttributeValidationNote):
                path = f"{path}.{note.name}" if path else note.name
            elif isinstance(note, IterableValidationNote):
                path = f"{path}[{note.index}]"
        if isinstance(child, KeyError):
            return path, "is required"
        return _first_fault(child, path)
    return path, str(error) if isinstance(error, Fault) else "is not valid"


def _wrong_type(wanted: str, value: Any) -> Fault:
    return Fault(f"must be {wanted}, not {json_type(value)}")


# -- hooks -----------------------------------------------------------------------------------


def _text(value: Any, _: Any) -> str:
    if type(value) is not str:
        raise _wrong_type("a string", value)
    return value


def _integer(value: Any, _: Any) -> int:
    if type(value) is not int:
        raise _wrong_type("an integer", value)
    return value


def _number(value: Any, _: Any) -> float:
    if type(value) is not float and type(value) is not int:
        raise _wrong_type("a number", value)
    return float(value)


def _boolean(value: Any, _: Any) -> bool:
    if type(value) is not bool:
        raise _wrong_type("a boolean", value)
    return value


def _object(value: Any, _: Any) -> Mapping[str, Any]:
    if type(value) is not dict:
        raise _wrong_type("an object", value)
    return value


def _is_mapping(type_: Any) -> bool:
    origin = get_origin(type_)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _is_literal(type_: Any) -> bool:
    return get_origin(type_) is Literal


def _make_literal(type_: Any) -> Callable[[Any, Any], Any]:
    allowed = frozenset(get_args(type_))
    names = _one_of(get_args(type_))

    def hook(value: Any, _: Any) -> Any:
        if type(value) is not str:
            raise _wrong_type("a string", value)
        if value not in allowed:
            raise Fault(names)
        return value

    return hook


def _one_of(values: Iterable[Any]) -> str:
    first, *others = map(repr, values)
    return f"must be one of {', '.join((first, *others))}" if others else f"must be {first}"


def _is_tuple(type_: Any) -> bool:
    return get_origin(type_) is tuple


def _make_tuple(type_: Any, converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    """A list whose first bad item ends it: a million bad ones are not looked at."""
    item_type = get_args(type_)[0]
    item_hook = converter.get_structure_hook(item_type)

    def hook(value: Any, _: Any) -> Any:
        if type(value) is not list:
            raise _wrong_type("an array", value)
        items: list[Any] = []
        try:
            for item in value:
                items.append(item_hook(item, item_type))
        except Exception as error:
            error.add_note(IterableValidationNote("", len(items), item_type))
            raise IterableValidationError("", [error], type_) from None
        return tuple(items)

    return hook


def _make_shape(type_: Any, converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    inner = make_dict_structure_fn(type_, converter)

    def hook(value: Any, _: Any) -> Any:
        if type(value) is not dict:
            raise _wrong_type("an object", value)
        return inner(value, type_)

    return hook


def _is_union(type_: Any) -> bool:
    return get_origin(type_) in (Union, types.UnionType)


def _make_union(type_: Any, converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    """Chooses by JSON type; among shapes, by the one field whose literals tell them apart."""
    by_json: dict[type, Callable[[Any], Any]] = {}
    shapes, arrays = [], []
    for member in get_args(type_):
        if member is types.NoneType:
            by_json[types.NoneType] = lambda value: None
        elif attrs.has(member):
            shapes.append(member)
        elif list in _json_types_of(member):
            arrays.append(member)
        else:
            for kind in _json_types_of(member):
                by_json[kind] = _bound(converter.get_structure_hook(member), member)
    if shapes:
        by_json[dict] = _choose_shape(shapes, converter)
    if arrays:
        by_json[list] = _choose_array(arrays, converter)
    wanted = " or ".join(
        name
        for kind, name in _JSON_TYPES
        if kind in by_json
        and kind is not types.NoneType
        and (kind, float in by_json) != (int, True)
    )

    def hook(value: Any, _: Any) -> Any:
        chosen = by_json.get(type(value))
        if chosen is None:
            raise _wrong_type(wanted, value)
        return chosen(value)

    return hook


def _bound(hook: Callable[[Any, Any], Any], type_: Any) -> Callable[[Any], Any]:
    return lambda value: hook(value, type_)


def _json_types_of(type_: Any) -> Iterable[type]:
    if get_origin(type_) is Annotated:
        return _json_types_of(get_args(type_)[0])
    if type_ is float:
        return (float, int)
    if _is_literal(type_):
        return (str,)
    if _is_tuple(type_):
        return (list,)
    if get_origin(type_) is not None:
        return (dict,)
    return (type_,)


def _choose_array(arrays: list[Any], converter: cattrs.Converter) -> Callable[[Any], Any]:
    """Chooses by the JSON type of the first item; the first array where there is none."""
    hooks = [_bound(converter.get_structure_hook(member), member) for member in arrays]
    by_item = {
        kind: hook
        for member, hook in reversed(list(zip(arrays, hooks, strict=True)))
        for kind in _json_types_of(_item_type(member))
    }

    def choose(value: list[Any]) -> Any:
        first = type(value[0]) if value else types.NoneType
        return by_item.get(first, hooks[0])(value)

    return choose


def _item_type(type_: Any) -> Any:
    return _item_type(get_args(type_)[0]) if _is_bounded(type_) else get_args(type_)[0]


def _choose_shape(shapes: list[type], converter: cattrs.Converter) -> Callable[[Any], Any]:
    hooks = {shape: converter.get_structure_hook(shape) for shape in shapes}
    if len(shapes) == 1:
        (shape,) = shapes
        return lambda value: hooks[shape](value, shape)
    tag = attrs.fields(shapes[0])[0].name
    by_tag = {
        literal: shape
        for shape in shapes
        for literal in get_args(attrs.fields_dict(attrs.resolve_types(shape))[tag].type)
    }
    names = _one_of(by_tag)

    def choose(value: dict[str, Any]) -> Any:
        if tag not in value:
            raise _at(tag, shapes[0], Fault("is required"))
        chosen = value[tag]
        shape = by_tag.get(chosen) if type(chosen) is str else None
        if shape is None:
            raise _at(tag, shapes[0], Fault(names))
        return hooks[shape](value, shape)

    return choose


def _at(name: str, shape: type, fault: Fault) -> ClassValidationError:
    fault.add_note(AttributeValidationNote("", name, str))
    return ClassValidationError("", [fault], shape)


def _is_bounded(type_: Any) -> bool:
    return get_origin(type_) is Annotated


def _make_bounded(type_: Any, converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    inner_type, *bounds = get_args(type_)
    inner = converter.get_structure_hook(inner_type)
    checks = [bound.check for bound in bounds]
    is_tuple = _is_tuple(inner_type)

    def hook(value: Any, _: Any) -> Any:
        if is_tuple and type(value) is list:  # before the items: there may be a million
            for check in checks:
                check(value)
        structured = inner(value, inner_type)
        if not is_tuple:
            for check in checks:
                check(structured)
        return structured

    return hook


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=True)
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook(int, _integer)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(bool, _boolean)
    converter.register_structure_hook(Any, lambda value, _: value)
    converter.register_structure_hook_factory(attrs.has, _make_shape)
    converter.register_structure_hook_factory(_is_mapping, lambda t: _object)
    converter.register_structure_hook_factory(_is_literal, _make_literal)
    converter.register_structure_hook_factory(_is_tuple, _make_tuple)
    converter.register_structure_hook_factory(_is_union, _make_union)
    converter.register_structure_hook_factory(_is_bounded, _make_bounded)
    return converter


_converter = _make_converter()

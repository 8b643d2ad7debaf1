from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Literal

import pytest
from attrs import frozen

from jarvis_core import SettingError, setting
from jarvis_core.settings import Setting, settings_of, structure_settings
from jarvis_core.settings.structuring import structure_value
from jarvis_core.settings.values import RawValue


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@frozen(kw_only=True)
class Inner:
    depth: int = 1


@frozen(kw_only=True)
class Example:
    whole: int = setting(default=1, ge=1, le=9, help="A number")
    number: float = setting(default=0.5, ge=0, help="A number")
    flag: bool = setting(default=False, help="A switch")
    text: str = setting(default="", help="A text")
    maybe: int | None = setting(default=None, help="A number or none")
    names: tuple[str, ...] = setting(default=(), help="Texts")
    sizes: list[int] = setting(factory=list, help="Numbers")
    parts: Sequence[float] = setting(default=(), help="Numbers")
    level: str = setting(default="low", choices=("low", "high"), help="A choice")
    mode: Literal["on", "off"] = setting(default="on", help="A choice")
    split: int = setting(default=1, choices=(1, 2), help="A choice")
    colour: Colour = setting(default=Colour.RED, help="A choice")
    table: Mapping[str, Any] = setting(factory=dict, help="Anything by name")
    inner: Inner = setting(default=Inner(), help="A nested one")
    layers: int | Literal["auto"] | None = setting(default=None, ge=0, help="One of two kinds")


SETTINGS = {s.name: s for s in settings_of(Example)}


def typed(**values: Any) -> Any:
    return structure_settings(Example, values, where="here")


def text(name: str, value: str) -> Any:
    return structure_value(SETTINGS[name], RawValue(value=value, origin="environment"), name)


@pytest.mark.parametrize(
    ("name", "value", "result"),
    [
        ("whole", 9, 9),
        ("number", 2, 2.0),
        ("flag", True, True),
        ("maybe", None, None),
        ("maybe", 3, 3),
        ("names", ["a", "b"], ("a", "b")),
        ("names", ("a",), ("a",)),
        ("sizes", [1, 2], [1, 2]),
        ("parts", [1, 0.5], (1.0, 0.5)),
        ("level", "high", "high"),
        ("mode", "off", "off"),
        ("split", 2, 2),
        ("colour", "blue", Colour.BLUE),
        ("table", {"a": {"b": [1]}}, {"a": {"b": [1]}}),
        ("inner", {"depth": 3}, Inner(depth=3)),
        ("layers", 3, 3),
        ("layers", "auto", "auto"),
        ("layers", None, None),
    ],
)
def test_typed_values_that_are_allowed(name, value, result):
    structured = getattr(typed(**{name: value}), name)
    assert structured == result
    assert type(structured) is type(result)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("whole", "5", "a whole number from 1 to 9"),
        ("whole", 5.0, "a whole number from 1 to 9"),
        ("whole", True, "a whole number from 1 to 9"),
        ("whole", 0, "a whole number from 1 to 9"),
        ("whole", 10, "a whole number from 1 to 9"),
        ("whole", None, "a whole number from 1 to 9"),
        ("number", "0.5", "a number of at least 0"),
        ("number", True, "a number of at least 0"),
        ("number", float("nan"), "a number of at least 0"),
        ("number", float("inf"), "a number of at least 0"),
        ("number", -0.1, "a number of at least 0"),
        ("number", 10**400, "a number of at least 0"),
        ("flag", "false", "true or false"),
        ("flag", 0, "true or false"),
        ("text", 5, "text"),
        ("text", ["a"], "text"),
        ("maybe", "3", "a whole number"),
        ("names", "ab", "a list of texts"),
        ("names", [1], "a list of texts"),
        ("names", {"a": 1}, "a list of texts"),
        ("sizes", ["1"], "a list of whole numbers"),
        ("level", "LOW", "one of: low, high"),
        ("mode", "maybe", "one of: on, off"),
        ("split", 3, "one of: 1, 2"),
        ("split", True, "one of: 1, 2"),
        ("colour", "green", "one of: red, blue"),
        ("table", [1], "a table"),
        ("table", "a", "a table"),
        ("inner", {"width": 3}, "a table"),
        ("inner", 3, "a table"),
        ("layers", "3", "a whole number of at least 0, or one of: auto"),
        ("layers", -1, "a whole number of at least 0, or one of: auto"),
    ],
)
def test_typed_values_that_are_not(name, value, allowed):
    with pytest.raises(SettingError) as caught:
        typed(**{name: value})
    assert caught.value.message.startswith(f"{name} is ")
    assert caught.value.message.endswith(f" (here): must be {allowed}")


@pytest.mark.parametrize(
    ("name", "value", "result"),
    [
        ("whole", "5", 5),
        ("whole", "+05", 5),
        ("number", "1e-3", 0.001),
        ("flag", "TRUE", True),
        ("flag", "on", True),
        ("flag", "false", False),
        ("flag", "0", False),
        ("flag", "No", False),
        ("text", "false", "false"),
        ("maybe", "3", 3),
        ("names", "a, b,,c ,", ("a", "b", "c")),
        ("sizes", "1,2", [1, 2]),
        ("level", "High", "high"),
        ("mode", "OFF", "off"),
        ("split", "2", 2),
        ("colour", "blue", Colour.BLUE),
        ("table", '{"a": [1]}', {"a": [1]}),
        ("inner", '{"depth": 3}', Inner(depth=3)),
        ("layers", "3", 3),
        ("layers", "Auto", "auto"),
    ],
)
def test_text_values_that_are_allowed(name, value, result):
    assert text(name, value) == result


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("whole", "5.0", "a whole number from 1 to 9"),
        ("whole", "1_0", "a whole number from 1 to 9"),
        ("whole", "٣", "a whole number from 1 to 9"),
        ("whole", "9" * 5000, "a whole number from 1 to 9"),
        ("number", "nan", "a number of at least 0"),
        ("number", "much", "a number of at least 0"),
        ("flag", "maybe", "true or false"),
        ("maybe", "none", "a whole number"),
        ("sizes", "1,b", "whole numbers separated by commas"),
        ("level", "medium", "one of: low, high"),
        ("split", "3", "one of: 1, 2"),
        ("colour", "green", "one of: red, blue"),
        ("table", "a=1", "a JSON object"),
        ("table", "[1]", "a JSON object"),
        ("layers", "all", "a whole number of at least 0, or one of: auto"),
        ("layers", "-1", "a whole number of at least 0, or one of: auto"),
    ],
)
def test_text_values_that_are_not(name, value, allowed):
    with pytest.raises(SettingError) as caught:
        text(name, value)
    assert caught.value.message.endswith(f" (environment): must be {allowed}")


def test_an_unknown_name_is_refused_with_the_nearest_and_all():
    with pytest.raises(SettingError) as caught:
        structure_settings(Inner, {"deph": 1}, where="here")
    assert (
        caught.value.message
        == "here: unknown setting 'deph'; did you mean depth? (there are: depth)"
    )


def test_a_missing_value_is_named():
    @frozen(kw_only=True)
    class Needy:
        path: str = setting(help="A path")

    with pytest.raises(SettingError) as caught:
        structure_settings(Needy, {}, where="here")
    assert caught.value.message == "here: path is missing: A path"


def test_what_a_class_knows_of_its_fields():
    assert SETTINGS["whole"] == Setting(
        name="whole", type=int, default=1, help="A number", ge=1, le=9
    )
    assert SETTINGS["sizes"].default == []
    assert not SETTINGS["sizes"].required


def test_a_class_that_is_no_attrs_class_is_refused():
    with pytest.raises(TypeError, match="int is no attrs class"):
        settings_of(int)

"""Strict structuring: no coercion, and the path of the first fault."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pytest
from attrs import frozen

from jarvis_core.errors import RequestError
from jarvis_core.http.converter import Between, Length, structurer


@frozen(kw_only=True)
class Circle:
    kind: Literal["circle"]
    radius: Annotated[float, Between(0, 10)]


@frozen(kw_only=True)
class Square:
    kind: Literal["square", "box"]
    side: int


@frozen(kw_only=True)
class Drawing:
    name: Annotated[str, Length(1, 5)] = "x"
    shapes: tuple[Circle | Square, ...] = ()
    title: str | tuple[str, ...] | None = None
    closed: bool | None = None
    count: int | None = None
    extra: Mapping[str, Any] | None = None
    only: Circle | None = None
    few: Annotated[tuple[int, ...], Length(0, 2)] | None = None
    scale: float | None = None


structure = structurer(Drawing)


def fault(value: Any) -> tuple[str | None, str]:
    with pytest.raises(RequestError) as caught:
        structure(value)
    return caught.value.param, caught.value.message


def test_a_value_of_the_right_shape_is_structured() -> None:
    assert structure(
        {
            "shapes": [{"kind": "circle", "radius": 1}, {"kind": "box", "side": 2}],
            "title": ["a", "b"],
            "unknown": 1,
        }
    ) == Drawing(
        shapes=(Circle(kind="circle", radius=1.0), Square(kind="box", side=2)), title=("a", "b")
    )


def test_null_is_none_where_it_is_allowed() -> None:
    assert structure({"title": None, "closed": None, "only": None}) == Drawing()


@pytest.mark.parametrize(
    ("value", "param", "message"),
    [
        ({"name": 1}, "name", "name must be a string, not an integer"),
        ({"name": None}, "name", "name must be a string, not null"),
        ({"name": ""}, "name", "name must not be empty"),
        ({"name": "abcdef"}, "name", "name is too long: 6, at most 5"),
        ({"count": True}, "count", "count must be an integer, not a boolean"),
        ({"few": [True]}, "few[0]", "few[0] must be an integer, not a boolean"),
        ({"few": [1.0]}, "few[0]", "few[0] must be an integer, not a number"),
        (
            {"shapes": [{"kind": "circle", "radius": True}]},
            "shapes[0].radius",
            "shapes[0].radius must be a number, not a boolean",
        ),
        ({"count": "1"}, "count", "count must be an integer, not a string"),
        ({"count": 1.0}, "count", "count must be an integer, not a number"),
        ({"closed": "false"}, "closed", "closed must be a boolean, not a string"),
        ({"closed": 0}, "closed", "closed must be a boolean, not an integer"),
        ({"scale": False}, "scale", "scale must be a number, not a boolean"),
        ({"scale": "1"}, "scale", "scale must be a number, not a string"),
        ({"title": {}}, "title", "title must be a string or an array, not an object"),
        ({"title": ["a", None]}, "title[1]", "title[1] must be a string, not null"),
        ({"extra": []}, "extra", "extra must be an object, not an array"),
        ({"few": [1, 2, 3]}, "few", "few is too long: 3, at most 2"),
        ({"shapes": {}}, "shapes", "shapes must be an array, not an object"),
        ({"shapes": [1]}, "shapes[0]", "shapes[0] must be an object, not an integer"),
        ({"shapes": [{}]}, "shapes[0].kind", "shapes[0].kind is required"),
        (
            {"shapes": [{"kind": "x"}]},
            "shapes[0].kind",
            "shapes[0].kind must be one of 'circle', 'square', 'box'",
        ),
        (
            {"shapes": [{"kind": ["circle"]}]},
            "shapes[0].kind",
            "shapes[0].kind must be one of 'circle', 'square', 'box'",
        ),
        ({"shapes": [{"kind": "circle"}]}, "shapes[0].radius", "shapes[0].radius is required"),
        (
            {"shapes": [{"kind": "circle", "radius": 11}]},
            "shapes[0].radius",
            "shapes[0].radius must be between 0 and 10",
        ),
        ({"only": {"kind": "box"}}, "only.kind", "only.kind must be 'circle'"),
        ([], None, "the body must be an object, not an array"),
    ],
)
def test_the_first_fault_is_named_by_its_path(value: Any, param: str, message: str) -> None:
    assert fault(value) == (param, message)


def test_the_message_never_quotes_the_value() -> None:
    assert "secret" not in fault({"shapes": [{"kind": "secret"}]})[1]


def test_a_million_faults_cost_no_more_than_one() -> None:
    began = time.perf_counter()
    fault({"shapes": [1] * 1_000_000})
    fault({"few": ["x"] * 1_000_000})
    assert time.perf_counter() - began < 0.5


Lists = Annotated[tuple[tuple[int, ...], ...], Length(1, 2)]


@frozen(kw_only=True)
class Texts:
    texts: str | tuple[str, ...] | tuple[int, ...] | Lists


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", "a"),
        (["a", "b"], ("a", "b")),
        ([1, 2], (1, 2)),
        ([[1], [2, 3]], ((1,), (2, 3))),
        ([], ()),
    ],
)
def test_of_several_arrays_the_first_item_chooses(value: Any, expected: Any) -> None:
    assert structurer(Texts)({"texts": value}).texts == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["a", 1], "texts[1] must be a string, not an integer"),
        ([1, "a"], "texts[1] must be an integer, not a string"),
        ([[1], 2], "texts[1] must be an array, not an integer"),
        ([[1, "a"]], "texts[0][1] must be an integer, not a string"),
        ([[1], [1], [1]], "texts is too long: 3, at most 2"),
        ([True], "texts[0] must be a string, not a boolean"),
        ([None], "texts[0] must be a string, not null"),
        (1, "texts must be a string or an array, not an integer"),
    ],
)
def test_the_fault_in_one_of_several_arrays_is_named(value: Any, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        structurer(Texts)({"texts": value})
    assert caught.value.message == message

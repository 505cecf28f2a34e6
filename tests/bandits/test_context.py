"""Declared features: what becomes of a request's context."""

from typing import Any

import pytest

from bandits.context import Category, ContextInvalid, ContextSchema, Number

SCHEMA = ContextSchema((Number("age", 20, 70), Category("country", ("KR", "US"))))


def test_columns__line_up_with_the_vector() -> None:
    assert SCHEMA.columns == ("constant", "age", "country=KR", "country=US", "country=unknown")
    assert SCHEMA.features == len(SCHEMA.encode({})) == 5
    assert SCHEMA.encode_all([{"age": 20}, None]).shape == (2, 5)
    assert SCHEMA.encode_all([]).shape == (0, 5)


@pytest.mark.parametrize(
    ("context", "vector"),
    [
        ({"age": 45, "country": "US"}, [1, 0.5, 0, 1, 0]),
        ({"age": 20.0, "country": "KR"}, [1, 0, 1, 0, 0]),
        ({"age": 1000}, [1, 1, 0, 0, 1]),
        ({"age": -5, "country": "FR"}, [1, 0, 0, 0, 1]),
        ({"age": None, "country": None, "other": [1]}, [1, 0.5, 0, 0, 1]),
        (None, [1, 0.5, 0, 0, 1]),
    ],
)
def test_encode__numbers_are_scaled_and_clipped__categories_one_hot(context: Any, vector: list[float]) -> None:
    assert SCHEMA.encode(context).tolist() == pytest.approx(vector)


@pytest.mark.parametrize(
    ("context", "field"), [({"age": "45"}, "age"), ({"age": True}, "age"), ({"country": 82}, "country")]
)
def test_encode__wrong_type__names_the_field(context: dict[str, Any], field: str) -> None:
    with pytest.raises(ContextInvalid) as caught:
        SCHEMA.encode(context)
    assert caught.value.field == field


def test_schema__impossible__is_refused() -> None:
    for wrong in (
        lambda: Number("a", 1, 1),
        lambda: Category("a", ()),
        lambda: Category("a", ("x", "x")),
        lambda: ContextSchema((Number("a", 0, 1), Category("a", ("x",)))),
    ):
        with pytest.raises(ValueError, match=r"a: |twice"):
            wrong()


def test_schema__from_a_document__is_the_same() -> None:
    document = [
        {"name": "age", "type": "number", "min": 20, "max": 70},
        {"name": "country", "type": "category", "values": ["KR", "US"]},
    ]
    assert ContextSchema.from_document(document) == SCHEMA


@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_encode__whole_number_that_no_double_holds__is_no_number(value: int) -> None:
    with pytest.raises(ContextInvalid, match="double precision"):
        SCHEMA.encode({"age": value})


@pytest.mark.parametrize(("value", "scaled"), [(-1.7e308, 0.0), (0.0, 0.5), (1.7e308, 1.0), (1.79e308, 1.0)])
def test_encode__bounds_whose_difference_is_no_double__are_scaled_all_the_same(value: float, scaled: float) -> None:
    schema = ContextSchema((Number("far", -1.7e308, 1.7e308),))
    assert schema.encode({"far": value}).tolist() == [1.0, pytest.approx(scaled)]

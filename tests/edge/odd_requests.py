"""What no decision may say of its request, in Python's own values: each is refused where the
decision is made, by devices and packages alike, and by the platform where one tells it all the
same."""

from typing import Any

_DEEP: dict[str, Any] = {}
_inner = _DEEP
for _ in range(40):
    _inner["a"] = {}
    _inner = _inner["a"]

ODD: list[tuple[dict[str, Any], str]] = [
    ({"unit": "a\0b"}, "unit"),
    ({"unit": "\ud800"}, "unit"),
    ({"unit": ""}, "unit"),
    ({"unit": "x" * 257}, "unit"),
    ({"unit": 5}, "unit"),
    ({"request_id": "\0"}, "request_id"),
    ({"request_id": "r" * 999}, "request_id"),
    ({"request_id": 5}, "request_id"),
    ({"context": [1]}, "context"),
    ({"context": {1: 1}}, "context"),
    ({"context": {"a": float("nan")}}, "context"),
    ({"context": {"a": float("inf")}}, "context"),
    ({"context": {"a": {}}}, "context"),
    ({"context": _DEEP}, "context"),
    ({"context": {"a\0": 1}}, "context"),
    ({"context": {"a": "\ud800"}}, "context"),
    ({"context": {"a": 10**30}}, "context"),
    ({"context": {"a": 10**400}}, "context"),
    ({"context": {"a": "x" * 1_200_000}}, "context"),
    ({"exclude": "a"}, "exclude"),
    ({"exclude": ["V1 !!"]}, "exclude"),
    ({"exclude": [5]}, "exclude"),
    ({"exclude": ["n"] * 1001}, "exclude"),
]
"""A request's fields, and the one that is wrong."""
ODD_VALUES: list[Any] = [float("nan"), "0", 0.5, 2, None, 10**400, -1]
"""What no binary reward can be."""
ODD_METRICS: list[Any] = ["bad metric!", "\0", "x" * 999, 5, ""]

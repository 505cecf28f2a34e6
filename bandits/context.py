"""Features of a request, as declared: from a context's fields to the vector that contextual
policies learn from.

The vector begins with a constant 1. A number is scaled to [0, 1] by its declared bounds and clipped
there; a category is one-hot, with one more column for whatever was not declared. What is missing is
the middle of a number's range, and the unknown level of a category: a request is answered whatever
its caller knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .statistics import Array

_MIDDLE = 0.5


class ContextInvalid(ValueError):
    """A declared field has a value of the wrong type. `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class Number:
    """A number between `minimum` and `maximum`."""

    name: str
    minimum: float
    maximum: float

    def __post_init__(self) -> None:
        if not self.minimum < self.maximum:
            raise ValueError(f"{self.name}: min must be less than max")

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.name,)

    def encode(self, value: Any, out: list[float]) -> None:
        if value is None:
            out.append(_MIDDLE)
            return
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ContextInvalid(self.name, "must be a number")
        try:
            # Halves, for the difference of two numbers of double precision may be none; they leave
            # every quotient as it was.
            scaled = (0.5 * value - 0.5 * self.minimum) / (0.5 * self.maximum - 0.5 * self.minimum)
        except OverflowError as error:
            raise ContextInvalid(self.name, "must be a number of double precision") from error
        out.append(min(max(scaled, 0.0), 1.0))


@dataclass(frozen=True, slots=True)
class Category:
    """One of `values`, or unknown."""

    name: str
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) < len(self.values):
            raise ValueError(f"{self.name}: different values were expected, at least one")

    @property
    def columns(self) -> tuple[str, ...]:
        return (*(f"{self.name}={value}" for value in self.values), f"{self.name}=unknown")

    def encode(self, value: Any, out: list[float]) -> None:
        if value is not None and not isinstance(value, str):
            raise ContextInvalid(self.name, "must be a text")
        out.extend(1.0 if value == level else 0.0 for level in self.values)
        out.append(0.0 if value in self.values else 1.0)


@dataclass(frozen=True, slots=True)
class ContextSchema:
    """The declared fields, in order."""

    fields: tuple[Number | Category, ...]

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        if len(set(names)) < len(names):
            raise ValueError("a field's name occurs twice")

    @classmethod
    def from_document(cls, fields: Sequence[Mapping[str, Any]]) -> "ContextSchema":
        """From `[{"name", "type": "number", "min", "max"} | {"name", "type": "category",
        "values"}]`."""
        return cls(
            tuple(
                Number(field["name"], float(field["min"]), float(field["max"]))
                if field["type"] == "number"
                else Category(field["name"], tuple(field["values"]))
                for field in fields
            )
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """A name for each position of the vector."""
        return ("constant", *(column for field in self.fields for column in field.columns))

    @property
    def features(self) -> int:
        """The length d of the vector."""
        return len(self.columns)

    def encode(self, context: Mapping[str, Any] | None) -> Array:
        """The vector (d,) of one request. Raises ContextInvalid."""
        given = context or {}
        out = [1.0]
        for field in self.fields:
            field.encode(given.get(field.name), out)
        return np.array(out)

    def encode_all(self, contexts: Sequence[Mapping[str, Any] | None]) -> Array:
        """The vectors (n, d) of many requests."""
        return np.array([self.encode(context) for context in contexts]).reshape(len(contexts), self.features)

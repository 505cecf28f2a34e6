"""An experiment's documents as its row keeps them, each decoded once into a frozen value, with
today's defaults where a row is of before.

What a caller may write is `document`'s, and was checked there. A row may say more than these types
know, for a later version may have written it: what is not known is passed over.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import msgspec
from msgspec import Struct

from bandits.policies.allocation import default_floor

from . import document as documents

if TYPE_CHECKING:
    from .models import Experiment

T = TypeVar("T")
_Document = TypeVar("_Document", bound=Struct)


class Policy(documents.Policy, frozen=True):
    """`floor` is a number by now; `floor_scales`: it was not given, and follows the number of
    arms."""

    floor: float = 0.01
    floor_scales: bool = False

    @classmethod
    def complete(cls, policy: documents.Policy, arms: int) -> "Policy":
        """A checked policy with its floor among so many arms."""
        floor = default_floor(arms) if policy.floor is None else policy.floor
        return cls(policy.name, policy.params, floor, policy.burn_in, policy.floor is None)

    def for_arms(self, arms: int) -> "Policy":
        """The same among so many arms: a floor that was not given follows their number."""
        return msgspec.structs.replace(self, floor=default_floor(arms)) if self.floor_scales else self

    @property
    def document(self) -> documents.Policy:
        """As a caller reads it."""
        return documents.Policy(self.name, self.params, self.floor, self.burn_in)


class Promotion(documents.Promotion, frozen=True):
    """`auto` is known by now."""

    auto: bool = False


def reward(row: Any) -> documents.Reward:
    return _read(documents.Reward, row)


def policy(row: Any) -> Policy | None:
    return None if row is None else _read(Policy, row)


def promotion(row: Any) -> Promotion:
    return _read(Promotion, {} if row is None else row)


def context(row: Any) -> documents.Context:
    fields = [] if row is None else row.get("fields", [])
    return documents.Context([_read(documents.Field, field) for field in fields])


def canary(row: Any) -> documents.Canary | None:
    return None if row is None else _read(documents.Canary, row)


def shadow(row: Any) -> documents.Shadow | None:
    return None if row is None else _read(documents.Shadow, row)


def guardrails(rows: Any) -> list[documents.Guardrail]:
    return [_read(documents.Guardrail, row) for row in rows]


def schedule(row: Any) -> documents.Schedule:
    return _read(documents.Schedule, {} if row is None else row)


def _read(kind: type[_Document], row: Any) -> _Document:
    """Raises msgspec.ValidationError for a row that somebody damaged."""
    if isinstance(row, dict):
        row = {name: row[name] for name in kind.__struct_fields__ if name in row}
    return msgspec.convert(row, kind)


class Decoded(Generic[T]):
    """A column of an experiment as a value: decoded when it is first read, and again after any
    change of the column, in place too."""

    def __init__(self, column: str, read: Callable[[Any], T]) -> None:
        self._column = column
        self._cached = f"_decoded_{column}"
        self._read = read

    @overload
    def __get__(self, experiment: None, owner: type["Experiment"]) -> "Decoded[T]": ...
    @overload
    def __get__(self, experiment: "Experiment", owner: type["Experiment"]) -> T: ...
    def __get__(self, experiment: "Experiment | None", owner: type["Experiment"]) -> "T | Decoded[T]":
        if experiment is None:
            return self
        row = getattr(experiment, self._column)
        cached: tuple[Any, T] | None = experiment.__dict__.get(self._cached)
        if cached is None or cached[0] != row:
            cached = deepcopy(row), self._read(row)
            experiment.__dict__[self._cached] = cached
        return cached[1]

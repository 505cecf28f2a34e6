"""The columns of a model's rows, as a caller names them: of any framework that takes them."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from noregret.registry.errors import DefinitionInvalid
from serving.runtimes import Column
from serving.runtimes.columns import Columns, ColumnType

MOST = 10_000


class GivenColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column of a model's rows; a row's value may be null where it is `nullable`."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    type: ColumnType = "number"
    nullable: bool = False


GivenColumns = Annotated[
    list[GivenColumn],
    msgspec.Meta(
        min_length=1,
        max_length=MOST,
        description="The columns of its rows in order, as JSON: a list of objects with name, type (number, integer, boolean, string) "
        "and nullable. Read from the model where it tells.",
    ),
]


def checked(given: Sequence[GivenColumn] | None) -> Columns | None:
    """Raises DefinitionInvalid for a name that two columns have."""
    if given is None:
        return None
    seen: dict[str, int] = {}
    for place, column in enumerate(given):
        first = seen.setdefault(column.name, place)
        if first != place:
            message = f"column {first} is called {column.name[:64]!r} too: each needs a name of its own"
            raise DefinitionInvalid(f"columns[{place}].name", message)
        if "\0" in column.name:
            raise DefinitionInvalid(f"columns[{place}].name", "holds NUL")
    return tuple(Column(column.name, column.type, column.nullable) for column in given)


def as_options(given: Sequence[GivenColumn] | None) -> dict[str, Any]:
    """What columns add to a version's content: others are another version."""
    return {} if given is None else {"columns": msgspec.to_builtins(given)}

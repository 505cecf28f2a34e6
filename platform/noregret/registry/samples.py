"""Rows that come along with a model: checked as JSON before anything is opened, and made rows of
the model once its columns are known."""

from collections.abc import Sequence
from typing import Any

import msgspec

from serving.runtimes.columns import Rows
from serving.runtimes.rows import RowsInvalid, to_rows

from .errors import DefinitionInvalid
from .frameworks.protocol import Signature

_NUMBERS = list[list[float] | dict[str, float]]


class SampleInvalid(ValueError):
    """The sample's rows are not the model's; the message says which and why."""


def check_sample(sample: Sequence[Any] | None) -> None:
    """Raises DefinitionInvalid for rows of unlike widths, and for what no column holds."""
    rows = sample or ()
    for i, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise DefinitionInvalid(f"sample[{i}]", f"{len(row)} values where the first row has {len(rows[0])}")
        values = row.items() if isinstance(row, dict) else enumerate(row)
        for place, value in values:
            if isinstance(value, list | dict):
                message = "a number, a boolean, a text or null was expected"
                raise DefinitionInvalid(f"sample[{i}][{place}]", message)


def sampled(sample: Sequence[Any], known: Signature) -> Rows:
    """The sample as the model's runtime takes it. Raises SampleInvalid."""
    try:
        rows = msgspec.convert(sample, _NUMBERS) if known.columns is None else sample
        return to_rows(rows, known)
    except msgspec.ValidationError as error:
        raise SampleInvalid(f"the sample does not fit: {error}") from error
    except RowsInvalid as error:
        told = error.errors[0]
        field = told["field"].replace("inputs", "sample", 1)
        raise SampleInvalid(f"the sample does not fit: {field}: {told['message']}") from error

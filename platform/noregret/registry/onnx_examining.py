"""Asks an ONNX model what it answers, in as little memory as an honest one needs. Runs only in the
inspecting child process."""

import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from serving.runtimes.columns import Column, Columns, Rows
from serving.runtimes.onnx_graph import OnnxRuntime
from serving.runtimes.rows import to_rows

from .address_space import mapped_bytes
from .frameworks.protocol import Signature
from .onnx_file import Refused

EXAMPLE_ROWS = 2
_ROWS = 32
_SEED = 20_261_126
_MEMORY_BYTES = 256 << 20
_TIMES_FILE = 12  # a file's weights are held, packed for multiplying, and copied on the way
_OFF = 1e-4
"""How far a row's numbers may be off where it is asked alone or among others, and from what was
`expected`: half of the digits that a float has."""


@contextmanager
def little_memory(file_bytes: int) -> Iterator[None]:
    """Inside, this process may grow by what an honest model of such a file takes."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    allowed = mapped_bytes() + _MEMORY_BYTES + _TIMES_FILE * file_bytes
    resource.setrlimit(resource.RLIMIT_AS, (allowed if before[0] < 0 else min(before[0], allowed), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def loaded(body: bytes, outputs: list[str]) -> OnnxRuntime:
    """Raises Refused."""
    try:
        return OnnxRuntime(body, outputs)
    except MemoryError:
        raise
    except Exception as error:  # the library's own exceptions have no common, public base
        raise Refused(f"can't be loaded: {_told(error)}") from error


def examples(runtime: OnnxRuntime, known: Signature, sample: Rows | None) -> list[list[Any]]:
    """Rows that it answers, alone as among others. Raises Refused."""
    if sample is not None:
        rows = sample
        try:
            together = runtime.predict(rows)
        except Exception as error:  # whatever a model raises
            raise Refused(f"does not answer the sample: {_told(error)}") from error
    else:
        rows = to_rows(_made(known), known)
        try:
            together = runtime.predict(rows)
        except Exception as error:
            raise Refused(f"answers no rows that were made for it, send some as `sample`: {_told(error)}") from error
    for name, values in together.items():
        if not isinstance(values, list) or len(values) != len(rows):
            raise Refused(f"its output {name} does not hold a value for each of {len(rows)} rows")
    for place in range(min(len(rows), 8)):
        try:
            alone = runtime.predict(rows[place : place + 1])
        except Exception as error:
            raise Refused(f"answers rows together and not one alone: {_told(error)}") from error
        for name, values in together.items():
            if not is_close(alone[name], values[place : place + 1]):
                raise Refused(f"its output {name} for a row depends on the rows beside it")
    kept = rows[:EXAMPLE_ROWS].tolist()
    return [[None if value != value else value for value in row] for row in kept]


def check_nulls(runtime: OnnxRuntime, columns: Columns, rows: Sequence[Sequence[Any]], known: Signature) -> None:
    """Each column that is said to be nullable takes null. Raises Refused."""
    for place, column in enumerate(columns):
        if not column.nullable:
            continue
        row = [None if i == place else value for i, value in enumerate(rows[0])]
        try:
            runtime.predict(to_rows([row], known))
        except Exception as error:
            raise Refused(f"takes no null in column {column.name[:64]!r}: {_told(error)}") from error


def check_expected(runtime: OnnxRuntime, sample: Rows, expected: Mapping[str, Any]) -> None:
    """What the original answered on the sample is what this answers. Raises Refused."""
    answers = runtime.predict(sample)
    for name, values in expected.items():
        if name not in answers:
            raise Refused(f"`expected` names {name[:64]!r}, and its outputs are {', '.join(answers)}")
        if not isinstance(values, list) or len(values) != len(answers[name]):
            raise Refused(f"`expected` has another number of values of {name[:64]} than the sample has rows")
        for row, (wanted, answer) in enumerate(zip(values, answers[name], strict=True)):
            if not is_close(answer, wanted):
                told = f"{str(answer)[:80]} where {str(wanted)[:80]} was expected"
                raise Refused(f"answers otherwise than `expected`: {name[:64]} of row {row} of the sample is {told}")


def is_close(one: Any, other: Any) -> bool:
    try:
        ours, theirs = np.asarray(one), np.asarray(other)
    except ValueError:
        return bool(one == other)
    if ours.shape != theirs.shape:
        return False
    if ours.dtype.kind in "iuf" and theirs.dtype.kind in "iuf" and "f" in ours.dtype.kind + theirs.dtype.kind:
        return bool(np.allclose(ours, theirs, rtol=_OFF, atol=_OFF))
    return bool((ours == theirs).all())


def _made(known: Signature) -> list[list[Any]]:
    generator = np.random.default_rng(_SEED)
    columns = known.columns or tuple(Column(f"x{place}") for place in range(known.features or 1))

    def value(column: Column) -> Any:
        match column.type:
            case "number":
                return float(generator.normal())
            case "integer":
                return int(generator.integers(0, 3))
            case "boolean":
                return bool(generator.random() < 0.5)
            case "string":
                return str(generator.choice(["a", "b", "unknown"]))

    return [[value(column) for column in columns] for _ in range(_ROWS)]


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')[:200]}"

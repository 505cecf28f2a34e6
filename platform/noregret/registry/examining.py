"""Asks a model what it answers, and holds what it compiles to against that. Runs only in the
inspecting child process."""

from dataclasses import replace
from typing import Any

import numpy as np

from serving.runtimes.columns import Columns, Rows, Table
from serving.runtimes.sklearn import SklearnRuntime

from .by_row import answers_by_row
from .check_rows import check_rows
from .check_tables import check_table, refused_nulls
from .column_signature import refusing_null
from .compiling import Compiled, compile_to_onnx
from .frameworks.protocol import Signature
from .original import Original

EXAMPLE_ROWS = 2
"""Rows that the model answers, kept with it: what it is warmed with wherever it is served."""


class NotAnswering(Exception):
    """The model answers no row, or not all of the sample; the message says why."""


def examine(
    estimator: Any, signature: Signature, sample: Rows | None, *, is_given: bool = False
) -> tuple[Signature, Compiled]:
    """The signature with rows that the model answers, and the model compiled or why not. Raises
    NotAnswering.

    `is_given`: did the caller name the columns? Of others, those that take no null are not
    nullable.
    """
    columns = signature.columns
    if columns is None:
        assert sample is None or isinstance(sample, np.ndarray)
        checks = check_rows(estimator, signature.features or 0, sample)
    else:
        checks = check_table(estimator, columns, sample)
    runtime = SklearnRuntime(estimator, signature.outputs, columns)
    original = Original(runtime, signature.outputs)
    answers = original.answers(checks.rows, named=0 if sample is None else len(sample))
    if sample is not None and answers.problem_row is not None and answers.problem_row < len(sample):
        raise NotAnswering(f"does not answer row {answers.problem_row} of the sample: {answers.problem}")
    if not len(answers.rows):
        rows = "row of numbers" if columns is None else "row of its columns"
        raise NotAnswering(f"answers no {rows} like those that it was fitted to: {answers.problem}")
    if columns is not None:
        refused = refused_nulls(original, answers, columns)
        if refused and is_given:
            place, problem = refused[0]
            name = columns[place].name[:64]
            raise NotAnswering(f"takes no null in column {name!r}, which `columns` calls nullable: {problem}")
        if refused:
            columns = refusing_null(columns, [place for place, _ in refused])
            return examine(estimator, replace(signature, columns=columns), sample, is_given=False)
    compiled = compile_to_onnx(estimator, signature, answers.joined(original.at_turns(answers, checks)))
    by_row = compiled.body is not None or answers_by_row(runtime, answers.rows)
    examples = _examples(answers.rows[:EXAMPLE_ROWS], columns)
    return replace(signature, example_rows=examples, sampled=sample is not None, by_row=by_row), compiled


def _examples(rows: Rows, columns: Columns | None) -> list[list[Any]]:
    if columns is None or isinstance(rows, Table):
        return rows.tolist()
    return [[None if value != value else value for value in row] for row in rows.tolist()]

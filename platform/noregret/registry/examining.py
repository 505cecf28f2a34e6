"""Asks a model what it answers, and holds what it compiles to against that. Runs only in the
inspecting child process."""

from dataclasses import replace
from typing import Any

from serving.runtimes.sklearn import SklearnRuntime

from .check_rows import check_rows
from .compiling import Compiled, compile_to_onnx
from .frameworks.protocol import Signature
from .original import Original
from .traces import Rows

EXAMPLE_ROWS = 2
"""Rows that the model answers, kept with it: what it is warmed with wherever it is served."""


class NotAnswering(Exception):
    """The model answers no row, or not all of the sample; the message says why."""


def examine(estimator: Any, signature: Signature, sample: Rows | None) -> tuple[Signature, Compiled]:
    """The signature with rows that the model answers, and the model compiled or why not. Raises
    NotAnswering."""
    checks = check_rows(estimator, signature.features or 0, sample)
    original = Original(SklearnRuntime(estimator, signature.outputs), signature.outputs)
    answers = original.answers(checks.rows, named=0 if sample is None else len(sample))
    if sample is not None and answers.problem_row is not None and answers.problem_row < len(sample):
        raise NotAnswering(f"does not answer row {answers.problem_row} of the sample: {answers.problem}")
    if not len(answers.rows):
        raise NotAnswering(f"answers no row of numbers like those that it was fitted to: {answers.problem}")
    compiled = compile_to_onnx(estimator, signature, answers.joined(original.at_turns(answers, checks)))
    return replace(signature, example_rows=answers.rows[:EXAMPLE_ROWS].tolist()), compiled

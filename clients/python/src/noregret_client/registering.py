"""From a fitted model and its sample to the call that registers it; and how its job is followed."""

from collections.abc import Sequence
from typing import Any

from . import artifacts, calls
from .calls import Call
from .documents import Column, Job, Model
from .errors import ModelNotTaken, ProblemDocument
from .rows import Row, columns_of, rows_of, sample_of

REGISTER_SECONDS = 300.0
SAMPLE_ROWS = 500
"""Rows of a sample that travel, evenly spread over it."""

_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 5.0


def prepared(
    model: Any, *, name: str, version: str, sample: Any, columns: Sequence[Column] | None
) -> Call[Model | Job]:
    """The registration of a model. Raises ModelNotTaken, TypeError."""
    names = getattr(model, "feature_names_in_", None)
    some = None if sample is None else _ordered(sample_of(sample, SAMPLE_ROWS), names)
    artifact = artifacts.written(model, some)
    rows = None if some is None else _as_lists(rows_of(some), names)
    if columns is None and some is not None and not artifact.tells_columns:
        columns = columns_of(some)
    return calls.register_artifact(
        name, version, artifact.framework, artifact.content, rows, columns, artifact.expected
    )


def _ordered(sample: Any, names: Any) -> Any:
    """A DataFrame's columns in the order that the model was fitted to."""
    if names is None or not hasattr(sample, "iloc"):
        return sample
    missing = [name for name in names if name not in sample.columns]
    if missing:
        raise ModelNotTaken(f"the sample lacks the column {missing[0]!r}, which the model was fitted to")
    return sample[list(names)]


def _as_lists(rows: Sequence[Row], names: Any) -> list[list[Any]]:
    """Rows in the order of the model's features, where it names them, else in their own."""
    lists = []
    for row in rows:
        if isinstance(row, dict):
            names = list(row) if names is None else names
            if missing := [name for name in names if name not in row]:
                raise ModelNotTaken(f"the sample lacks the column {missing[0]!r}, which the model was fitted to")
            row = [row[name] for name in names]
        lists.append(row)
    return lists


class FollowedJob:
    """A registration that was answered 202, until it is over."""

    def __init__(self) -> None:
        self.job = ""
        self._pause = _FIRST_PAUSE_SECONDS

    def model(self, answer: Model | Job) -> Model | None:
        """The model, once it is registered. Raises Problem, as a registration that was answered at
        once does."""
        if isinstance(answer, Model):
            return answer
        self.job = answer.job
        if answer.status == "failed":
            raise (answer.problem or ProblemDocument(status=500, title="The registration failed")).error()
        return answer.model

    def pause(self) -> float:
        """Seconds until it is asked for again."""
        pause = self._pause
        self._pause = min(_LONGEST_PAUSE_SECONDS, pause * 2.0)
        return pause

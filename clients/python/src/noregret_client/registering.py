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
    some = None if sample is None else sample_of(sample, SAMPLE_ROWS)
    artifact = artifacts.written(model, some)
    rows = None if some is None else _as_lists(rows_of(some), getattr(model, "feature_names_in_", None))
    if columns is None and some is not None and not _tells_columns(model, artifact):
        columns = columns_of(some)
    return calls.register_artifact(name, version, artifact.framework, artifact.content, rows, columns)


def _tells_columns(model: Any, artifact: artifacts.Artifact) -> bool:
    """Does the platform read the columns from what travels? It knows more of them than a sample
    does: gaps that are taken, and categories."""
    return artifact.framework == "sklearn" and hasattr(model, "feature_names_in_")


def _as_lists(rows: Sequence[Row], names: Any) -> list[list[Any]]:
    """Rows in the order of the model's features, where it names them, else in their own."""
    lists = []
    for row in rows:
        if isinstance(row, dict):
            names = list(row) if names is None else names
            try:
                row = [row[name] for name in names]
            except KeyError as error:
                raise ModelNotTaken(f"the sample lacks the column {error}, which the model was fitted to") from error
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

"""What the original answers on check rows, as it would be served. Runs only in the inspecting child
process."""

import time
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.runtimes.columns import Rows, Table
from serving.runtimes.runtime import Outputs, Runtime

from .check_rows import CheckRows, rounded

_CHUNK = 512
_ENOUGH = 256  # so many rows that are not taken, and none that is: it takes none
_TOGETHER = 4  # where enough are taken, so few rows with one that is not are left out together
_PAIRS = 48
_HALVINGS = 20  # a millionth of the way between two rows
_SEED = 20_240_502


@dataclass(frozen=True, slots=True)
class Answers:
    """The rows that the original takes, and what it answers; `problem` says why it did not take the
    first of those that it did not."""

    rows: Rows
    outputs: dict[str, NDArray[Any]]
    problem: str | None = None
    problem_row: int | None = None

    def joined(self, other: "Answers") -> "Answers":
        outputs = {name: np.concatenate((values, other.outputs[name])) for name, values in self.outputs.items()}
        return Answers(joined(self.rows, other.rows), outputs, self.problem, self.problem_row)


def joined(one: Rows, other: Rows) -> Rows:
    """Rows of two arrays, or of two tables with the same columns."""
    if isinstance(one, Table) and isinstance(other, Table):
        return Table(one.columns, [np.concatenate(both) for both in zip(one.arrays, other.arrays, strict=True)])
    assert isinstance(one, np.ndarray)
    assert isinstance(other, np.ndarray)
    return np.concatenate((one, other))


@dataclass(slots=True)
class _Asked:
    """What has been answered so far."""

    values: dict[str, list[Any]]
    taken: list[int] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)


class Original:
    """A model as it was trained, behind the runtime that serves it where it is not compiled."""

    def __init__(self, runtime: Runtime, outputs: list[str], *, seconds: float = 15.0) -> None:
        self._runtime = runtime
        self._outputs = outputs
        self._deadline = time.monotonic() + seconds

    def answers(self, rows: Rows, *, named: int = 0) -> Answers:
        """Of as many rows as there is time for, in their order; those that it does not take are
        left out. Of the first `named` rows each is tried by itself, so that `problem_row` can name
        it.
        """
        asked = _Asked({name: [] for name in self._outputs})
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            for begin in range(0, len(rows), _CHUNK):
                if begin and time.monotonic() > self._deadline:
                    break
                self._ask(rows, np.arange(begin, min(begin + _CHUNK, len(rows))), asked, named)
        outputs = {name: _by_row(held) for name, held in asked.values.items()}
        row, problem = min(asked.problems, default=(None, None))
        return Answers(rows[asked.taken], outputs, problem, row)

    def _ask(self, rows: Rows, places: NDArray[np.intp], asked: "_Asked", named: int) -> None:
        """One row that can't be taken fails its whole batch: halves are tried, down to single
        rows."""
        try:
            outputs = self._predict(rows[places])
        except Exception as error:  # a model may raise anything
            enough = len(asked.taken) > _ENOUGH and places[0] >= named
            late = bool(asked.taken) and time.monotonic() > self._deadline
            if len(places) == 1:
                asked.problems.append((int(places[0]), f"{type(error).__name__}: {_first_line(error)}"))
            elif late or (enough and len(places) <= _TOGETHER) or (len(asked.problems) > _ENOUGH and not asked.taken):
                return
            else:
                half = len(places) // 2
                self._ask(rows, places[:half], asked, named)
                self._ask(rows, places[half:], asked, named)
            return
        asked.taken += places.tolist()
        for name in self._outputs:
            asked.values[name] += outputs[name]

    def _predict(self, rows: Rows) -> Outputs:
        outputs = self._runtime.predict(rows)
        for name in self._outputs:
            if len(outputs[name]) != len(rows):
                raise ValueError(f"{name} has {len(outputs[name])} values for {len(rows)} rows")
        return outputs

    def at_turns(self, known: Answers, check: CheckRows) -> Answers:
        """Rows where the label turns: between two that are answered otherwise, halved until they
        nearly meet, and rounded as data are."""
        labels = known.outputs["predict"]
        empty = Answers(known.rows[:0], {name: values[:0] for name, values in known.outputs.items()})
        if isinstance(known.rows, Table):  # there is no middle between two strings
            return empty
        if labels.ndim != 1 or len(known.rows) < 2 or time.monotonic() > self._deadline:
            return empty
        generator = np.random.default_rng(_SEED)
        ours, theirs = generator.integers(len(labels), size=(2, 20 * _PAIRS))
        apart = np.flatnonzero(labels[ours] != labels[theirs])[:_PAIRS]
        near, far = known.rows[ours[apart]].copy(), known.rows[theirs[apart]].copy()
        exact = sorted(check.exact)
        far[:, exact] = near[:, exact]
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                wanted = labels[ours[apart]]
                apart = np.flatnonzero(self._labels(far) != wanted)
                near, far, wanted = near[apart], far[apart], wanted[apart]
                for _ in range(_HALVINGS):
                    middle = (near + far) / 2
                    same = (self._labels(middle) == wanted)[:, None]
                    near, far = np.where(same, middle, near), np.where(same, far, middle)
        except Exception:  # rows between two that it takes need not be such that it takes
            return empty
        if not len(near):
            return empty
        free = [column for column in range(near.shape[1]) if column not in check.exact]
        found = self.answers(np.concatenate((near, far, rounded(near.copy(), free, generator))))
        return found if len(found.rows) else empty

    def _labels(self, rows: Rows) -> NDArray[Any]:
        return np.asarray(self._predict(rows)["predict"]) if len(rows) else np.empty(0)


def _by_row(values: list[Any]) -> NDArray[Any]:
    """One entry a row, also where rows are lists of unlike lengths: outputs may have different
    numbers of classes."""
    try:
        return np.asarray(values)
    except ValueError:
        rows = np.empty(len(values), dtype=object)
        rows[:] = values
        return rows


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "")[:200]

"""Results that are asked for at once are computed once, and told again for a moment while nothing
that they follow from has changed.

What they follow from is in PostgreSQL, and every row of it has a version: one small query tells
whether an answer is still of the rows that are there. So a change is seen by the first who asks
after its commit, in whichever process it was made. The clock and the learner's sign of life have no
version: an answer is told for KEPT_SECONDS at most, and `as_of` says of when it is.
"""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

from django.conf import settings
from django.db import connection

from noregret.experiments.models import Experiment
from noregret.rest.turns import TURNS

from . import lagging
from .results import Results, results

KEPT_SECONDS = 1.0
_MOST = 256
"""Answers that are kept at a time; past it those that are too old go."""

T = TypeVar("T")


class Shared(Generic[T]):
    """Answers by key, each of a state of what it follows from. Made for many threads."""

    def __init__(self, kept_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept_seconds = kept_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: dict[Hashable, _Answer[T]] = {}

    def get(self, key: Hashable, state: Hashable, make: Callable[[], T], wait_seconds: float) -> T:
        """The answer for a state that was read before the call: kept, awaited from who is making
        it, or made here.

        Whoever waits for one that fails, or that takes longer than `wait_seconds`, makes its own.
        """
        with self._lock:
            answer = self._answers.get(key)
            is_mine = answer is None or answer.state != state or self._is_old(answer)
            if answer is None or is_mine:
                self._make_room()
                answer = self._answers[key] = _Answer(state, self._clock())
        if is_mine:
            return self._make(key, answer, make)
        with TURNS.waiting():
            answer.is_over.wait(wait_seconds)
        return make() if answer.value is None else answer.value

    def _is_old(self, answer: "_Answer[T]") -> bool:
        return answer.is_over.is_set() and self._clock() - answer.began >= self._kept_seconds

    def _make(self, key: Hashable, answer: "_Answer[T]", make: Callable[[], T]) -> T:
        try:
            answer.value = value = make()
        except BaseException:
            with self._lock:
                if self._answers.get(key) is answer:
                    del self._answers[key]
            raise
        finally:
            answer.is_over.set()
        return value

    def _make_room(self) -> None:
        if len(self._answers) >= _MOST:
            self._answers = {key: answer for key, answer in self._answers.items() if not self._is_old(answer)}


class _Answer(Generic[T]):
    """`value` is there when it is over, unless it failed."""

    def __init__(self, state: Hashable, began: float) -> None:
        self.state = state
        self.began = began
        self.value: T | None = None
        self.is_over = threading.Event()


# A version is (xmin, ctid). Other rows that results are told from (intervals, folded rewards, audit
# entries) change in one transaction with one of these.
_STATE = """
SELECT ROW(e.xmin, e.ctid, p.xmin, p.ctid, v.xmin, v.ctid, l.xmin, l.ctid, c.xmin, c.ctid)::text,
    (SELECT string_agg(ROW(a.xmin, a.ctid, s.xmin, s.ctid, m.xmin, m.ctid)::text, '' ORDER BY a.id)
        FROM experiments_arm AS a LEFT JOIN learning_armstatistics AS s ON s.arm_id = a.id
        LEFT JOIN learning_shadowstatistics AS m ON m.arm_id = a.id WHERE a.experiment_id = e.id),
    (SELECT string_agg(ROW(w.xmin, w.ctid, o.xmin, o.ctid)::text, '' ORDER BY w.id, o.id)
        FROM learning_watchedmetric AS w LEFT JOIN learning_watchedvalues AS o ON o.watched_id = w.id
        WHERE w.experiment_id = e.id)
FROM experiments_experiment AS e JOIN experiments_endpoint AS p ON p.id = e.endpoint_id
LEFT JOIN learning_experimentevidence AS v ON v.experiment_id = e.id
LEFT JOIN learning_ledgersums AS l ON l.experiment_id = e.id
LEFT JOIN learning_activationcount AS c ON c.experiment_id = e.id
WHERE e.id = %s
"""


class Told(NamedTuple):
    """`experiment`: the row that the results are of. Nobody changes it: several threads may read
    it."""

    experiment: Experiment
    results: Results


_RESULTS: Shared[Told] = Shared(KEPT_SECONDS)


def shared_results(experiment_id: int) -> Told:
    """What `results` tells of the experiment as the database has it, whoever asks. The caller has
    changed nothing in this transaction."""
    state = state_of(experiment_id)
    return _RESULTS.get(
        experiment_id,
        state,
        lambda: lagging.of_experiment(experiment_id, lambda: _made(experiment_id)),
        settings.READ_SECONDS,
    )


def state_of(experiment_id: int) -> tuple[str, ...]:
    """The versions of the rows that results follow from: the same while they would tell the same,
    but for the clock and the learner's sign of life."""
    with connection.cursor() as cursor:
        cursor.execute(_STATE, [experiment_id])
        return tuple(cursor.fetchone())


def _made(experiment_id: int) -> Told:
    """Of rows that are read after the state: one that was read before may be older than it. From a
    replica what was learned may be, by a few seconds."""
    rows = Experiment.objects.select_related("endpoint", "promoted_arm").prefetch_related("arms__model")
    experiment = rows.get(pk=experiment_id)
    return Told(experiment, results(experiment))

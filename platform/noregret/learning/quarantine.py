"""Rows of the ledger that can't be learned are set aside, and shown; what stands beside them is
learned.

Today's door takes none of them. They are of a time before it was so narrow, or written by hand. A
reward of such a value counts as one that came too late: its mark `late` keeps it from every sum,
here and in a rebuild alike, and where silence means something its decision gets the default reward.
A decision that can't be weighed keeps its reward, and the same rule passes over it in a rebuild
(evidence, contextual).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol, TypeVar
from uuid import UUID

import msgspec
import numpy as np
import structlog
from django.db import connection
from django.db.models import Count
from numpy.typing import NDArray

from bandits.statistics import Array
from noregret.experiments import document
from noregret.experiments.models import Experiment
from serving.feedback import MAX_VALUE
from serving.models import QuarantinedEvent

log = structlog.get_logger(__name__)

Kind = Literal["rewards", "decisions"]
KINDS: tuple[Kind, ...] = ("rewards", "decisions")

NOT_WEIGHABLE = "its probabilities, or its arm, are none of the experiment's"
NOT_READABLE = "its context is none of the experiment's"

_SET_ASIDE = """
UPDATE serving_reward AS r SET late = true, folded = false, matured = false
FROM unnest(%(ids)s::uuid[], %(times)s::timestamptz[]) AS bad (id, decided_at)
WHERE r.decision_id = bad.id AND r.decided_at = bad.decided_at AND r.metric = %(metric)s AND r.experiment_id = %(experiment)s
"""

# In one statement: what somebody wrote by hand may be every row of a day.
_KEEP = """
INSERT INTO serving_quarantinedevent (at, stream, entry_id, problem, body)
SELECT clock_timestamp(), %(stream)s, bad.id, bad.problem, bad.body
FROM unnest(%(ids)s::text[], %(problems)s::text[], %(bodies)s::bytea[]) AS bad (id, problem, body)
ON CONFLICT (stream, entry_id) DO NOTHING
"""


class BadRow(NamedTuple):
    """What is set aside, by its decision; `content` is what is shown of it."""

    decision_id: UUID
    decided_at: datetime
    problem: str
    content: dict[str, Any]


class Rewarded(Protocol):
    """A row of the ledger with a reward."""

    @property
    def decision_id(self) -> UUID: ...
    @property
    def decided_at(self) -> datetime: ...
    @property
    def arm_id(self) -> int: ...
    @property
    def value(self) -> float: ...


_Row = TypeVar("_Row", bound=Rewarded)


def learnable(reward: document.Reward, values: Array) -> NDArray[np.bool_]:
    """Which values (n,) the arithmetic of the reward's kind takes: bounded, for its squares are
    summed; 0 or 1 where it is binary."""
    fits: NDArray[np.bool_] = np.abs(values) <= MAX_VALUE  # NaN is not
    if reward.kind == "binary":
        fits &= np.isin(values, (0.0, 1.0))
    elif reward.kind == "count":
        fits &= values >= 0.0
    return fits


def _problem(reward: document.Reward, value: float) -> str:
    if not -MAX_VALUE <= value <= MAX_VALUE:
        return f"its value is not between {-MAX_VALUE:g} and {MAX_VALUE:g}"
    return "its value is neither 0 nor 1" if reward.kind == "binary" else "its value is no count"


def without_bad_values(experiment: Experiment, rows: Sequence[_Row]) -> list[_Row]:
    """Those of `rows` whose values can be learned; the others are set aside, in the caller's
    transaction."""
    return without_bad_rewards(experiment.pk, experiment.name, experiment.reward_, rows)


def without_bad_rewards(number: int, name: str, reward: document.Reward, rows: Sequence[_Row]) -> list[_Row]:
    """The same of an experiment or a baseline by its number in the ledger; `name` is told to
    people."""
    if not rows:
        return []
    fits = learnable(reward, np.array([row.value for row in rows], dtype=np.float64))
    if fits.all():
        return list(rows)
    bad = [row for row, good in zip(rows, fits, strict=True) if not good]
    with connection.cursor() as cursor:
        cursor.execute(
            _SET_ASIDE,
            {
                "ids": [row.decision_id for row in bad],
                "times": [row.decided_at for row in bad],
                "metric": reward.metric,
                "experiment": number,
            },
        )
    keep(
        name,
        "rewards",
        [BadRow(row.decision_id, row.decided_at, _problem(reward, row.value), {"value": row.value}) for row in bad],
    )
    return [row for row, good in zip(rows, fits, strict=True) if good]


def keep(name: str, kind: Kind, bad: Sequence[BadRow]) -> None:
    """Point to rows where people see it, each once; in the caller's transaction."""
    if not bad:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            _KEEP,
            {
                "stream": stream_of(name, kind),
                "ids": [str(row.decision_id) for row in bad],
                "problems": [row.problem for row in bad],
                "bodies": [msgspec.msgpack.encode(_shown(name, row)) for row in bad],
            },
        )
    log.warning("rows set aside", experiment=name, kind=kind, rows=len(bad), problem=bad[0].problem)


def _shown(name: str, row: BadRow) -> dict[str, Any]:
    return {
        "experiment": name,
        "decision_id": str(row.decision_id),
        "decided_at": row.decided_at.isoformat(),
        **row.content,
    }


def stream_of(experiment: str, kind: Kind) -> str:
    """Under which name the quarantine holds an experiment's rows."""
    return f"{kind} of {experiment}"


def set_aside(experiment: str) -> int:
    """How many rows of an experiment were set aside."""
    return sum(count for _, _, count in reasons(experiment))


def reasons(experiment: str) -> list[tuple[Kind, str, int]]:
    """How many of which kind, and why."""
    kinds = {stream_of(experiment, kind): kind for kind in KINDS}
    found = QuarantinedEvent.objects.filter(stream__in=kinds).values_list("stream", "problem").annotate(Count("pk"))
    return [(kinds[stream], problem, count) for stream, problem, count in found.order_by("stream", "problem")]

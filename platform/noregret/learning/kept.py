"""The sums that are kept of an experiment's ledger, and what each must be able to do: the one place
that a new one is told to.

A kept sum is a value that can be computed from the ledger's rows, stored as a document, and held
against the live state. That is all that `rebuild` needs of it, and all that retention needs: before
days of the ledger are dropped each sum over them becomes a document (LedgerBase), from which every
later rebuild goes on.

Two kinds differ in how they follow the learner while they are computed. `Noted` sums add up in any
order: whoever adds to the live one notes the same document (`meanwhile.note`). `ByBucket` sums
depend on order and change with the closing of buckets alone: they are followed by reading the
buckets that were closed since. `Resummed` ones are no values at all, but rows of their own.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from django.db import connection, transaction

from noregret.experiments.models import Experiment

from .buckets import LONGEST_BUCKET
from .clock import EARLIEST
from .models import LedgerBase

CHUNK = 20_000
State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Span:
    """Decision time from `start` to `end`, without it; `closed`: until when buckets are closed in
    the snapshot that is read."""

    start: datetime
    end: datetime
    closed: datetime | None


class KeptSum(ABC, Generic[State]):
    """One sum. States are values: no method changes the one it is given."""

    name: str

    @abstractmethod
    def nothing(self, experiment: Experiment) -> State:
        """The sum over no rows."""

    @abstractmethod
    def from_document(self, experiment: Experiment, document: Any) -> State:
        """What `to_document` gave; arms may have been added since."""

    @abstractmethod
    def to_document(self, state: State) -> Any:
        """As JSON, without loss."""

    @abstractmethod
    def after(self, experiment: Experiment, state: State, span: Span) -> State:
        """With the rows of a span. Spans come in order, without gaps; called in a snapshot of the
        database."""

    @abstractmethod
    def differences(self, experiment: Experiment, state: State) -> Iterator[str]:
        """In what the live sum differs, a sentence each."""

    @abstractmethod
    def write(self, experiment: Experiment, state: State) -> None:
        """Replace the live sum. In a transaction that has locked the experiment's evidence."""


class Noted(KeptSum[State]):
    """A sum of rows in any order."""

    @abstractmethod
    def plus(self, experiment: Experiment, state: State, document: Any) -> State:
        """With what one note of the learner says."""


class ByBucket(KeptSum[State]):
    """A sum over closed buckets, in their order."""


class Resummed(Protocol):
    """A sum that is too large to be noted, or held in memory, while it is computed. It is compared
    as the others are; where it differs it is made anew while the learner of its experiment waits.
    It stores its own base.
    """

    def differences(self, experiment: Experiment) -> Iterator[str]:
        """In what the live sum differs, a sentence each; called in a snapshot of the database."""

    def make(self, experiment: Experiment) -> None:
        """Make the live sum anew, in the caller's transaction."""

    def set_aside(self, experiment: Experiment, start: datetime, end: datetime) -> bool:
        """Add the decisions from `start` to `end`, the first day that the ledger has, to the base,
        in the transaction that drops them; False where they must stay, for the live sum has not
        come so far.
        """


@contextmanager
def snapshot() -> Iterator[None]:
    """One state of the database for everything that is read inside."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            # A day's decisions and their rewards are joined and counted in it without a file.
            cursor.execute("SET LOCAL work_mem = '64MB'")
        yield


def rows(query: str, parameters: dict[str, Any]) -> Iterator[list[tuple[Any, ...]]]:
    """Rows in chunks, from a cursor of the server: memory stays bounded. Called inside a
    transaction."""
    connection.ensure_connection()
    with connection.connection.cursor(name="rebuild", binary=True) as cursor:
        cursor.execute(query, parameters)
        while chunk := cursor.fetchmany(CHUNK):
            yield chunk


def rows_from(experiment: Experiment) -> datetime | None:
    """Decisions of the experiment before this were dropped: their sums are kept, their rows are
    gone. None where none was."""
    return LedgerBase.objects.filter(experiment=experiment).values_list("until", flat=True).first()


_ENDS = """
SELECT min(at), max(at) FROM (
    SELECT min(decided_at) AS at FROM serving_decision WHERE experiment_id = %(experiment)s AND decided_at >= %(since)s
    UNION ALL SELECT max(decided_at) FROM serving_decision WHERE experiment_id = %(experiment)s AND decided_at >= %(since)s
    UNION ALL SELECT min(decided_at) FROM serving_reward WHERE experiment_id = %(experiment)s AND decided_at >= %(since)s
    UNION ALL SELECT max(decided_at) FROM serving_reward WHERE experiment_id = %(experiment)s AND decided_at >= %(since)s
    UNION ALL SELECT min(start) FROM learning_arminterval WHERE arm_id = ANY(%(arms)s) AND start >= %(since)s
    UNION ALL SELECT max(start) FROM learning_arminterval WHERE arm_id = ANY(%(arms)s) AND start >= %(since)s
) AS ends
"""


def days_of(experiment: Experiment, since: datetime | None = None, until: datetime | None = None) -> list[datetime]:
    """The days (UTC), from `since` and before `until`, on which something of the experiment lies in
    the ledger or in its intervals."""
    with connection.cursor() as cursor:
        cursor.execute(
            _ENDS,
            {
                "experiment": experiment.pk,
                "arms": list(experiment.arms.values_list("pk", flat=True)),
                "since": since or EARLIEST,
            },
        )
        first, last = cursor.fetchone()
    if first is None:
        return []
    # The bucket of the first row may begin on the day before, to which it then belongs.
    start = (first - LONGEST_BUCKET).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [start + timedelta(days=n) for n in range((last - start).days + 1)]
    return [day for day in days if (since is None or day >= since) and (until is None or day < until)]


def kept_sums() -> Sequence[KeptSum[Any]]:
    """Every kept sum. A new one is a class of this kind, and a name here."""
    # Imported here: the classes need this module.
    from .kept_arms import ArmSums
    from .kept_evidence import EvidenceSums

    return (ArmSums(), EvidenceSums())


def resummed() -> Sequence[Resummed]:
    """Every sum of the other kind."""
    from . import resumming
    from .kept_watches import ShadowedSums, WatchedSums

    return (resumming, WatchedSums(), ShadowedSums())

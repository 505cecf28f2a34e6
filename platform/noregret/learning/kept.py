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

import msgspec
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
    piece: Any
    """The type of what `read` gives; it travels as a document (msgspec)."""

    def in_pieces(self, experiment: Experiment) -> bool:
        """Can `read` be called for each span by itself, by another process?"""
        return True

    @abstractmethod
    def read(self, experiment: Experiment, span: Span) -> Any:
        """What the rows of a span say, without what came before; called in a snapshot of the
        database."""

    @abstractmethod
    def joined(self, experiment: Experiment, state: State, piece: Any) -> State:
        """With what `read` gave for the next span. Asks the ledger for nothing."""

    @abstractmethod
    def nothing(self, experiment: Experiment) -> State:
        """The sum over no rows."""

    @abstractmethod
    def from_document(self, experiment: Experiment, document: Any) -> State:
        """What `to_document` gave; arms may have been added since."""

    @abstractmethod
    def to_document(self, state: State) -> Any:
        """As JSON, without loss."""

    def after(self, experiment: Experiment, state: State, span: Span) -> State:
        """With the rows of a span. Spans come in order, without gaps; called in a snapshot of the
        database."""
        return self.joined(experiment, state, self.read(experiment, span))

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


class Part(msgspec.Struct, frozen=True, tag=True):
    """Something of an experiment that any process can compute from the ledger, in the snapshot that
    all parts are computed in (noregret.learning.parts)."""

    def compute(self, experiment: Experiment) -> Any:
        """The piece. Computed twice it is the same."""
        raise NotImplementedError

    def to_bytes(self, piece: Any) -> bytes:
        return msgspec.msgpack.encode(piece)

    def from_bytes(self, body: bytes) -> Any:
        return msgspec.msgpack.decode(body)


class Resummed(Protocol):
    """A sum that is too large to be noted, or held in memory, while it is computed. It is compared
    as the others are; where it differs it is made anew while the learner of its experiment waits.
    It stores its own base.
    """

    def parts(self, experiment: Experiment, spans: Sequence[Span], at_once: int) -> Sequence[Part]:
        """What is to be computed of the ledger, cut so that `at_once` processes have work; called
        in a snapshot of the database."""

    def differences(self, experiment: Experiment, pieces: Sequence[Any]) -> Iterator[str]:
        """In what the live sum differs from what the parts gave, a sentence each; called in the
        same snapshot."""

    def make(self, experiment: Experiment) -> None:
        """Make the live sum anew, in the caller's transaction."""

    def set_aside(self, experiment: Experiment, start: datetime, end: datetime) -> bool:
        """Add the decisions from `start` to `end`, the first day that the ledger has, to the base,
        in the transaction that drops them; False where they must stay, for the live sum has not
        come so far.
        """


@contextmanager
def snapshot(of: str | None = None) -> Iterator[None]:
    """One state of the database for everything that is read inside; `of`: the one that another
    transaction has exported (`exported`), which is still open."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            if of is not None:
                cursor.execute("SET TRANSACTION SNAPSHOT %s", [of])
            # A day's decisions and their rewards are joined and counted in it without a file.
            cursor.execute("SET LOCAL work_mem = '64MB'")
            # One core for one process: who wants more has parts computed by more (parts).
            cursor.execute("SET LOCAL max_parallel_workers_per_gather = 0")
        yield


def exported() -> str:
    """The name of the snapshot that this transaction reads, for others to read it too while this
    one is open."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_export_snapshot()")
        return str(cursor.fetchone()[0])


@contextmanager
def hashed() -> Iterator[None]:
    """Groups are made by hashing in the statements inside, in the caller's transaction.

    PostgreSQL expects as many groups as rows where it groups by expressions, or by several columns
    that hang together, and then sorts all rows first.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_sort = off")
        yield
        cursor.execute("SET LOCAL enable_sort = DEFAULT")


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


DECISIONS_AT_ONCE = 500_000
"""So many are joined with their rewards in memory, and are a part for one worker."""
_NTH = """
SELECT decided_at FROM serving_decision
WHERE experiment_id = %(experiment)s AND decided_at > %(start)s AND decided_at < %(end)s
ORDER BY decided_at OFFSET %(n)s LIMIT 1
"""


def spans_of(
    experiment: Experiment, closed: datetime | None, since: datetime | None = None, until: datetime | None = None
) -> list[Span]:
    """The days of `days_of`, cut where one has more than DECISIONS_AT_ONCE: the same for the same
    ledger, so that whoever adds up over them gets the same."""
    spans = []
    for day in days_of(experiment, since, until):
        start, end = day, day + timedelta(days=1)
        while (edge := _nth_decision(experiment, start, end)) is not None:
            spans.append(Span(start, edge, closed))
            start = edge
        spans.append(Span(start, end, closed))
    return spans


def _nth_decision(experiment: Experiment, start: datetime, end: datetime) -> datetime | None:
    """When the first decision after DECISIONS_AT_ONCE of them was made; None where there are
    fewer."""
    with connection.cursor() as cursor:
        cursor.execute(_NTH, {"experiment": experiment.pk, "start": start, "end": end, "n": DECISIONS_AT_ONCE})
        row = cursor.fetchone()
    return None if row is None else row[0]


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

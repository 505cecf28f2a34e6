"""The sums of an experiment (noregret.learning.sums) computed anew from the ledger, and from the
base of what it no longer has.

Through the same statements by which rewards enter as they are learned, many days at a time. This
module is a `kept.Resummed`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.backends.utils import CursorWrapper

from noregret.experiments.models import Experiment

from .comparing import same
from .counting import counted_between
from .evidence import keeps_units
from .kept import Part as LedgerPart
from .kept import Span, hashed, rows_from, spans_of
from .models import SUMS, ExperimentEvidence, LedgerSums
from .scoring import scored_between
from .summing import UnitClass, enter, fill, is_summed, shown_until
from .sums import Part, Sums

AT_ONCE = 2_000_000
"""Outcomes that enter together: a unit's row is then written once for many days."""
_ANEW = "unit_outcomes_anew"
_COPY_BASE = """
INSERT INTO {units} (experiment_id, part, unit, count, total, weight, weighted)
SELECT experiment_id, part, unit, count, total, weight, weighted FROM learning_unitbase WHERE experiment_id = %s AND {of_them}
"""
# Counts are whole numbers; totals are added up in another order.
_DIFFERENT = f"""
SELECT count(*) FROM (SELECT part, unit, count, total, weight, weighted FROM {_ANEW}) AS anew
FULL JOIN (
    SELECT part, unit, count, total, weight, weighted FROM learning_unitoutcomes WHERE experiment_id = %s AND {{of_them}}
) AS held USING (part, unit)
WHERE anew.count IS DISTINCT FROM held.count
    OR abs(anew.total - held.total) > 1e-9 * GREATEST(1, abs(anew.total))
    OR abs(anew.weight - held.weight) > 1e-9 * GREATEST(1, abs(anew.weight))
    OR abs(anew.weighted - held.weighted) > 1e-9 * GREATEST(1, abs(anew.weighted))
"""  # noqa: S608 - constants


class SpanOutcomes(LedgerPart, frozen=True, tag="outcomes"):
    """What is counted of the decisions of a span; and their outcomes, where units do not matter."""

    start: datetime
    end: datetime

    def compute(self, experiment: Experiment) -> dict[str, Any]:
        row = LedgerSums.objects.filter(experiment=experiment).first()
        with connection.cursor() as cursor:
            return _of_span(cursor, experiment, row, self.start, self.end).to_dict()


class UnitsOutcomes(LedgerPart, frozen=True, tag="units"):
    """The outcomes of a class of units over all days; and how many rows of such units differ from
    the live ones."""

    rest: int
    by: int

    def compute(self, experiment: Experiment) -> tuple[dict[str, Any], int]:
        row = LedgerSums.objects.filter(experiment=experiment).first()
        units = UnitClass(self.rest, self.by)
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TEMP TABLE {_ANEW} (LIKE learning_unitoutcomes INCLUDING INDEXES) ON COMMIT DROP")
            sums = _of_units(cursor, experiment, row, _ANEW, units)
            cursor.execute(_DIFFERENT.format(of_them=units.condition("unit")), [experiment.pk])
            different = cursor.fetchone()[0]
            cursor.execute(f"DROP TABLE {_ANEW}")
        return sums.to_dict(), different


def make(experiment: Experiment) -> None:
    """Make the sums anew, in the caller's transaction. Final ones stay: their units' rows are
    gone."""
    # Locked, so that a fold or a drain beside this one waits: it would add to sums that are
    # replaced.
    ExperimentEvidence.objects.defer(*SUMS).select_for_update().get(experiment=experiment)
    row = LedgerSums.objects.filter(experiment=experiment).first()
    if row is not None and row.final:
        return
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM learning_unitoutcomes WHERE experiment_id = %s", [experiment.pk])
        sums = _base(row)
        for span in spans_of(experiment, None, rows_from(experiment)):
            sums = _joined(sums, _of_span(cursor, experiment, row, span.start, span.end))
        if _by_unit(experiment):
            sums = _joined(sums, _of_units(cursor, experiment, row, "learning_unitoutcomes"))
    LedgerSums.objects.update_or_create(experiment=experiment, defaults={"state": sums.to_dict()})


def parts(experiment: Experiment, spans: Sequence[Span], at_once: int) -> Sequence[LedgerPart]:
    row = LedgerSums.objects.filter(experiment=experiment).first()
    if row is None or row.final:
        return []
    of_units = [UnitsOutcomes(rest, at_once) for rest in range(at_once if _by_unit(experiment) else 0)]
    return [*of_units, *(SpanOutcomes(span.start, span.end) for span in spans)]


def differences(experiment: Experiment, pieces: Sequence[Any]) -> Iterator[str]:
    """Between the ledger and the sums that are held, a sentence each; called in one snapshot of
    both."""
    row = LedgerSums.objects.filter(experiment=experiment).first()
    if row is None:
        yield "sums over the ledger: there are none"
        return
    if row.final:
        return
    sums, different = _base(row), 0
    for piece in pieces:
        if isinstance(piece, dict):
            sums = _joined(sums, Sums.from_dict(piece))
        else:
            sums, different = _joined(sums, Sums.from_dict(piece[0])), different + piece[1]
    anew = sums.to_dict()
    names = {str(arm.pk): arm.name for arm in experiment.arms.all()} | {"0": "the bandit", "-1": "the holdout"}
    held = Sums.from_dict(row.state).to_dict()
    for key in ("decisions", "choices", "scored", "share", "newest"):
        if not same(held[key], anew[key]):
            yield f"sums over the ledger: {key} is {held[key]}, the ledger has {anew[key]}"
    live, ledger = held["parts"], anew["parts"]
    for key in sorted(live.keys() | ledger.keys()):
        if not same(live.get(key), ledger.get(key)):
            yield f"sums over the ledger: those of {names.get(key, key)} differ from the ledger's"
    if different:
        yield f"sums over the ledger: those of {different:,} units differ from the ledger's"


def set_aside(experiment: Experiment, start: datetime, end: datetime) -> bool:
    """Add the decisions from `start` to `end` to the base, in the transaction that drops them from
    the ledger; False where they must stay, for the sums are not made yet.

    All of their buckets are closed, and nothing of them is still to be folded.
    """
    ExperimentEvidence.objects.defer(*SUMS).select_for_update().get(experiment=experiment)
    row = LedgerSums.objects.filter(experiment=experiment).first()
    if row is None or row.final:
        return row is not None
    with connection.cursor() as cursor:
        base = _base(row) + _counted(cursor, experiment, start, end)
        if _fill(cursor, experiment, start, end):
            base = base + enter(cursor, experiment, base, "learning_unitbase")
    LedgerSums.objects.filter(pk=row.pk).update(base=base.to_dict())
    return True


def _of_span(
    cursor: CursorWrapper, experiment: Experiment, row: LedgerSums | None, start: datetime, end: datetime
) -> Sums:
    sums = _counted(cursor, experiment, start, end)
    if not _by_unit(experiment) and _fill(cursor, experiment, start, end):
        sums = sums + enter(cursor, experiment, _levels(row))
    return sums


def _of_units(
    cursor: CursorWrapper, experiment: Experiment, row: LedgerSums | None, table: str, units: UnitClass | None = None
) -> Sums:
    """The outcomes of all units or of a class of them; their rows go into `table`, which has none
    of them."""
    of_them = "TRUE" if units is None else units.condition("unit")
    cursor.execute(_COPY_BASE.format(units=table, of_them=of_them), [experiment.pk])
    sums, filled = _levels(row), 0
    for span in spans_of(experiment, None, rows_from(experiment)):
        filled += _fill(cursor, experiment, span.start, span.end, units)
        if filled > AT_ONCE:
            sums, filled = sums + enter(cursor, experiment, sums, table), 0
    return sums + enter(cursor, experiment, sums, table) if filled else sums


def _levels(row: LedgerSums | None) -> Sums:
    """Nothing, from the levels that the live sums have, so that the same outcomes give the same
    numbers."""
    held = Sums() if row is None else Sums.from_dict(row.state)
    return Sums(parts={key: Part(part.level) for key, part in held.parts.items()})


def _base(row: LedgerSums | None) -> Sums:
    return Sums() if row is None else _levels(row) + Sums.from_dict(row.base)


def _joined(sums: Sums, piece: Sums) -> Sums:
    """A part that the live sums do not know has in each piece a level of its own."""
    levelled = {
        key: part.from_level(sums.parts[key].level) if key in sums.parts else part for key, part in piece.parts.items()
    }
    return sums + replace(piece, parts=levelled)


def _by_unit(experiment: Experiment) -> bool:
    return is_summed(experiment) and keeps_units(experiment)


def _counted(cursor: CursorWrapper, experiment: Experiment, start: datetime, end: datetime) -> Sums:
    """What is counted of the decisions from `start` to `end`, and of the choices among them."""
    sums = counted_between(cursor, experiment, start, end)
    closed = _closed_until(experiment)
    if sums.choices and closed is not None and start < closed:
        sums = sums + Sums(scored=scored_between(cursor, experiment, start, min(end, closed)))
    return sums


def _fill(
    cursor: CursorWrapper, experiment: Experiment, start: datetime, end: datetime, units: UnitClass | None = None
) -> int:
    """Put what may be shown of the decisions from `start` to `end` in front of `enter`; how
    much."""
    if not is_summed(experiment):
        return 0
    until = shown_until(experiment, _closed_until(experiment))
    if until is None or start >= until:
        return 0
    with hashed():
        return fill(cursor, experiment, start, min(end, until), units=units)


def _closed_until(experiment: Experiment) -> datetime | None:
    return ExperimentEvidence.objects.filter(experiment=experiment).values_list("closed_until", flat=True).first()

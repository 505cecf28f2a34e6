"""The sums of an experiment (noregret.learning.sums) computed anew from the ledger, and from the
base of what it no longer has.

Through the same statements by which rewards enter as they are learned, many days at a time. This
module is a `kept.Resummed`.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db import connection
from django.db.backends.utils import CursorWrapper

from noregret.experiments.models import Experiment

from .comparing import same
from .counting import counted_between
from .kept import days_of, rows_from
from .models import SUMS, ExperimentEvidence, LedgerSums
from .scoring import scored_between
from .summing import enter, fill, is_summed, shown_until
from .sums import Part, Sums

AT_ONCE = 2_000_000
"""Outcomes that enter together: a unit's row is then written once for many days."""
_ANEW = "unit_outcomes_anew"
_COPY_BASE = """
INSERT INTO {units} (experiment_id, part, unit, count, total, weight, weighted)
SELECT experiment_id, part, unit, count, total, weight, weighted FROM learning_unitbase WHERE experiment_id = %s
"""
# Counts are whole numbers; totals are added up in another order.
_DIFFERENT = f"""
SELECT count(*) FROM (SELECT part, unit, count, total, weight, weighted FROM {_ANEW}) AS anew
FULL JOIN (
    SELECT part, unit, count, total, weight, weighted FROM learning_unitoutcomes WHERE experiment_id = %s
) AS held USING (part, unit)
WHERE anew.count IS DISTINCT FROM held.count
    OR abs(anew.total - held.total) > 1e-9 * GREATEST(1, abs(anew.total))
    OR abs(anew.weight - held.weight) > 1e-9 * GREATEST(1, abs(anew.weight))
    OR abs(anew.weighted - held.weighted) > 1e-9 * GREATEST(1, abs(anew.weighted))
"""  # noqa: S608 - constants


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
        sums = _computed(cursor, experiment, row, "learning_unitoutcomes")
    LedgerSums.objects.update_or_create(experiment=experiment, defaults={"state": sums.to_dict()})


def differences(experiment: Experiment) -> Iterator[str]:
    """Between the ledger and the sums that are held, a sentence each; called in one snapshot of
    both."""
    row = LedgerSums.objects.filter(experiment=experiment).first()
    if row is None:
        yield "sums over the ledger: there are none"
        return
    if row.final:
        return
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE {_ANEW} (LIKE learning_unitoutcomes INCLUDING INDEXES) ON COMMIT DROP")
        anew = _computed(cursor, experiment, row, _ANEW).to_dict()
        cursor.execute(_DIFFERENT, [experiment.pk])
        different = cursor.fetchone()[0]
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
        base = _from_levels(row, Sums.from_dict(row.base)) + _counted(cursor, experiment, start, end)
        if _fill(cursor, experiment, start, end):
            base = base + enter(cursor, experiment, base, "learning_unitbase")
    LedgerSums.objects.filter(pk=row.pk).update(base=base.to_dict())
    return True


def _computed(cursor: CursorWrapper, experiment: Experiment, row: LedgerSums | None, units: str) -> Sums:
    """The base and the days of the ledger; rows of units go into the table `units`, which has none
    of this experiment."""
    cursor.execute(_COPY_BASE.format(units=units), [experiment.pk])
    sums = Sums() if row is None else _from_levels(row, Sums.from_dict(row.base))
    filled = 0
    for day in days_of(experiment, rows_from(experiment)):
        end = day + timedelta(days=1)
        sums = sums + _counted(cursor, experiment, day, end)
        filled += _fill(cursor, experiment, day, end)
        if filled > AT_ONCE:
            sums, filled = sums + enter(cursor, experiment, sums, units), 0
    return sums + enter(cursor, experiment, sums, units) if filled else sums


def _from_levels(row: LedgerSums, base: Sums) -> Sums:
    """From the levels that the live sums have, so that the same outcomes give the same numbers."""
    held = Sums.from_dict(row.state)
    return Sums(parts={key: Part(part.level) for key, part in held.parts.items()}) + base


def _counted(cursor: CursorWrapper, experiment: Experiment, start: datetime, end: datetime) -> Sums:
    """What is counted of the decisions from `start` to `end`, and of the choices among them."""
    sums = counted_between(cursor, experiment, start, end)
    closed = _closed_until(experiment)
    if sums.choices and closed is not None and start < closed:
        sums = sums + Sums(scored=scored_between(cursor, experiment, start, min(end, closed)))
    return sums


def _fill(cursor: CursorWrapper, experiment: Experiment, start: datetime, end: datetime) -> int:
    """Put what may be shown of the decisions from `start` to `end` in front of `enter`; how
    much."""
    if not is_summed(experiment):
        return 0
    until = shown_until(experiment, _closed_until(experiment))
    return fill(cursor, experiment, start, min(end, until)) if until is not None and start < until else 0


def _closed_until(experiment: Experiment) -> datetime | None:
    return ExperimentEvidence.objects.filter(experiment=experiment).values_list("closed_until", flat=True).first()

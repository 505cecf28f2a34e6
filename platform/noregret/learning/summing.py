"""What enters an experiment's sums (noregret.learning.sums), and when: each learned reward once its
decision is there and may be shown.

A reward enters with the step that makes the last of three things true: it is folded, its decision
is in the ledger, and its bucket is closed where the absence of rewards means something. So it is
looked for when rewards are folded, when decisions are drained and when buckets are closed. Each of
these holds the lock of the experiment's evidence from before it looks until it commits: of two
steps that meet, the later one sees what the earlier one did, and nothing enters twice or never.

An apprentice's choice is scored with its bucket, by what was told within the window; a copy that is
predicted on later still, or a decision that comes later, is scored as it comes. Units are rows of
their own, for a unit's earnings do not add to those of another.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from django.db import connection
from django.db.backends.utils import CursorWrapper

from noregret.experiments.models import Experiment
from serving.ledger.ingest import StreamedDecision

from .claiming import Claimed
from .clock import EARLIEST, FOREVER
from .evidence import keeps_units
from .models import ExperimentEvidence, LedgerSums
from .scoring import scored_between, scored_of
from .sums import HELD_OUT, NOT_HELD_OUT, Part, Scored, Sums, newest

_MICROSECOND = timedelta(microseconds=1)

Named = Mapping[str, list[Any]]
"""Rewards or decisions as columns, for a query."""


class UnitClass(NamedTuple):
    """The units whose hash leaves `rest` when divided by `by`; so `by` processes share them."""

    rest: int
    by: int

    def condition(self, unit: str) -> str:
        """In SQL, of an expression for a unit, which may be NULL."""
        return f"abs(coalesce(hashtext({unit}), 0)::bigint) %% {int(self.by)} = {int(self.rest)}"


def shown_until(experiment: Experiment, closed_until: datetime | None) -> datetime | None:
    """Until when decisions have all the outcomes that they will get: FOREVER without a default;
    None where none has.

    With a default the good ones come at once and the defaults at the end of the window, so what is
    open looks better than it is.
    """
    return FOREVER if experiment.reward_.default is None else closed_until


def sums_of(experiment: Experiment) -> Sums | None:
    """The sums as they stand; None before they are made."""
    row = LedgerSums.objects.filter(experiment=experiment).first()
    return None if row is None else Sums.from_dict(row.state)


def folded(experiment: Experiment, rewards: Sequence[Claimed]) -> None:
    """Rewards that this transaction folds enter, as far as they may."""
    if not is_summed(experiment):
        return
    held = ExperimentEvidence.objects.select_for_update().get(experiment=experiment)
    sums = _open(experiment)
    until = shown_until(experiment, held.closed_until)
    entering = [] if until is None else [row for row in rewards if row.decided_at < until]
    if sums is None or not entering:
        return
    times = [row.decided_at for row in entering]
    listed: Named = {
        "ids": [row.decision_id for row in entering],
        "times": times,
        "arms": [row.arm_id for row in entering],
        "values": [row.value for row in entering],
    }
    with connection.cursor() as cursor:
        fill(cursor, experiment, min(times), max(times) + _MICROSECOND, listed=listed)
        _keep(experiment, sums + enter(cursor, experiment, sums))


def drained(held: ExperimentEvidence, decisions: Sequence[StreamedDecision]) -> None:
    """New decisions of the experiment's arms are counted. Those that were rewarded and folded
    before they came enter.

    The caller has locked the evidence.
    """
    experiment = held.experiment
    sums = _open(experiment)
    if sums is None or not decisions:
        return
    sums = sums + _counted(decisions)
    until = shown_until(experiment, held.closed_until)
    with connection.cursor() as cursor:
        if until is not None and is_summed(experiment):
            rewarded = _rewarded(cursor, experiment, decisions, until)
            if rewarded:
                times = [one.decided_at for one in rewarded]
                listed: Named = {"ids": [one.id for one in rewarded], "times": times}
                if fill(cursor, experiment, min(times), max(times) + _MICROSECOND, listed=listed):
                    sums = sums + enter(cursor, experiment, sums)
        closed = held.closed_until
        chosen = [
            (one.id, one.decided_at)
            for one in decisions
            if closed is not None and one.event.proposed_arm_id is not None and one.decided_at < closed
        ]
        sums = sums + Sums(scored=scored_of(cursor, experiment, chosen))
    _keep(experiment, sums)


# Where decisions come in time, few have a reward that is folded: all of their time are read at
# once.
_FOLDED_BEFORE = """
SELECT decided_at, decision_id FROM serving_reward
WHERE experiment_id = %(experiment)s AND metric = %(metric)s AND folded AND NOT late
    AND decided_at >= %(start)s AND decided_at < %(end)s LIMIT %(limit)s
"""


def _rewarded(
    cursor: CursorWrapper, experiment: Experiment, decisions: Sequence[StreamedDecision], until: datetime
) -> Sequence[StreamedDecision]:
    """Those of `decisions` before `until` that may have a folded reward."""
    came = [one for one in decisions if until == FOREVER or one.decided_at < until]
    if not came:
        return came
    start, end = (EARLIEST + edge(one.decided_us for one in came) * _MICROSECOND for edge in (min, max))
    cursor.execute(
        _FOLDED_BEFORE,
        {
            "experiment": experiment.pk,
            "metric": experiment.reward_.metric,
            "start": start,
            "end": end + _MICROSECOND,
            "limit": len(came) + 1,
        },
    )
    rows = cursor.fetchall()
    if len(rows) > len(came):  # an outage, or a long one among them: each is looked up
        return came
    rewarded = {row[1].bytes for row in rows}
    return [one for one in came if one.event.id in rewarded]


def _counted(decisions: Sequence[StreamedDecision]) -> Sums:
    held_out = sum(1 for one in decisions if one.event.holdout)
    times: dict[int, list[int]] = {}
    for one in decisions:
        if one.event.cached:  # served, and no sign of whether its model answers now
            continue
        at = one.decided_us
        times.setdefault(one.event.arm_id, []).append(at if one.event.fallback_reason is None else -at)
    return Sums(
        (len(decisions) - held_out, held_out),
        Counter(one.event.proposed_arm_id for one in decisions if one.event.proposed_arm_id is not None),
        newest={arm: newest(made) for arm, made in times.items()},
    )


def closed(experiment: Experiment, start: datetime, end: datetime) -> None:
    """The buckets from `start` to `end` are closed by this transaction, which holds the evidence's
    lock."""
    sums = _open(experiment)
    if sums is None:
        return
    # Without a default it entered when it was folded. Where a reward is learned when it has
    # matured, an earlier version may have folded it at once; what is folded from here on enters
    # then.
    folded_before = experiment.reward_.default is not None
    with connection.cursor() as cursor:
        if folded_before and is_summed(experiment) and fill(cursor, experiment, start, end):
            sums = sums + enter(cursor, experiment, sums)
        elif not sums.choices:
            return
        if sums.choices:
            sums = sums + Sums(scored=scored_between(cursor, experiment, start, end))
    _keep(experiment, sums)


def is_summed(experiment: Experiment) -> bool:
    """Are outcomes of this strategy told by unit, or by weight?"""
    return keeps_units(experiment) or weighs(experiment)


def weighs(experiment: Experiment) -> bool:
    """Are outcomes weighed by the probabilities that were logged? Of a fixed split there is nothing
    to save by."""
    return experiment.strategy == Experiment.Strategy.BANDIT


def add_scored(experiment: Experiment, scored: Scored) -> None:
    """More choices were scored; in a transaction that has locked the evidence."""
    sums = _open(experiment)
    if sums is not None and scored != Scored():
        _keep(experiment, sums + Sums(scored=scored))


def _open(experiment: Experiment) -> Sums | None:
    """What may be added to; None before the sums are made, and where they are final."""
    row = LedgerSums.objects.filter(experiment=experiment, final=False).first()
    return None if row is None else Sums.from_dict(row.state)


def _keep(experiment: Experiment, sums: Sums) -> None:
    LedgerSums.objects.filter(experiment=experiment).update(state=sums.to_dict())


# Outcomes that enter, with what of their decisions they are weighed by: a weight where the arm
# served and was drawn by its probability. A request that excludes the control is on no side of a
# holdout: nobody could have been held out of it. Values and weights of which the squares would
# overflow, which no traffic of ours has, are passed over: they must stop nothing.
_ENTERING = """
CREATE TEMP TABLE IF NOT EXISTS entering_alike (
    arm_id bigint, unit varchar(256), holdout boolean, value float8, weight float8, propensities float8[], n float8
) ON COMMIT DELETE ROWS
"""
_FILL = """
INSERT INTO entering_alike
SELECT arm_id, unit, holdout, value, CASE WHEN drawn THEN 1 / (propensity * chances) END, CASE WHEN drawn THEN propensities END, n
FROM ({outcomes}) AS alike
CROSS JOIN LATERAL (
    SELECT CASE WHEN %(weighs)s AND array_ndims(propensities) = 1
        THEN cardinality(array_remove(array_remove(propensities, 0), NULL)) END AS chances
) AS drawing
CROSS JOIN LATERAL (SELECT chances > 0 AND NOT failed AND holdout IS NOT TRUE AND propensity > 1e-12 AS drawn) AS service
"""
_DECIDED = """
JOIN serving_decision AS d ON d.decided_at = r.decided_at AND d.id = r.decision_id
WHERE d.decided_at >= %(start)s AND d.decided_at < %(end)s AND abs(r.value) <= 1e100
"""
_EACH = f"""
SELECT r.arm_id, d.unit, CASE WHEN d.excluded && %(control)s::bigint[] THEN NULL ELSE d.holdout END AS holdout, r.value,
    d.propensity, d.propensities, d.fallback_reason IS NOT NULL AS failed, 1 AS n
FROM {{rewards}} {_DECIDED}
"""  # noqa: S608 - constants
# Where units do not matter, and values are few: those that were drawn alike, counted.
_ALIKE = f"""
SELECT r.arm_id, NULL AS unit, d.holdout, r.value, d.propensity, d.propensities, d.fallback_reason IS NOT NULL AS failed, count(*) AS n
FROM {{rewards}} {_DECIDED} GROUP BY 1, 3, 4, 5, 6, 7
"""  # noqa: S608 - constants
_CLAIMED = """
unnest(%(ids)s::uuid[], %(times)s::timestamptz[], %(arms)s::bigint[], %(values)s::float8[])
    AS r (decision_id, decided_at, arm_id, value)
"""
_LEARNED = """
(SELECT decision_id, decided_at, arm_id, value FROM serving_reward
WHERE experiment_id = %(experiment)s AND metric = %(metric)s AND folded AND NOT late
    AND decided_at >= %(start)s AND decided_at < %(end)s {listed}) AS r
"""
_LISTED = "AND (decided_at, decision_id) IN (SELECT * FROM unnest(%(times)s::timestamptz[], %(ids)s::uuid[]))"


def fill(
    cursor: CursorWrapper,
    experiment: Experiment,
    start: datetime,
    end: datetime,
    *,
    listed: Named | None = None,
    units: UnitClass | None = None,
) -> int:
    """Put outcomes of decisions from `start` to `end` in front of `enter`; how many rows they take.

    All learned ones, or those of `listed` decisions; with `arms` and `values` these are the
    outcomes themselves. With `units` only those of one class of units.
    """
    if listed is None:
        alike = not keeps_units(experiment) and experiment.reward_.kind == "binary"
        outcomes = (_ALIKE if alike else _EACH).format(rewards=_LEARNED.format(listed=""))
        if units is not None:
            outcomes += f" AND {units.condition('d.unit')}"
    else:
        outcomes = _EACH.format(rewards=_CLAIMED if "values" in listed else _LEARNED.format(listed=_LISTED))
    cursor.execute(_ENTERING)
    asked: dict[str, Any] = {
        "experiment": experiment.pk,
        "metric": experiment.reward_.metric,
        "weighs": weighs(experiment),
        "control": list(experiment.arms.filter(is_control=True).values_list("pk", flat=True)),
        "start": start,
        "end": end,
        **(listed or {}),
    }
    cursor.execute(_FILL.format(outcomes=outcomes), asked)
    return int(cursor.rowcount)


_PARTS = "SELECT arm_id AS part, unit, value, weight FROM entering_alike"
_SIDES = f"""
UNION ALL SELECT CASE WHEN holdout THEN {HELD_OUT} ELSE {NOT_HELD_OUT} END, unit, value, NULL FROM entering_alike
WHERE holdout IS NOT NULL
"""  # noqa: S608 - constants
_LEVELS = "SELECT part, min(value) FROM ({parts}) AS parts GROUP BY part"

# Sums of squares grow by differences: with a unit's total t after it grew by d they grow by d (2 t
# - d). What came and what stands are put together by grouping, for a join of the two may be planned
# as a loop in a loop. A decision without a unit is one of its own.
_UNITS = """
WITH level AS (SELECT * FROM unnest(%(parts)s::bigint[], %(levels)s::float8[]) AS u (part, level)
), outcome AS MATERIALIZED (
    SELECT part, unit, value - level AS value, weight FROM ({parts}) AS parts JOIN level USING (part)
), came AS MATERIALIZED (
    SELECT part, unit, count(*)::float8 AS count, sum(value) AS total,
        COALESCE(sum(weight), 0) AS weight, COALESCE(sum(weight * value), 0) AS weighted
    FROM outcome WHERE unit IS NOT NULL GROUP BY part, unit
), stands AS (
    INSERT INTO {units} AS held (experiment_id, part, unit, count, total, weight, weighted)
    SELECT %(experiment)s, part, unit, count, total, weight, weighted FROM came ORDER BY part, unit
    ON CONFLICT (experiment_id, part, unit) DO UPDATE SET
        count = held.count + EXCLUDED.count, total = held.total + EXCLUDED.total,
        weight = held.weight + EXCLUDED.weight, weighted = held.weighted + EXCLUDED.weighted
    RETURNING part, unit, count, total, weight, weighted
), grown AS (
    SELECT part, sum(count) AS count, sum(total) AS total, sum(weight) AS weight, sum(weighted) AS weighted,
        sum(count_now) AS count_now, sum(total_now) AS total_now, sum(weight_now) AS weight_now, sum(weighted_now) AS weighted_now
    FROM (
        SELECT part, unit, count, total, weight, weighted, 0 AS count_now, 0 AS total_now, 0 AS weight_now, 0 AS weighted_now
        FROM came
        UNION ALL SELECT part, unit, 0, 0, 0, 0, count, total, weight, weighted FROM stands
    ) AS both_of_them GROUP BY part, unit
    UNION ALL SELECT part, 1, value, w, w * value, 1, value, w, w * value
    FROM (SELECT part, value, COALESCE(weight, 0) AS w FROM outcome WHERE unit IS NULL) AS alone
)
SELECT part, count(*) FILTER (WHERE count_now = count)::float8, sum(count), sum(total),
    sum(count * (2 * count_now - count)),
    sum(count_now * total + count * total_now - count * total),
    sum(total * (2 * total_now - total)),
    sum(weight * (2 * weight_now - weight)),
    sum(weight_now * weighted + weight * weighted_now - weight * weighted),
    sum(weighted * (2 * weighted_now - weighted))
FROM grown GROUP BY part
"""

# Decisions that were drawn alike are taken together first: a snapshot's have the same
# probabilities.
_SPLIT = """
WITH alike AS (
    SELECT arm_id, level, weight, propensities, sum(n) AS n, sum(n * (value - level)) AS total,
        sum(n * power(value - level, 2)) AS squares,
        (SELECT count(*) FROM unnest(propensities) AS p WHERE p > 0)::float8 AS chances
    FROM entering_alike JOIN unnest(%(parts)s::bigint[], %(levels)s::float8[]) AS u (arm_id, level) USING (arm_id)
    WHERE weight IS NOT NULL GROUP BY arm_id, level, weight, propensities
)
SELECT arm_id, NULL::bigint AS seat, sum(n), sum(total), sum(squares),
    sum(weight * n), sum(weight * total), sum(weight * squares),
    sum(weight * weight * n), sum(weight * weight * total), sum(weight * weight * squares)
FROM alike GROUP BY arm_id
UNION ALL SELECT NULL, seat, sum(n / chances), 0, 0, 0, 0, 0, 0, 0, 0
FROM alike, unnest(propensities) WITH ORDINALITY AS u (share, seat) WHERE share > 0 GROUP BY seat
"""


def enter(cursor: CursorWrapper, experiment: Experiment, sums: Sums, units: str = "learning_unitoutcomes") -> Sums:
    """What is to be added to `sums` for the outcomes that were filled in, which are then gone.

    What their units earned is added to the table `units`.
    """
    by_unit = keeps_units(experiment)
    parts_query = _PARTS + (_SIDES if experiment.holdout > 0 else "")
    cursor.execute(_LEVELS.format(parts=parts_query))
    added = {key: Part(sums.parts[key].level if key in sums.parts else least) for key, least in cursor.fetchall()}
    parameters: dict[str, Any] = {
        "experiment": experiment.pk,
        "parts": list(added),
        "levels": [part.level for part in added.values()],
    }
    share: list[float] = []
    if by_unit:
        cursor.execute(_UNITS.format(parts=parts_query, units=units), parameters)
        for key, *numbers in cursor.fetchall():
            added[key] = Part(added[key].level, np.array(numbers, dtype=np.float64), added[key].split)
    if weighs(experiment):
        cursor.execute(_SPLIT, parameters)
        rows = cursor.fetchall()
        share = [0.0] * max((seat for _, seat, *_ in rows if seat is not None), default=0)
        for arm, seat, *numbers in rows:
            if arm is None:
                share[seat - 1] = numbers[0]
            else:
                added[arm] = Part(added[arm].level, added[arm].units, np.array(numbers, dtype=np.float64))
    # The caller may fill in others in the same transaction.
    cursor.execute("TRUNCATE entering_alike")
    return Sums(parts=added, share=tuple(share))

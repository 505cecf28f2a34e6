"""What each part of the traffic would lose if one arm served all: of policies that choose by the
request's features. Reads only.

The parts are a declared category's values and the halves of a number's range. Figures are of the
newest matured decisions, the same for half a minute: they are read while somebody waits, and a page
that refreshes itself must not read them each time.
"""

from typing import Any

import msgspec
import numpy as np
from django.core.cache import cache
from msgspec import UNSET, Struct
from numpy.typing import NDArray

from bandits.inference.one_arm import OneArm, against_one_arm
from bandits.statistics import Array
from noregret.experiments.document import Field
from noregret.experiments.models import Arm, Experiment
from noregret.experiments.policies import looks_at_requests
from noregret.learning.clock import earliest_decision
from noregret.learning.evidence import eligible_arms, silence_means_nothing
from noregret.learning.models import ExperimentEvidence
from noregret.learning.totals import padded
from noregret.rest.replica import where_read

from .newest import since_newest
from .numbers import difference, values

READ_DECISIONS = 20_000
_KEPT_SECONDS = 30
SILENCE = " All this is of decisions that were answered, and right where arms are answered alike."

_ROWS = """
SELECT d.arm_id, d.propensities, r.value, d.context::text, d.excluded
FROM serving_reward AS r JOIN serving_decision AS d ON r.decided_at = d.decided_at AND r.decision_id = d.id
WHERE r.experiment_id = %(experiment)s AND r.metric = %(metric)s AND NOT r.late AND r.decided_at < %(until)s
AND r.decided_at >= %(since)s AND d.decided_at >= %(since)s AND d.decided_at < %(until)s AND d.experiment_id = %(experiment)s
AND d.fallback_reason IS NULL AND NOT d.holdout
ORDER BY r.decided_at DESC LIMIT %(limit)s
"""


class SegmentLoss(Struct, frozen=True):
    """What a segment would lose a decision if this arm served all of it, against the policy;
    `chosen`: the share of its decisions that the policy gave this arm."""

    arm: str
    chosen: float
    loss: float | None
    interval: tuple[float, float] | None


class Segment(Struct, frozen=True):
    """A part of the traffic: a category's value, or half of a number's range."""

    field: str
    segment: str
    decisions: int
    share: float
    losses: list[SegmentLoss]


class SingleArm(Struct, frozen=True):
    """What an arm would have earned a decision alone, and what the policy earned beyond that;
    intervals hold together at 95 %."""

    name: str
    value: float | None
    gain: float | None
    interval: tuple[float, float] | None


class Segments(Struct, frozen=True):
    """Of a policy that learns from features: what it earned a decision, what each arm alone would
    have, what each segment would lose."""

    decisions: int
    policy: float
    arms: list[SingleArm]
    best_arm: str | None
    segments: list[Segment]
    said: str


def of_experiment(experiment: Experiment) -> Segments | None:
    """The document, the same for half a minute; None for a policy that does not look at the
    request, and before decisions matured."""
    if not looks_at_requests(experiment) or experiment.apprentice:
        return None
    key = f"segments:{experiment.pk}:{experiment.created_at.timestamp()}"
    document: Segments | None = cache.get(key)
    if document is None:
        document = segments(experiment)
        if document is not None:
            cache.set(key, document, _KEPT_SECONDS)
    return document


def segments(experiment: Experiment) -> Segments | None:
    """What the policy earned a decision, what each arm would have, and what each segment would lose
    by each arm.

    A loss is what the policy earned there beyond the arm, a decision, so that positive is bad for
    the arm whichever way the reward goes.
    """
    arms = list(experiment.arms.order_by("position"))
    until = ExperimentEvidence.objects.values_list("closed_until", flat=True).get(experiment=experiment)
    position = {arm.pk: i for i, arm in enumerate(arms)}
    asked: dict[str, Any] = {
        "experiment": experiment.pk,
        "metric": experiment.reward_.metric,
        "until": until or experiment.created_at,
        "limit": READ_DECISIONS,
    }
    with where_read().cursor() as cursor:
        asked["since"] = since_newest(cursor, asked) or earliest_decision(experiment)
        cursor.execute(_ROWS, asked)
        rows = [row for row in cursor.fetchall() if _is_readable(row[0], row[1], position)]
    if not rows:
        return None
    sign = -1.0 if experiment.reward_.direction == "minimize" else 1.0
    arm = np.array([position[row[0]] for row in rows], dtype=np.int64)
    rewards = sign * np.array([row[2] for row in rows], dtype=np.float64)
    propensities = np.array([padded(row[1], len(arms)) for row in rows], dtype=np.float64)
    # A unit that keeps its arm makes decisions that hang together: their values are told, and no
    # interval.
    independent = not experiment.sticky
    eligible = eligible_arms([row[4] for row in rows], position)
    overall = against_one_arm(rewards, arm, propensities, eligible=eligible)
    contexts = [_read(row[3]) for row in rows]
    parts = []
    for field in experiment.context_.fields:
        for name, mask in _parts(field, contexts):
            here = against_one_arm(
                rewards[mask], arm[mask], propensities[mask], eligible=None if eligible is None else eligible[mask]
            )
            parts.append(
                Segment(
                    field=field.name,
                    segment=name,
                    decisions=int(mask.sum()),
                    share=float(mask.mean()),
                    losses=[
                        SegmentLoss(one.name, float((arm[mask] == i).mean()), found.gain, _interval(found, independent))
                        for i, (one, found) in enumerate(zip(arms, here, strict=True))
                    ],
                )
            )
    earned = float(sign * rewards.mean())
    singles = [
        SingleArm(
            name=one.name,
            value=None if found.value is None else sign * found.value,
            gain=found.gain,
            interval=_interval(found, independent),
        )
        for one, found in zip(arms, overall, strict=True)
    ]
    best = _best(arms, overall)
    return Segments(
        decisions=len(rows),
        policy=earned,
        arms=singles,
        best_arm=None if best is None else arms[best].name,
        segments=parts,
        said=_sentence(earned, None if best is None else singles[best], percent=experiment.reward_.kind == "binary")
        + (SILENCE if silence_means_nothing(experiment) else ""),
    )


def _is_readable(arm: int, propensities: list[float], position: dict[int, int]) -> bool:
    seat = position.get(arm)
    return seat is not None and seat < len(propensities) <= len(position) and propensities[seat] > 0.0


def _interval(found: OneArm, independent: bool) -> tuple[float, float] | None:
    return found.interval if independent else None


def _best(arms: list[Arm], overall: list[OneArm]) -> int | None:
    """The enabled arm that would have earned most alone; None while one of them is not known."""
    enabled = [i for i, arm in enumerate(arms) if arm.enabled]
    values = [overall[i].value for i in enabled]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return enabled[int(np.argmax(known))]


def _read(context: str | None) -> dict[str, Any]:
    try:
        return {} if context is None else msgspec.json.decode(context, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def _parts(field: Field, contexts: list[dict[str, Any]]) -> list[tuple[str, NDArray[np.bool_]]]:
    """The parts of the traffic by a field: a category's values and what is none of them, or the
    halves of a number's range."""
    given = [context.get(field.name) for context in contexts]
    if field.values is not UNSET:
        parts = [(value, np.array([one == value for one in given])) for value in field.values]
        parts.append(("other or unknown", np.array([one not in field.values for one in given])))
    else:
        assert field.min is not UNSET
        assert field.max is not UNSET, "a number has both"
        middle = (field.min + field.max) / 2.0
        numbers: Array = np.array(
            [float(one) if isinstance(one, int | float) and not isinstance(one, bool) else np.nan for one in given]
        )
        parts = [(f"below {middle:.15g}", numbers < middle), (f"{middle:.15g} or more", numbers >= middle)]
        parts.append(("unknown", np.isnan(numbers)))
    return [(name, mask) for name, mask in parts if mask.any()]


_EARNS = "The policy, not an arm, is what earns: "


def _sentence(earned: float, best: SingleArm | None, *, percent: bool) -> str:
    if best is None or best.value is None:
        only = values([earned], percent=percent)[0]
        return f"{_EARNS}{only} a decision. What one arm alone would have earned is not known yet."
    policy, alone = values([earned, best.value], percent=percent)
    said = f"{_EARNS}{policy} a decision"
    if best.interval is None or best.gain is None:
        return (
            f"{said}. What one arm alone would have earned is not known yet: there are too few choices for an interval."
        )
    said += f"; {best.name}, the best single arm, would have earned {alone}"
    beyond = difference(best.gain, best.interval, percent=percent)
    if best.interval[0] > 0:
        return f"{said}: the policy does better, by {beyond}."
    if best.interval[1] < 0:
        return f"{said}: the policy does worse, by {beyond}."
    return f"{said}: a difference is not shown, {beyond}."

"""What another policy would have earned on logged traffic: the log read from the ledger, and the
answer to any log.

Only matured decisions are read. Where silence means 0, the open ones are all successes: failures
among them come when their windows close.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from scipy import stats

from bandits.context import ContextInvalid, ContextSchema
from bandits.inference.sample_ratio import ALARM
from bandits.ope import Estimate, Log, Unsupported, evaluate
from bandits.policies import ContextualPolicy, Policy, make
from bandits.reward import RewardModel
from noregret.experiments.document import schema_of
from noregret.experiments.models import Experiment
from noregret.experiments.rewards import reward_model
from noregret.learning.evidence import eligible_arms
from noregret.learning.kept import rows_from
from noregret.learning.models import ExperimentEvidence
from noregret.learning.totals import padded
from noregret.rest.replica import where_read
from serving.times import Time

from .newest import since_newest

MOST_DECISIONS = 200_000
"""The newest matured decisions with a reward that an evaluation reads."""

EVALUATED_DECISIONS = 20_000
"""As many while somebody waits for the answer: about a second of two arms."""
EVALUATED_CELLS = 2_000_000
"""Decisions times arms times features that a policy which learns from features is replayed on while
somebody waits: each decision's chances are integrated over all arms."""
LEAST_EVALUATED = 1_000
COUNTED_TIMES = 10
"""Among so many times the decisions that may be read it is counted what was not read."""
EVALUATED_SECONDS = 10.0
"""After so long a replay that a request waits for is ended, and that is the answer."""

ESTIMATORS = {
    "ips": "importance weighting",
    "snips": "importance weighting, self-normalised",
    "dr": "doubly robust",
    "switch_dr": "doubly robust, extreme weights left to the model",
}
"""What an estimator of an evaluation is called."""

LEFT_OUT = {
    "open": "{:,} whose window is open",
    "unanswered": "{:,} that matured without a reward",
    "fallback": "{:,} that the champion answered in the arm's place",
    "holdout": "{:,} held out of the policy",
    "not_activated": "{:,} not activated",
    "not_learnable": "{:,} not learnable",
    "unreadable": "{:,} with an arm or propensities that are none of the experiment's",
}
"""Why decisions are not read, and how that is said of so many."""

_ROWS = """
SELECT d.arm_id, d.propensities, r.value, d.context::text, d.unit, d.decided_at, d.excluded
FROM serving_reward AS r JOIN serving_decision AS d ON r.decided_at = d.decided_at AND r.decision_id = d.id
WHERE r.experiment_id = %(experiment)s AND r.metric = %(metric)s AND NOT r.late AND r.decided_at < %(until)s
AND r.decided_at >= %(since)s AND d.decided_at >= %(since)s AND d.decided_at < %(until)s AND d.experiment_id = %(experiment)s
AND d.fallback_reason IS NULL AND NOT d.holdout
ORDER BY r.decided_at DESC, r.decision_id DESC LIMIT %(limit)s
"""

# Beside what was read: since the oldest decision of it, and of the newest decisions alone, so that
# a long ledger of which little is answered is not counted while somebody waits.
_COUNTED_SINCE = """
SELECT decided_at FROM serving_decision WHERE experiment_id = %(experiment)s AND decided_at >= %(since)s
ORDER BY decided_at DESC OFFSET %(counted)s - 1 LIMIT 1
"""
_LEFT_OUT = """
SELECT CASE WHEN d.fallback_reason IS NOT NULL THEN 'fallback' WHEN d.holdout THEN 'holdout'
    WHEN d.decided_at >= %(until)s THEN 'open' ELSE 'unanswered' END AS why, d.arm_id, count(*)
FROM serving_decision AS d LEFT JOIN serving_reward AS r
    ON r.decided_at = d.decided_at AND r.decision_id = d.id AND r.metric = %(metric)s AND NOT r.late
    AND r.experiment_id = %(experiment)s AND r.decided_at >= %(counted_since)s
WHERE d.experiment_id = %(experiment)s AND d.decided_at >= %(counted_since)s
AND (d.fallback_reason IS NOT NULL OR d.holdout OR d.decided_at >= %(until)s OR r.value IS NULL)
GROUP BY 1, 2
"""


class OffPolicyEstimate(Struct, frozen=True):
    """A mean reward with its standard error and 95 % interval, null where nothing bounds them;
    `successes` are of equal weight."""

    value: float
    standard_error: float | None
    interval: tuple[float, float] | None
    effective_sample_size: float
    successes: float


class Evaluation(Struct, frozen=True):
    """What another policy would have earned on the logged traffic that has matured; `refused` says
    why the log can't tell.

    `left_out` counts decisions that were not read, by reason.
    """

    policy: str
    params: dict[str, Any]
    decisions: int
    left_out: dict[str, int]
    matured_until: Time | None
    refused: str | None
    logged: OffPolicyEstimate | None
    estimates: dict[str, OffPolicyEstimate]
    shares: dict[str, float]
    warnings: list[str]


class TookTooLong(Exception):
    """The replay was ended by its deadline."""


class NotEvaluated(ValueError):
    """The question can't be asked so. `field` says what of it is wrong, where it is one thing."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


def of_experiment(
    experiment: Experiment, policy: str, params: Mapping[str, Any], *, seconds: float | None = None
) -> Evaluation:
    """The evaluation document, of decisions whose buckets are closed. Raises NotEvaluated.

    `seconds`: how long it may take where somebody waits; fewer decisions are read then. Where a
    bound is met, the document says so.
    """
    arms = list(experiment.arms.order_by("position").values_list("pk", "name"))
    position = {pk: i for i, (pk, _) in enumerate(arms)}
    begun = experiment.started_at or experiment.created_at
    closed = ExperimentEvidence.objects.filter(experiment=experiment).values_list("closed_until", flat=True).first()
    gone_before = rows_from(experiment)
    target = _target(policy, params)
    schema = schema_of(experiment.context_)
    limit = MOST_DECISIONS if seconds is None else _read_at_most(target, len(arms), schema)
    asked: dict[str, Any] = {
        "experiment": experiment.pk,
        "metric": experiment.reward_.metric,
        "until": closed or begun,
        "limit": limit,
        "counted": COUNTED_TIMES * limit,
    }
    with where_read().cursor() as cursor:
        newest = since_newest(cursor, asked)
        since = newest or begun - timedelta(days=1)
        whole = newest is None
        if gone_before is not None and gone_before >= since:
            since, whole = gone_before, True
        asked["since"] = since
        cursor.execute(_ROWS, asked)
        read = cursor.fetchall()[::-1]
        cursor.execute(_COUNTED_SINCE, asked)
        first = cursor.fetchone()
        asked["counted_since"] = since if first is None else first[0]
        cursor.execute(_LEFT_OUT, asked)
        others = cursor.fetchall()
    rows = [row for row in read if _is_readable(row[0], row[1], position)]
    left_out: Counter[str] = Counter(unreadable=len(read) - len(rows))
    unanswered: Counter[int] = Counter()
    for why, arm, count in others:
        left_out[why] += count
        if why == "unanswered" and arm in position:
            unanswered[position[arm]] += count
    policy_in_force = experiment.policy_
    log = Log(
        np.array([position[row[0]] for row in rows], dtype=np.int64),
        np.array([row[2] for row in rows], dtype=np.float64),
        np.array([padded(row[1], len(arms)) for row in rows], dtype=np.float64).reshape(len(rows), len(arms)),
        len(arms),
        None if schema is None else _features(schema, [row[3] for row in rows]),
        numbered([row[4] for row in rows]),
        [name for _, name in arms],
        eligible_arms([row[6] for row in rows], position),
    )
    found = answer(
        log,
        [name for _, name in arms],
        reward_model(experiment),
        policy,
        params,
        target=target,
        floor=0.0 if policy_in_force is None else policy_in_force.floor,
        burn_in=0.0 if policy_in_force is None else float(policy_in_force.burn_in),
        left_out=left_out,
        unanswered=unanswered,
        matured_until=closed,
        counted=np.array([row[5] >= asked["counted_since"] for row in rows], dtype=np.bool_),
        seconds=seconds,
    )
    told = []
    if gone_before is not None and whole:
        told.append(
            f"decisions before {gone_before:%Y-%m-%d} are not in the ledger any more, and in none of the figures"
        )
    if newest is not None:
        more = "" if seconds is None else f"; manage.py evaluate reads {MOST_DECISIONS:,}"
        told.append(f"the figures are of the newest {limit:,} decisions with a reward, of which there are more{more}")
    if first is not None:
        told.append(f"what was left out is counted among the newest {asked['counted']:,} decisions")
    return msgspec.structs.replace(found, warnings=[*found.warnings, *told])


def _target(policy: str, params: Mapping[str, Any]) -> Policy | ContextualPolicy:
    try:
        made: Policy | ContextualPolicy = make(policy, **params)
        return made
    except ValueError as error:
        raise NotEvaluated(str(error), "params" if "parameters" in str(error) else "policy") from error


def _read_at_most(target: Policy | ContextualPolicy, arms: int, schema: ContextSchema | None) -> int:
    """How many decisions are read while somebody waits."""
    if not target.contextual or schema is None:
        return EVALUATED_DECISIONS
    return int(np.clip(EVALUATED_CELLS // (arms * schema.features), LEAST_EVALUATED, EVALUATED_DECISIONS))


def _deadline(seconds: float | None) -> Callable[[], None] | None:
    """Raises TookTooLong from so many seconds on."""
    if seconds is None:
        return None
    ends = time.monotonic() + seconds

    def check() -> None:
        if time.monotonic() >= ends:
            raise TookTooLong

    return check


def _is_readable(arm: int, propensities: Sequence[float], position: Mapping[int, int]) -> bool:
    """Is it an arm of the experiment, which had a probability then?"""
    seat = position.get(arm)
    return seat is not None and seat < len(propensities) <= len(position) and propensities[seat] > 0.0


def numbered(units: Sequence[str | None]) -> Any:
    """A number for each unit (n,); a decision without a unit is one of its own."""
    numbers: dict[Any, int] = {}
    return np.array(
        [numbers.setdefault((i,) if unit is None else unit, len(numbers)) for i, unit in enumerate(units)],
        dtype=np.int64,
    )


def _features(schema: ContextSchema, contexts: Sequence[str | None]) -> Any:
    """The vectors (n, d); a context that can't be read says as little as none."""
    found = []
    for context in contexts:
        try:
            found.append(schema.encode(None if context is None else msgspec.json.decode(context, type=dict[str, Any])))
        except (ContextInvalid, msgspec.DecodeError):
            found.append(schema.encode(None))
    return np.array(found).reshape(len(contexts), schema.features)


def answer(
    log: Log,
    arms: Sequence[str],
    reward: RewardModel,
    policy: str,
    params: Mapping[str, Any],
    *,
    floor: float,
    burn_in: float,
    left_out: Mapping[str, int],
    unanswered: Mapping[int, int],
    matured_until: datetime | None,
    target: Policy | ContextualPolicy | None = None,
    counted: NDArray[np.bool_] | None = None,
    seconds: float | None = None,
) -> Evaluation:
    """The evaluation document of a log. What the log can't answer is said in `refused`, and that
    more than `seconds` were needed. Raises NotEvaluated.

    `left_out` counts decisions by reason (LEFT_OUT); `unanswered` those that matured without a
    reward, by the arm's position, in the time of which the log's `counted` (n,) are.
    """
    target = target or _target(policy, params)
    asked: dict[str, Any] = {
        "policy": policy,
        "params": dict(params),
        "decisions": len(log),
        "left_out": {why: int(left_out.get(why, 0)) for why in LEFT_OUT},
        "matured_until": matured_until,
    }
    try:
        if len(log) < 2 and left_out.get("open", 0):
            raise Unsupported(
                f"the log has {len(log)} matured decisions with a reward, and {left_out['open']:,} whose window is open: "
                "at least 2 were expected"
            )
        found = evaluate(target, log, reward, floor=floor, burn_in=burn_in, before_block=_deadline(seconds))
    except (Unsupported, TookTooLong) as ended:
        refusal = ended if isinstance(ended, Unsupported) else _too_long(policy, log, seconds or 0.0)
        return Evaluation(**asked, refused=str(refusal), logged=None, estimates={}, shares={}, warnings=[])
    except ValueError as error:
        raise NotEvaluated(str(error), "policy") from error
    warnings = dict.fromkeys(
        f"{name}: {said}" for name, estimate in found.estimates.items() for said in estimate.warnings
    )
    answered = _answered_unlike(log.arm if counted is None else log.arm[counted], arms, unanswered)
    return Evaluation(
        **asked,
        refused=None,
        logged=_estimate(found.logged),
        estimates={name: _estimate(estimate) for name, estimate in found.estimates.items()},
        shares={name: float(share) for name, share in zip(arms, found.shares, strict=True)},
        warnings=[*([] if answered is None else [answered]), *warnings],
    )


def _too_long(policy: str, log: Log, seconds: float) -> str:
    return (
        f"to replay {policy} on {len(log):,} decisions of {log.arms} arms takes longer than the {seconds:g} s that are "
        "waited for: manage.py evaluate takes the time that it needs"
    )


def left_out_in_words(found: Evaluation) -> str:
    """`120 whose window is open; 3 held out of the policy`, of an evaluation document; empty where
    all was read."""
    return "; ".join(said.format(found.left_out[why]) for why, said in LEFT_OUT.items() if found.left_out[why])


def _answered_unlike(answered: NDArray[np.int64], arms: Sequence[str], unanswered: Mapping[int, int]) -> str | None:
    """A warning where arms get their rewards at different rates: what was answered is then not what
    was drawn."""
    with_reward = np.bincount(answered, minlength=len(arms)).astype(np.float64)
    without = np.array([float(unanswered.get(i, 0)) for i in range(len(arms))])
    seen = with_reward + without > 0.0
    if seen.sum() < 2 or not without.any():
        return None
    if stats.chi2_contingency(np.stack((with_reward[seen], without[seen]))).pvalue >= ALARM:
        return None
    shares = ", ".join(
        f"{name} {part:.1%}"
        for name, part, at in zip(arms, with_reward / np.maximum(with_reward + without, 1.0), seen, strict=True)
        if at
    )
    return (
        f"arms get rewards at different rates ({shares} of matured decisions): decisions with a reward are not as they were drawn, and all "
        "figures are of these alone. Give the reward a default where silence means one"
    )


def _estimate(estimate: Estimate) -> OffPolicyEstimate:
    """Null is what can't be known: the warnings say why."""
    error = estimate.standard_error
    interval = estimate.interval
    return OffPolicyEstimate(
        value=estimate.value,
        standard_error=error if math.isfinite(error) else None,
        interval=None if interval is None or not all(map(math.isfinite, interval)) else interval,
        effective_sample_size=estimate.effective_sample_size,
        successes=estimate.successes,
    )

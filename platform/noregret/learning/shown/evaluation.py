"""What another policy would have earned on logged traffic: the log read from the ledger or a file, and the answer as a document.

Only matured decisions are read. Where silence means 0, the open ones are all successes: failures among them come when their windows close.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
import numpy as np
from django.db import connection
from scipy import stats

from bandits.context import ContextInvalid, ContextSchema
from bandits.inference.sample_ratio import ALARM
from bandits.ope import Estimate, Log, Unsupported, evaluate
from bandits.policies import make
from bandits.reward import RewardModel
from noregret.experiments.document import schema_of
from noregret.experiments.models import Experiment
from noregret.experiments.rewards import reward_model
from noregret.learning.buckets import GRACE_SECONDS
from noregret.learning.kept import rows_from
from noregret.learning.models import ExperimentEvidence
from noregret.learning.totals import padded
from serving.times import told

MOST_DECISIONS = 200_000
"""The newest matured decisions with a reward that an evaluation reads."""

EVALUATED_DECISIONS = 20_000
"""As many while somebody waits for the answer: about a second."""

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
    "not_learnable": "{:,} not learnable",
    "unreadable": "{:,} with an arm or propensities that are none of the experiment's",
}
"""Why decisions are not read, and how that is said of so many."""

_ROWS = """
SELECT d.arm_id, d.propensities, r.value, d.context::text, d.unit, d.decided_at
FROM serving_reward AS r JOIN serving_decision AS d ON r.decided_at = d.decided_at AND r.decision_id = d.id
WHERE r.experiment_id = %(experiment)s AND r.metric = %(metric)s AND NOT r.late AND r.decided_at < %(until)s
AND r.decided_at >= coalesce(%(rows_from)s::timestamptz, '-infinity')
AND d.fallback_reason IS NULL AND NOT d.holdout
ORDER BY r.decided_at DESC, r.decision_id DESC LIMIT %(limit)s
"""

# Beside what was read: since the oldest decision of it, so that a long ledger is not counted while somebody waits.
_LEFT_OUT = """
SELECT CASE WHEN d.fallback_reason IS NOT NULL THEN 'fallback' WHEN d.holdout THEN 'holdout'
    WHEN d.decided_at >= %(until)s THEN 'open' ELSE 'unanswered' END AS why, d.arm_id, count(*)
FROM serving_decision AS d LEFT JOIN serving_reward AS r
    ON r.decided_at = d.decided_at AND r.decision_id = d.id AND r.metric = %(metric)s AND NOT r.late
WHERE d.experiment_id = %(experiment)s AND d.decided_at >= %(since)s
AND (d.fallback_reason IS NOT NULL OR d.holdout OR d.decided_at >= %(until)s OR r.value IS NULL)
GROUP BY 1, 2
"""


class NotEvaluated(ValueError):
    """The question can't be asked so. `field` says what of it is wrong, where it is one thing."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class LineInvalid(ValueError):
    """A line of a file is no logged decision."""


def of_experiment(
    experiment: Experiment, policy: str, params: Mapping[str, Any], *, limit: int = MOST_DECISIONS
) -> dict[str, Any]:
    """The evaluation document, of decisions whose buckets are closed. Raises NotEvaluated."""
    arms = list(experiment.arms.order_by("position").values_list("pk", "name"))
    position = {pk: i for i, (pk, _) in enumerate(arms)}
    begun = experiment.started_at or experiment.created_at
    closed = ExperimentEvidence.objects.filter(experiment=experiment).values_list("closed_until", flat=True).first()
    gone_before = rows_from(experiment)
    asked: dict[str, Any] = {
        "experiment": experiment.pk,
        "metric": experiment.reward_.metric,
        "until": closed or begun,
        "limit": limit,
        "rows_from": gone_before,
    }
    with connection.cursor() as cursor:
        cursor.execute(_ROWS, asked)
        read = cursor.fetchall()[::-1]
        whole = len(read) < limit
        since = begun - timedelta(days=1)
        if not whole:
            since = read[0][5]
        elif gone_before is not None:
            since = max(since, gone_before)
        cursor.execute(_LEFT_OUT, asked | {"since": since})
        others = cursor.fetchall()
    rows = [row for row in read if _is_readable(row[0], row[1], position)]
    left_out: Counter[str] = Counter(unreadable=len(read) - len(rows))
    unanswered: Counter[int] = Counter()
    for why, arm, count in others:
        left_out[why] += count
        if why == "unanswered" and arm in position:
            unanswered[position[arm]] += count
    schema = schema_of(experiment.context_)
    policy_in_force = experiment.policy_
    log = Log(
        np.array([position[row[0]] for row in rows], dtype=np.int64),
        np.array([row[2] for row in rows], dtype=np.float64),
        np.array([padded(row[1], len(arms)) for row in rows], dtype=np.float64).reshape(len(rows), len(arms)),
        len(arms),
        None if schema is None else _features(schema, [row[3] for row in rows]),
        _numbered([row[4] for row in rows]),
        [name for _, name in arms],
    )
    found = answer(
        log,
        [name for _, name in arms],
        reward_model(experiment),
        policy,
        params,
        floor=0.0 if policy_in_force is None else policy_in_force.floor,
        burn_in=0.0 if policy_in_force is None else float(policy_in_force.burn_in),
        left_out=left_out,
        unanswered=unanswered,
        matured_until=closed,
    )
    if gone_before is not None and whole:
        found["warnings"].append(
            f"decisions before {gone_before:%Y-%m-%d} are not in the ledger any more, and in none of the figures"
        )
    return found


def _is_readable(arm: int, propensities: Sequence[float], position: Mapping[int, int]) -> bool:
    """Is it an arm of the experiment, which had a probability then?"""
    seat = position.get(arm)
    return seat is not None and seat < len(propensities) <= len(position) and propensities[seat] > 0.0


def _numbered(units: Sequence[str | None]) -> Any:
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


_Time = Annotated[datetime, msgspec.Meta(tz=True)]


class _Line(msgspec.Struct):
    """What of a line of decisions.ndjson is needed."""

    arm: str | None
    propensity: float
    context: dict[str, Any] | None = None
    reward: float | bool | None = None
    fallback_reason: str | None = None
    unit: str | None = None
    decided_at: _Time | None = None
    rewarded_at: _Time | None = None
    propensities: dict[str, float] | None = None
    holdout: bool = False
    learnable: bool = True


@dataclass(frozen=True, slots=True)
class FileTerms:
    """What a file does not say of itself. An experiment's (`FileTerms.of`), or as people tell it.

    `window_seconds` is the reward's attribution window and `default` what no feedback in it means, None where it means nothing; `as_of` is
    when the file was made, without it the latest time in it. Without a `kind` rewards that are all 0 and 1 are binary. `arms` by name,
    without them those that occur.
    """

    window_seconds: float | None = None
    default: float | None = None
    as_of: datetime | None = None
    kind: str | None = None
    direction: str = "maximize"
    minimum: float | None = None
    maximum: float | None = None
    fields: Sequence[Mapping[str, Any]] = ()
    floor: float = 0.0
    burn_in: float = 0.0
    arms: Sequence[str] = ()

    @classmethod
    def of(cls, experiment: Experiment) -> "FileTerms":
        reward, policy = experiment.reward_, experiment.policy_
        return cls(
            window_seconds=reward.window_seconds,
            default=reward.default,
            kind=reward.kind,
            direction=reward.direction,
            minimum=reward.minimum,
            maximum=reward.maximum,
            fields=msgspec.to_builtins(experiment.context_.fields),
            floor=0.0 if policy is None else policy.floor,
            burn_in=0.0 if policy is None else float(policy.burn_in),
            arms=list(experiment.arms.order_by("position").values_list("name", flat=True)),
        )


def of_lines(
    lines: Iterable[bytes], policy: str, params: Mapping[str, Any], terms: FileTerms | None = None
) -> dict[str, Any]:
    """The evaluation document of a file in the form of decisions.ndjson. Raises NotEvaluated, LineInvalid."""
    terms = terms or FileTerms()
    read = _read(lines, terms)
    kept, left_out, unanswered, as_of = _matured(read, terms)
    if not kept and left_out["open"] and terms.window_seconds is not None:
        raise NotEvaluated(
            f"no decision in the file has matured: {left_out['open']:,} were made less than the window of {terms.window_seconds:g} "
            f"seconds before {as_of}, when it was made"
        )
    if not kept:
        raise NotEvaluated("no line has an arm and a reward")
    if terms.window_seconds is None and left_out["unanswered"]:
        raise NotEvaluated(
            f"{left_out['unanswered']:,} lines have no reward, and nothing tells whether their windows are still open: the reward's "
            "window is needed, and its default where no feedback means a reward",
            "window",
        )
    names = list(terms.arms) or sorted(
        {name for line, _ in kept for name in (str(line.arm), *(line.propensities or {}))}
    )
    position = {name: i for i, name in enumerate(names)}
    strangers = sorted({str(line.arm) for line, _ in kept} - position.keys())
    if strangers:
        raise NotEvaluated(f"the experiment has no arm {strangers[0][:80]}")
    rewards = np.array([value for _, value in kept])
    kind = terms.kind
    if kind is None:
        kind = "binary" if bool(np.isin(rewards, (0.0, 1.0)).all()) else "continuous"
    try:
        reward = RewardModel(kind, terms.direction, terms.minimum, terms.maximum)  # type: ignore[arg-type]  # it checks them itself
        schema = ContextSchema.from_document(terms.fields) if terms.fields else None
        x = None if schema is None else schema.encode_all([line.context for line, _ in kept])
    except (ContextInvalid, ValueError, KeyError) as error:
        raise NotEvaluated(str(error)) from error
    log = Log(
        np.array([position[str(line.arm)] for line, _ in kept], dtype=np.int64),
        rewards,
        _propensities([line for line, _ in kept], names),
        len(names),
        x,
        _numbered([line.unit for line, _ in kept]),
        names,
    )
    return answer(
        log,
        names,
        reward,
        policy,
        params,
        floor=terms.floor,
        burn_in=terms.burn_in,
        left_out=left_out,
        unanswered=Counter({position[arm]: count for arm, count in unanswered.items() if arm in position}),
        matured_until=None
        if as_of is None or terms.window_seconds is None
        else as_of - timedelta(seconds=terms.window_seconds),
    )


def _read(lines: Iterable[bytes], terms: FileTerms) -> list[_Line]:
    """The lines in order of decision time. Raises LineInvalid."""
    decoder = msgspec.json.Decoder(_Line)
    read: list[_Line] = []
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            line = decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LineInvalid(f"line {number}: {error}") from error
        if not 0.0 < line.propensity <= 1.0 + 1e-9 or not math.isfinite(line.reward or 0.0):
            raise LineInvalid(f"line {number}: a propensity in (0, 1] and a finite reward were expected")
        every = line.propensities
        if every is not None and (
            not all(0.0 <= share <= 1.0 + 1e-9 for share in every.values())
            or abs(sum(every.values()) - 1.0) > 1e-6
            or abs(every.get(str(line.arm), 0.0) - line.propensity) > 1e-6
        ):
            raise LineInvalid(
                f"line {number}: propensities of every arm were expected that sum to 1, with the arm's own as propensity says"
            )
        if terms.window_seconds is not None and line.decided_at is None:
            raise LineInvalid(f"line {number}: decided_at was expected, to tell whether the decision has matured")
        read.append(line)
    timed = [(line.decided_at, i) for i, line in enumerate(read) if line.decided_at is not None]
    return [read[i] for _, i in sorted(timed)] if len(timed) == len(read) else read


def _matured(
    read: Sequence[_Line], terms: FileTerms
) -> tuple[list[tuple[_Line, float]], Counter[str], Counter[str], datetime | None]:
    """(matured lines with their rewards, how many were left out by reason, unanswered ones by arm, when the file was made)."""
    times = [at for line in read for at in (line.decided_at, line.rewarded_at) if at is not None]
    as_of = terms.as_of or max(times, default=None)
    kept: list[tuple[_Line, float]] = []
    left_out: Counter[str] = Counter()
    unanswered: Counter[str] = Counter()
    for line in read:
        value = None if line.reward is None else float(line.reward)
        if terms.window_seconds is not None and line.decided_at is not None and as_of is not None:
            ends = line.decided_at + timedelta(seconds=terms.window_seconds)
            late = line.rewarded_at is not None and line.rewarded_at > ends + timedelta(seconds=GRACE_SECONDS)
            # What came after the window is the default that was given then, or feedback that came too late.
            value = terms.default if value is None or late else value
            is_open = ends > as_of
        else:
            is_open = False
        if line.fallback_reason is not None:
            left_out["fallback"] += 1
        elif line.holdout:
            left_out["holdout"] += 1
        elif not line.learnable:
            left_out["not_learnable"] += 1
        elif line.arm is None:
            left_out["unreadable"] += 1
        elif is_open:
            left_out["open"] += 1
        elif value is None:
            left_out["unanswered"] += 1
            unanswered[line.arm] += 1
        else:
            kept.append((line, value))
    return kept, left_out, unanswered, as_of


def _propensities(lines: Sequence[_Line], names: Sequence[str]) -> Any:
    """Every arm's (n, K) where all lines have them, else the chosen one's (n,)."""
    if any(line.propensities is None for line in lines):
        return np.array([min(line.propensity, 1.0) for line in lines])
    return np.array([[min((line.propensities or {}).get(name, 0.0), 1.0) for name in names] for line in lines])


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
) -> dict[str, Any]:
    """The evaluation document of a log. What the log can't answer is said in `refused`. Raises NotEvaluated.

    `left_out` counts decisions by reason (LEFT_OUT); `unanswered` those that matured without a reward, by the arm's position.
    """
    try:
        target = make(policy, **params)
    except ValueError as error:
        raise NotEvaluated(str(error), "params" if "parameters" in str(error) else "policy") from error
    asked: dict[str, Any] = {
        "policy": policy,
        "params": dict(params),
        "decisions": len(log),
        "left_out": {why: int(left_out.get(why, 0)) for why in LEFT_OUT},
        "matured_until": None if matured_until is None else told(matured_until),
    }
    try:
        if len(log) < 2 and left_out.get("open", 0):
            raise Unsupported(
                f"the log has {len(log)} matured decisions with a reward, and {left_out['open']:,} whose window is open: "
                "at least 2 were expected"
            )
        found = evaluate(target, log, reward, floor=floor, burn_in=burn_in)
    except Unsupported as refusal:
        return {**asked, "refused": str(refusal), "logged": None, "estimates": {}, "shares": {}, "warnings": []}
    except ValueError as error:
        raise NotEvaluated(str(error), "policy") from error
    warnings = dict.fromkeys(
        f"{name}: {said}" for name, estimate in found.estimates.items() for said in estimate.warnings
    )
    answered = _answered_unlike(log, arms, unanswered)
    return {
        **asked,
        "refused": None,
        "logged": _document(found.logged),
        "estimates": {name: _document(estimate) for name, estimate in found.estimates.items()},
        "shares": {name: float(share) for name, share in zip(arms, found.shares, strict=True)},
        "warnings": [*([] if answered is None else [answered]), *warnings],
    }


def left_out_in_words(found: Mapping[str, Any]) -> str:
    """`120 whose window is open; 3 held out of the policy`, of an evaluation document; empty where all was read."""
    return "; ".join(said.format(found["left_out"][why]) for why, said in LEFT_OUT.items() if found["left_out"][why])


def _answered_unlike(log: Log, arms: Sequence[str], unanswered: Mapping[int, int]) -> str | None:
    """A warning where arms get their rewards at different rates: what was answered is then not what was drawn."""
    with_reward = np.bincount(log.arm, minlength=log.arms).astype(np.float64)
    without = np.array([float(unanswered.get(i, 0)) for i in range(log.arms)])
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


def _document(estimate: Estimate) -> dict[str, Any]:
    """Null is what can't be known: the warnings say why."""
    error = estimate.standard_error
    interval = estimate.interval
    return {
        "value": estimate.value,
        "standard_error": error if math.isfinite(error) else None,
        "interval": None if interval is None or not all(map(math.isfinite, interval)) else list(interval),
        "effective_sample_size": estimate.effective_sample_size,
        "successes": estimate.successes,
    }

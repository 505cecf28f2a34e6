"""What another policy would have earned on logged traffic: the log read from the ledger or a file, and the answer as a document."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from django.db import connection

from bandits.context import ContextInvalid, ContextSchema
from bandits.ope import Estimate, Log, Unsupported, evaluate
from bandits.policies import make
from bandits.reward import RewardModel
from noregret.experiments.models import Experiment
from noregret.experiments.rewards import reward_model

from .totals import padded

MOST_DECISIONS = 200_000
"""The newest decisions with a reward that an evaluation reads."""

EVALUATED_DECISIONS = 20_000
"""As many while somebody waits for the answer: about a second."""

_ROWS = """
SELECT d.arm_id, d.propensities, r.value, d.context::text
FROM serving_reward AS r JOIN serving_decision AS d ON r.decided_at = d.decided_at AND r.decision_id = d.id
WHERE r.experiment_id = %(experiment)s AND r.metric = %(metric)s AND NOT r.late AND d.fallback_reason IS NULL
ORDER BY r.decided_at DESC LIMIT %(limit)s
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
    """The evaluation document. Raises NotEvaluated."""
    arms = list(experiment.arms.order_by("position").values_list("pk", "name"))
    position = {pk: i for i, (pk, _) in enumerate(arms)}
    with connection.cursor() as cursor:
        cursor.execute(_ROWS, {"experiment": experiment.pk, "metric": experiment.reward["metric"], "limit": limit})
        rows = [row for row in cursor.fetchall()[::-1] if row[0] in position and len(row[1]) <= len(arms)]
    fields = (experiment.context or {}).get("fields", [])
    schema = ContextSchema.from_document(fields) if fields else None
    held = experiment.policy or {}
    log = Log(
        np.array([position[row[0]] for row in rows], dtype=np.int64),
        np.array([row[2] for row in rows], dtype=np.float64),
        np.array([padded(row[1], len(arms)) for row in rows], dtype=np.float64).reshape(len(rows), len(arms)),
        len(arms),
        None if schema is None else _features(schema, [row[3] for row in rows]),
    )
    return answer(
        log,
        [name for _, name in arms],
        reward_model(experiment),
        policy,
        params,
        floor=float(held.get("floor", 0.0)),
        burn_in=float(held.get("burn_in", 0.0)),
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


class _Line(msgspec.Struct):
    """What of a line of decisions.ndjson is needed."""

    arm: str | None
    propensity: float
    context: dict[str, Any] | None = None
    reward: float | bool | None = None
    fallback_reason: str | None = None


def of_lines(
    lines: Iterable[bytes],
    policy: str,
    params: Mapping[str, Any],
    *,
    kind: str | None = None,
    direction: str = "maximize",
    fields: Sequence[Mapping[str, Any]] = (),
    floor: float = 0.0,
    burn_in: float = 0.0,
) -> dict[str, Any]:
    """The evaluation document of a file in the form of decisions.ndjson, in order of time.

    Arms are those that occur, by name; without a `kind` rewards that are all 0 and 1 are binary. Raises NotEvaluated, LineInvalid.
    """
    decoder = msgspec.json.Decoder(_Line)
    read: list[_Line] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            one = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LineInvalid(f"line {number}: {error}") from error
        if one.arm is None or one.reward is None or one.fallback_reason is not None:
            continue  # without a reward, or not served by its arm: nothing to learn from
        if not 0.0 < one.propensity <= 1.0 + 1e-9 or not math.isfinite(one.reward):
            raise LineInvalid(f"line {number}: a propensity in (0, 1] and a finite reward were expected")
        read.append(one)
    if not read:
        raise NotEvaluated("no line has an arm and a reward")
    names = sorted({str(line.arm) for line in read})
    position = {name: i for i, name in enumerate(names)}
    rewards = np.array([float(line.reward or 0.0) for line in read])
    if kind is None:
        kind = "binary" if bool(np.isin(rewards, (0.0, 1.0)).all()) else "continuous"
    try:
        reward = RewardModel(kind, direction)  # type: ignore[arg-type]  # it checks them itself
        schema = ContextSchema.from_document(fields) if fields else None
        x = None if schema is None else schema.encode_all([line.context for line in read])
    except (ContextInvalid, ValueError, KeyError) as error:
        raise NotEvaluated(str(error)) from error
    log = Log(
        np.array([position[str(line.arm)] for line in read], dtype=np.int64),
        rewards,
        np.array([min(line.propensity, 1.0) for line in read]),
        len(names),
        x,
    )
    return answer(log, names, reward, policy, params, floor=floor, burn_in=burn_in)


def answer(
    log: Log,
    arms: Sequence[str],
    reward: RewardModel,
    policy: str,
    params: Mapping[str, Any],
    *,
    floor: float,
    burn_in: float,
) -> dict[str, Any]:
    """The evaluation document of a log. What the log can't answer is said in `refused`. Raises NotEvaluated."""
    try:
        target = make(policy, **params)
    except ValueError as error:
        raise NotEvaluated(str(error), "params" if "parameters" in str(error) else "policy") from error
    asked = {"policy": policy, "params": dict(params), "decisions": len(log)}
    try:
        found = evaluate(target, log, reward, floor=floor, burn_in=burn_in)
    except Unsupported as refusal:
        return {**asked, "refused": str(refusal), "logged": None, "estimates": {}, "shares": {}, "warnings": []}
    except ValueError as error:
        raise NotEvaluated(str(error), "policy") from error
    warnings = dict.fromkeys(
        f"{name}: {said}" for name, estimate in found.estimates.items() for said in estimate.warnings
    )
    return {
        **asked,
        "refused": None,
        "logged": _document(found.logged),
        "estimates": {name: _document(estimate) for name, estimate in found.estimates.items()},
        "shares": {name: float(share) for name, share in zip(arms, found.shares, strict=True)},
        "warnings": list(warnings),
    }


def _document(estimate: Estimate) -> dict[str, Any]:
    return {
        "value": estimate.value,
        "standard_error": estimate.standard_error,
        "interval": list(estimate.interval),
        "effective_sample_size": estimate.effective_sample_size,
    }

"""Rewards in: from what a caller sent to what the ledger committed. Every protocol's face calls
this."""

import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

import structlog

from . import metrics, snapshot
from .ledger import causes
from .ledger.rewards import MOST_OTHER_METRICS, LedgerUnavailable, NewReward, Outcome
from .process import Process
from .tokens import InvalidToken, Token

log = structlog.get_logger(__name__)

MAX_BATCH = 1000
MAX_VALUE = 1e15
"""The greatest value, either way: beyond it whole numbers are not exact, and squares of a ledger's
worth would not fit."""
# A decision id whose experiment left the snapshot: its window closed long ago, and its rules are no
# longer known.
_FORGOTTEN_METRIC = "reward"

UNKNOWN = "no decision has this id"

Status = Literal["recorded", "duplicate", "late", "conflict", "not_learnable", "unknown", "invalid"]
_STATUS: dict[Outcome, Status] = {
    "recorded": "recorded",
    "late": "late",
    "duplicate": "duplicate",
    "conflict": "conflict",
    "too_many": "invalid",
}
_PROBLEM: dict[Outcome, tuple[str, str]] = {
    "conflict": ("value", "another value was recorded for this decision and metric"),
    "too_many": (
        "metric",
        f"this decision has {MOST_OTHER_METRICS} metrics already beside those that its experiment names",
    ),
}


class Feedback(NamedTuple):
    """One piece of feedback as it came, its JSON types already checked."""

    decision_id: str
    value: float | bool
    metric: str | None
    occurred_at: datetime | None


class Result(NamedTuple):
    """What became of one piece of feedback; `field` and `problem` say what is wrong with it, if
    anything is."""

    status: Status
    field: str | None = None
    problem: str | None = None


class KnownDecision(NamedTuple):
    """What a decision's id says, and its experiment's reward; None where that left the snapshot."""

    token: Token
    reward: snapshot.Reward | None


_RESULT = {outcome: Result(status, *_PROBLEM.get(outcome, ())) for outcome, status in _STATUS.items()}


def record_rewards(process: Process, feedback: Sequence[Feedback], key: snapshot.Key) -> list[Result]:
    """Check and commit, in one transaction; what became of each, in order. Raises
    LedgerUnavailable."""
    results: list[Result | None] = [None] * len(feedback)
    rewards: list[NewReward] = []
    places: list[int] = []
    for i, item in enumerate(feedback):
        checked = _check(process, item, key)
        if isinstance(checked, Result):
            results[i] = checked
        else:
            rewards.append(checked)
            places.append(i)
    for i, result in zip(places, write_rewards(process, rewards), strict=True):
        results[i] = result
    complete = [result for result in results if result is not None]
    for status, count in Counter(result.status for result in complete).items():
        metrics.REWARDS.labels(status).inc(count)
    return complete


def write_rewards(process: Process, rewards: Sequence[NewReward]) -> list[Result]:
    """Commit them, in one transaction; what became of each, in order. Raises LedgerUnavailable."""
    if not rewards:
        return []
    try:
        return [_RESULT[outcome] for outcome in process.rewards.write(rewards)]
    except LedgerUnavailable as error:
        note_not_taken("feedback not taken", error)
        raise


def note_not_taken(event: str, error: LedgerUnavailable) -> None:
    """Count and log what the ledger did not take."""
    reason = causes.reason(error.__cause__)
    metrics.FEEDBACK_UNAVAILABLE.labels(reason).inc()
    log.warning(event, reason=reason, error=causes.line(error.__cause__ or error))


def known_decision(process: Process, decision_id: str, key: snapshot.Key) -> KnownDecision | None:
    """The decision of this id, for a key that may hear of it; None for all others, which are told
    alike."""
    try:
        token = process.signer.read(decision_id)
    except InvalidToken:
        return None
    known = process.store.reward(token.experiment_id) if token.experiment_id else None
    if key.endpoints is not None and (known is None or known[0] not in key.endpoints):
        return None
    return KnownDecision(token, None if known is None else known[1])


def _check(process: Process, item: Feedback, key: snapshot.Key) -> NewReward | Result:
    decision = known_decision(process, item.decision_id, key)
    if decision is None:
        return Result("unknown", "decision_id", UNKNOWN)
    return checked_reward(decision.token, decision.reward, item)


def checked_reward(token: Token, reward: snapshot.Reward | None, item: Feedback) -> NewReward | Result:
    """What is to be written of feedback on a decision, or what is wrong with it."""
    if not -MAX_VALUE <= item.value <= MAX_VALUE:
        return Result("invalid", "value", f"must be between {-MAX_VALUE:g} and {MAX_VALUE:g}")
    if not token.learnable:
        return Result("not_learnable", "decision_id", "this decision was answered with learnable: false")
    if reward is None:
        return _reward(token, item, item.metric or _FORGOTTEN_METRIC, None, learned=False)
    metric = item.metric or reward.metric
    learned = metric == reward.metric
    if learned:
        problem = value_problem(item.value, reward)
        if problem:
            return Result("invalid", "value", problem)
    elif isinstance(item.value, bool):
        return Result("invalid", "value", f"must be a number for the metric {metric}")
    return _reward(token, item, metric, reward, learned=learned)


def _reward(token: Token, item: Feedback, metric: str, reward: snapshot.Reward | None, *, learned: bool) -> NewReward:
    """Without `reward` the experiment is forgotten, and its window closed."""
    return NewReward(
        decision_id=token.id,
        decided_at_us=token.decided_at_us,
        experiment_id=token.experiment_id,
        arm_id=token.arm_id,
        metric=metric,
        value=float(item.value),
        occurred_at=item.occurred_at,
        window_seconds=0.0 if reward is None else reward.window_seconds,
        learned=learned,
        waits=token.waits,
        named=frozenset() if reward is None else frozenset((reward.metric, *reward.guardrails)),
    )


def value_problem(value: float | bool, reward: snapshot.Reward) -> str | None:
    """What is wrong with a value of the experiment's reward, or None."""
    if reward.kind == "binary":
        return None if value in (0, 1) else "must be 0, 1, false or true: the reward is binary"
    if isinstance(value, bool) and reward.declared:
        return f"must be a number: the reward is {reward.kind}"
    if not math.isfinite(value):
        return "must be finite"
    if reward.kind == "count" and (value < 0 or value != int(value)):
        return "must be a whole number, 0 or more: the reward is a count"
    if reward.minimum is not None and value < reward.minimum:
        return f"must be at least {reward.minimum:g}"
    if reward.maximum is not None and value > reward.maximum:
        return f"must be at most {reward.maximum:g}"
    return None

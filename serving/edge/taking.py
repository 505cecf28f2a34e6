"""Devices' events in: each checked against the bundle that it names, kept once, and its rewards
written. Every protocol's face calls this.

A decision has the time at which it came: windows and evidence go by one clock, which nobody sends.
The device's time stands beside it.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from bandits.context import ContextInvalid
from serving import metrics, snapshot
from serving.api import bodies
from serving.feedback import Feedback, Result, checked_reward, note_not_taken, write_rewards
from serving.ledger import events as ledger_events
from serving.ledger.edge_decisions import BESIDE, EdgeDecision, KnownEdgeDecision, experiment_of
from serving.ledger.ingest import as_json
from serving.ledger.rewards import LedgerUnavailable, NewReward
from serving.problems import FieldError
from serving.process import Process
from serving.times import in_utc
from serving.tokens import Token, new_id

from .documents import EdgeDecisionEvent, EdgeEventResult, EdgeRewardEvent, event_of
from .judging import Claim, Kept, NotGiven, judge
from .receipt import InvalidReceipt, Receipt

AHEAD_SECONDS = 300.0
"""A device's clock may be so far from this one, and no further than a bundle's lifetime."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATE = -1.0
_MICROSECOND = timedelta(microseconds=1)


class Taken(NamedTuple):
    """What is checked of a decision, to be kept."""

    place: int
    row: EdgeDecision


def take_events(process: Process, receipt: Receipt, raw: Sequence[msgspec.Raw], now: float) -> list[EdgeEventResult]:
    """Check and commit; what became of each, in order. Decisions go before rewards, wherever they
    stand. Raises LedgerUnavailable."""
    results: list[EdgeEventResult | None] = [None] * len(raw)
    decisions: list[Taken] = []
    rewards: list[tuple[int, EdgeRewardEvent]] = []
    for i, one in enumerate(raw):
        try:
            event = event_of(one)
        except bodies.WrongItem as wrong:
            results[i] = EdgeEventResult("invalid", wrong.error)
            continue
        if isinstance(event, EdgeRewardEvent):
            rewards.append((i, event))
            continue
        checked = _checked(process, receipt, event, now)
        if isinstance(checked, EdgeEventResult):
            results[i] = checked
        else:
            decisions.append(Taken(i, checked))
    known = _keep(process, decisions, [event.decision_id.bytes for _, event in rewards], results)
    _reward(process, receipt, rewards, known, results)
    complete = [result for result in results if result is not None]
    for status, count in Counter(result.status for result in complete).items():
        metrics.EDGE_EVENTS.labels(receipt.endpoint, status).inc(count)
    return complete


def _checked(
    process: Process, receipt: Receipt, event: EdgeDecisionEvent, now: float
) -> EdgeDecision | EdgeEventResult:
    try:
        decided_us = (in_utc(event.decided_at) - _EPOCH) // _MICROSECOND
    except ValueError as error:
        return EdgeEventResult("invalid", {"field": "decided_at", "message": str(error)})
    expired = _expired(process, receipt, decided_us / 1e6, now)
    if expired is not None:
        return EdgeEventResult("expired", expired)
    try:
        kept = None if event.kept is None else Kept(process.edge.receipts.read(event.kept.receipt), event.kept.context)
        judged = judge(
            receipt,
            Claim(event.arm, event.propensity, event.unit, event.context, event.holdout, event.excluded, kept),
        )
        as_json(event.context)
    except NotGiven as error:
        return EdgeEventResult("refused", {"field": error.field, "message": error.message})
    except InvalidReceipt as error:
        return EdgeEventResult("refused", {"field": "kept.receipt", "message": f"not a receipt of ours: {error}"})
    except ContextInvalid as error:
        return EdgeEventResult("invalid", {"field": f"context.{error.field}", "message": error.message})
    except ValueError as error:
        return EdgeEventResult("invalid", {"field": "context", "message": str(error)})
    # Who makes decisions up may exclude all arms but one, and so choose it.
    is_evidence = receipt.is_evidence and (judged.excluded is None or receipt.takes_exclusions)
    number = receipt.experiment_id if is_evidence else BESIDE + receipt.experiment_id
    ledger_id = new_id()
    row = ledger_events.DecisionEvent(
        ledger_events.VERSION,
        ledger_id,
        number,
        judged.seat.arm_id,
        list(judged.propensities),
        judged.propensity,
        receipt.policy_version,
        event.unit,
        event.context,
        event.request_id,
        0.0,
        event.fallback_reason,
        event.holdout,
        None,
        None if judged.excluded is None else list(judged.excluded),
        None,
        decided_us,
    )
    return EdgeDecision(
        event.id.bytes,
        receipt.endpoint_id,
        number,
        judged.seat.arm_id,
        ledger_id,
        decided_us,
        event.fallback_reason is None,
        _digest(process, receipt, event, decided_us),
        int((receipt.expires_at + process.edge.grace_seconds) * 1e6),
        ledger_events.encode(row),
        event.unit,
    )


def _expired(process: Process, receipt: Receipt, decided_at: float, now: float) -> FieldError | None:
    """Why nothing of this time is taken under this bundle, or None."""
    ahead = min(AHEAD_SECONDS, receipt.expires_at - receipt.issued_at)
    if not receipt.issued_at - ahead <= decided_at <= receipt.expires_at:
        return {"field": "decided_at", "message": "it is not within the bundle's lifetime"}
    if decided_at > now + ahead:
        return {"field": "decided_at", "message": "it is in the future"}
    if now > receipt.expires_at + process.edge.grace_seconds:
        return {"field": "receipt", "message": "the bundle's grace is over: it came too late"}
    if not (receipt.experiment_id and receipt.record > 0.0):
        return {"field": "receipt", "message": "the endpoint kept no decisions when it gave this bundle"}
    if process.store.reward(receipt.experiment_id) is None:
        return {"field": "receipt", "message": "its experiment ended, and nothing is learned of it any more"}
    return None


def _digest(process: Process, receipt: Receipt, event: EdgeDecisionEvent, decided_us: int) -> bytes:
    """Of what a decision says, 32 bytes. What it says of whom is under the service's secret, for a
    unit may be forgotten, and nobody who reads the digest is to try units out."""
    said = [
        receipt.experiment_id,
        receipt.policy_version,
        event.arm,
        decided_us,
        event.holdout,
        sorted(event.excluded),
        event.fallback_reason,
    ]
    plain = hashlib.blake2b(msgspec.msgpack.encode(said), digest_size=16).digest()
    # A context by its content: a device may write its members in another order.
    asked = [event.unit, event.request_id, event.context and sorted(event.context.items())]
    return plain + process.edge.receipts.mark(msgspec.msgpack.encode([plain, asked]))


def _keep(
    process: Process, decisions: Sequence[Taken], asked: Sequence[bytes], results: list[EdgeEventResult | None]
) -> Mapping[bytes, KnownEdgeDecision]:
    first: dict[bytes, Taken] = {}
    for one in decisions:
        first.setdefault(one.row.id, one)
    try:
        written, known = process.rewards.keep_edge_decisions([one.row for one in first.values()], asked)
    except LedgerUnavailable as error:
        note_not_taken("events of devices not taken", error)
        raise
    for place, row in decisions:
        is_first = first[row.id].place == place
        if row.id in written and is_first:
            results[place] = EdgeEventResult("recorded", None)
        elif row.digest.startswith(known[row.id].digest):  # an older version kept the first half alone
            results[place] = EdgeEventResult("duplicate", None)
        else:
            results[place] = EdgeEventResult("conflict", {"field": "id", "message": "another decision has this id"})
    return known


def _reward(
    process: Process,
    receipt: Receipt,
    rewards: Sequence[tuple[int, EdgeRewardEvent]],
    known: Mapping[bytes, KnownEdgeDecision],
    results: list[EdgeEventResult | None],
) -> None:
    checked: list[NewReward] = []
    places: list[int] = []
    for place, event in rewards:
        decision = known.get(event.decision_id.bytes)
        if decision is None or decision.endpoint_id != receipt.endpoint_id:
            results[place] = _told(Result("unknown", "decision_id", "send its decision first, or with it"))
            continue
        reward = _checked_reward(process, decision, event)
        if isinstance(reward, Result):
            results[place] = _told(reward)
        else:
            checked.append(reward)
            places.append(place)
    for place, result in zip(places, write_rewards(process, checked), strict=True):
        results[place] = _told(result)


def _checked_reward(process: Process, decision: KnownEdgeDecision, event: EdgeRewardEvent) -> NewReward | Result:
    is_beside = decision.experiment_id >= BESIDE
    number = experiment_of(decision.experiment_id)
    rules = process.store.reward(number) if number else None
    reward: snapshot.Reward | None = None if rules is None else rules[1]
    try:
        occurred_at = in_utc(event.occurred_at)
    except ValueError as error:
        return Result("invalid", "occurred_at", str(error))
    seconds = (occurred_at - _EPOCH) / timedelta(seconds=1) - decision.decided_us / 1e6
    if seconds < -AHEAD_SECONDS:
        return Result("invalid", "occurred_at", "it is before its decision")
    token = Token(decision.ledger_id, decision.experiment_id, decision.arm_id, 0, 1.0, decision.learnable)
    checked = checked_reward(token, reward, Feedback("", event.value, event.metric, occurred_at))
    if isinstance(checked, Result):
        return checked
    if reward is not None and seconds > reward.window_seconds:  # by the device's clock, and so whenever it comes
        checked = checked._replace(window_seconds=_LATE)
    return checked._replace(learned=False) if is_beside else checked


def _told(result: Result) -> EdgeEventResult:
    error: FieldError | None = (
        None if result.problem is None else {"field": result.field or "value", "message": result.problem}
    )
    return EdgeEventResult(result.status, error)

"""Decisions that were shown: until then nothing is learned of one that was made with `activate:
false`. Every protocol's face calls this.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from . import metrics, snapshot
from .ledger import causes
from .ledger.activations import Activation, Outcome
from .ledger.rewards import LedgerUnavailable
from .process import Process
from .tokens import InvalidToken

log = structlog.get_logger(__name__)

ActivationStatus = Literal["activated", "duplicate", "late", "not_learnable", "unknown"]
_PROBLEM: dict[Outcome, str] = {"late": "its attribution window is over: nothing is learned of it any more"}


@dataclass(frozen=True, slots=True)
class ActivationResult:
    """What became of one activation; `problem` says why it was none."""

    status: ActivationStatus
    problem: str | None = None


def activate_decisions(process: Process, decision_ids: Sequence[str], key: snapshot.Key) -> list[ActivationResult]:
    """Check and commit, in one transaction; what became of each, in order. Raises
    LedgerUnavailable."""
    results: list[ActivationResult | None] = [None] * len(decision_ids)
    activations: list[Activation] = []
    places: list[int] = []
    for i, text in enumerate(decision_ids):
        checked = _check(process, text, key)
        if isinstance(checked, ActivationResult):
            results[i] = checked
        else:
            activations.append(checked)
            places.append(i)
    if activations:
        for i, outcome in zip(places, _write(process, activations), strict=True):
            results[i] = ActivationResult(outcome, _PROBLEM.get(outcome))
    complete = [result for result in results if result is not None]
    for result in complete:
        metrics.ACTIVATIONS.labels(result.status).inc()
    return complete


def _write(process: Process, activations: Sequence[Activation]) -> list[Outcome]:
    try:
        return process.rewards.activate(activations)
    except LedgerUnavailable as error:
        reason = causes.reason(error.__cause__)
        metrics.FEEDBACK_UNAVAILABLE.labels(reason).inc()
        log.warning("activations not taken", reason=reason, error=causes.line(error.__cause__ or error))
        raise


def _check(process: Process, text: str, key: snapshot.Key) -> Activation | ActivationResult:
    unknown = ActivationResult("unknown", "no decision has this id")
    try:
        token = process.signer.read(text)
    except InvalidToken:
        return unknown
    known = process.store.reward(token.experiment_id) if token.experiment_id else None
    if key.endpoints is not None and (known is None or known[0] not in key.endpoints):
        return unknown
    if not token.waits:
        # Who activates whatever is shown need not know how it was decided.
        if token.learnable:
            return ActivationResult("duplicate")
        return ActivationResult("not_learnable", "this decision was answered with learnable: false")
    # Of an experiment that left the snapshot every window closed long ago.
    window_seconds = 0.0 if known is None else known[1].window_seconds
    return Activation(token.id, token.decided_at_us, token.experiment_id, window_seconds)

"""Decisions that were shown: until then nothing is learned of one that was made with `activate:
false`. Every protocol's face calls this.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from . import metrics, snapshot
from .feedback import UNKNOWN, known_decision, note_not_taken
from .ledger.activations import Activation, Outcome
from .ledger.rewards import LedgerUnavailable
from .process import Process

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
    for status, count in Counter(result.status for result in complete).items():
        metrics.ACTIVATIONS.labels(status).inc(count)
    return complete


def _write(process: Process, activations: Sequence[Activation]) -> list[Outcome]:
    try:
        return process.rewards.activate(activations)
    except LedgerUnavailable as error:
        note_not_taken("activations not taken", error)
        raise


def _check(process: Process, text: str, key: snapshot.Key) -> Activation | ActivationResult:
    decision = known_decision(process, text, key)
    if decision is None:
        return ActivationResult("unknown", UNKNOWN)
    token, reward = decision
    if not token.waits:
        # Who activates whatever is shown need not know how it was decided.
        if token.learnable:
            return ActivationResult("duplicate")
        return ActivationResult("not_learnable", "this decision was answered with learnable: false")
    # Of an experiment that left the snapshot every window closed long ago.
    window_seconds = 0.0 if reward is None else reward.window_seconds
    return Activation(token.id, token.decided_at_us, token.experiment_id, window_seconds)

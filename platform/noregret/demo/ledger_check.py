"""Holds the ledger against what was sent: every acknowledged decision and reward is there, with the
value that was sent."""

import time
from dataclasses import dataclass

import msgspec

from .client import Client
from .traffic import Tally

WAIT_SECONDS = 30.0


class _Line(msgspec.Struct):
    decision_id: str
    reward: float | None


@dataclass(frozen=True, slots=True)
class LedgerCheck:
    """Counts of the ledger beside counts of what was acknowledged."""

    decisions: int
    rewards: int
    acknowledged_decisions: int
    acknowledged_rewards: int
    missing_decisions: int
    missing_rewards: int
    wrong_rewards: int
    unanswered: int

    @property
    def right(self) -> bool:
        """Nothing acknowledged is missing or altered; and nothing is there that was not sent.

        A request whose answer never came may or may not have been stored: as many extra rows are
        allowed.
        """
        return (
            self.missing_decisions == self.missing_rewards == self.wrong_rewards == 0
            and self.decisions - self.acknowledged_decisions <= self.unanswered
            and self.rewards - self.acknowledged_rewards <= self.unanswered
        )


def check(client: Client, experiment: str, tally: Tally) -> LedgerCheck:
    """Compare, waiting a bounded time for the last decisions to be drained from their stream."""
    decoder = msgspec.json.Decoder(_Line)
    until = time.monotonic() + WAIT_SECONDS
    while True:
        rows = {
            line.decision_id: line.reward
            for line in map(decoder.decode, client.lines(f"/api/v1/experiments/{experiment}/decisions.ndjson"))
        }
        found = _compare(rows, tally)
        if found.right or time.monotonic() > until:
            return found
        time.sleep(0.5)


def _compare(rows: dict[str, float | None], tally: Tally) -> LedgerCheck:
    return LedgerCheck(
        decisions=len(rows),
        rewards=sum(reward is not None for reward in rows.values()),
        acknowledged_decisions=len(tally.learnable),
        acknowledged_rewards=len(tally.rewarded),
        missing_decisions=len(tally.learnable - rows.keys()),
        missing_rewards=sum(rows.get(decision) is None for decision in tally.rewarded),
        wrong_rewards=sum(
            rows.get(decision) is not None and rows[decision] != value for decision, value in tally.rewarded.items()
        ),
        unanswered=tally.unanswered,
    )

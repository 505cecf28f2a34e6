"""Third of a decision's three steps: it goes into the ledger's stream, or onto the disk, and gets
the id that feedback names.

Who decides elsewhere (a device, a package) takes this step alone.
"""

import random
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import structlog

from . import metrics
from .choosing import Chosen
from .ledger import events
from .ledger.decision_log import StreamUnavailable
from .ledger.spool import SpoolFull
from .live import LiveEndpoint, Seat
from .process import Process
from .tokens import Token

log = structlog.get_logger(__name__)


class Recorded(NamedTuple):
    """What a decision is called, and whether it teaches."""

    signed_id: str  # as callers know it
    learnable: bool


class Keeper(Protocol):
    """Who keeps a decision in place of the ledger's stream, and brings it there later: whoever
    answers only what it can repeat."""

    decision_id: bytes

    def keep(self, event: events.DecisionEvent) -> bool:
        """Is it kept?"""


@dataclass(slots=True)
class Holding:
    """Holds the decision until it is known that no other was kept for its request."""

    decision_id: bytes
    event: bytes | None = None

    def keep(self, event: events.DecisionEvent) -> bool:
        self.event = events.encode(event)
        return True


def record(
    process: Process,
    live: LiveEndpoint,
    chosen: Chosen[Seat],
    decision_id: bytes,
    *,
    unit: str | None,
    context: dict[str, Any] | None,
    request_id: str | None,
    latency_ms: float,
    fallback_reason: str | None,
    waits: bool,
    cached: bool = False,
    keeper: Keeper | None = None,
) -> Recorded:
    """Keep a decision, for the share of its endpoint's that are kept. It is learnable if it was,
    and the chosen arm served; one that `waits`, once it is activated. One that no arm was left for
    is none of its experiment's, and not kept.

    `decision_id`: 16 bytes that say also when it was made (serving.tokens). `cached`: the chosen
    model's answer was kept from an earlier call.
    """
    seat, version = chosen.seat, live.document.version
    kept = False
    if chosen.by_arm and _is_sampled(live.recorded_share):
        event = events.DecisionEvent(
            events.WAITING if waits else events.VERSION,
            decision_id,
            live.experiment_id,
            seat.arm_id,
            chosen.propensities,  # type: ignore[arg-type]  # any sequence is encoded alike: no list is made a request
            chosen.propensity,
            version,
            unit,
            context,
            request_id,
            latency_ms,
            fallback_reason,
            chosen.holdout,
            None if chosen.proposed is None else chosen.proposed.arm_id,
            chosen.excluded,  # type: ignore[arg-type]  # as above
            cached=cached,
        )
        kept = append(process, live, event) if keeper is None else keeper.keep(event)
    learnable = kept and fallback_reason is None
    token = Token(decision_id, live.experiment_id, seat.arm_id, version, chosen.propensity, learnable, kept and waits)
    return Recorded(process.signer.sign(token), learnable)


def _is_sampled(share: float) -> bool:
    return share >= 1.0 or (share > 0.0 and random.random() < share)


def append(process: Process, live: LiveEndpoint, event: events.DecisionEvent) -> bool:
    """Append the decision to its stream, or to the spool; False when neither took it."""
    body = events.encode(event)
    endpoint = live.document.name
    reason = "backlog"
    if process.backlog.has_room(endpoint):
        try:
            process.log.append(endpoint, body)
        except StreamUnavailable as error:
            reason = error.reason
        else:
            return True
    try:
        process.spool.add(endpoint, body)
    except SpoolFull as error:
        metrics.NOT_LEARNABLE.labels(endpoint, error.reason).inc()
        log.error("decision not kept", endpoint=endpoint, reason=error.reason, error=str(error), not_appended=reason)
        return False
    metrics.SPOOLED.labels(endpoint, reason).inc()
    return True

"""One decision: route, have the arm (or, where it fails, the champion) answer, record. Every
protocol's face calls this."""

import random
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import metrics
from .answering import ModelFailed, Row, Served, rows_of, serve, unasked
from .choosing import EXCLUDED, Chosen, route
from .live import LiveEndpoint, Seat
from .process import Process
from .recording import Keeper, record
from .runtimes.columns import Rows
from .shadowing import VERSION as SHADOW_VERSION
from .shadowing import ShadowEvent
from .tokens import new_id

__all__ = ["Asked", "Decision", "ModelFailed", "decide"]


class Asked(NamedTuple):
    """What a caller wants decided. Without `inputs` it runs the model itself."""

    inputs: Sequence[Row] | Rows | None = None
    unit: str | None = None
    context: dict[str, Any] | None = None
    request_id: str | None = None
    exclude: Sequence[str] = ()
    """Names of arms that the request is not for. Those that no arm has are passed over: clients
    outlive experiments, and arms come and go."""
    activate: bool = True
    """False: nothing is learned of the decision until it is activated (serving.activation)."""


class Decision(NamedTuple):
    """A decision as every protocol answers it. Times are seconds of this request's parts."""

    decision_id: str
    endpoint: str
    experiment: str | None
    arm: str | None
    model: str
    strategy: str
    propensity: float
    policy_version: int
    outputs: dict[str, list[Any]]
    payload: Any
    learnable: bool
    stale: bool
    fallback_reason: str | None
    route_seconds: float
    predict_seconds: float
    record_seconds: float


def decide(process: Process, live: LiveEndpoint, asked: Asked, keeper: Keeper | None = None) -> Decision:
    """Decide, and predict when there are inputs. A `keeper` names the decision, and keeps it.

    Raises RowsInvalid for inputs that the endpoint's models can't take, ContextInvalid for a
    declared field of the wrong type, and ModelFailed when the champion fails too.
    """
    start = time.perf_counter()
    document = live.document
    decision_id = new_id() if keeper is None else keeper.decision_id
    chosen = route(process.assignments, live, asked.unit, asked.context, asked.exclude)
    seat = chosen.seat
    rows = None if asked.inputs is None else rows_of(live, asked.inputs, process.max_rows)
    routed = time.perf_counter()
    served = unasked(seat.live) if rows is None else serve(live, seat.live, rows, start)
    predicted = time.perf_counter()
    fallback_reason = served.fallback_reason
    if not chosen.by_arm and fallback_reason is None:
        fallback_reason = EXCLUDED
    recorded = record(
        process,
        live,
        chosen,
        decision_id,
        unit=asked.unit,
        context=asked.context,
        request_id=asked.request_id,
        latency_ms=(predicted - start) * 1000.0,
        fallback_reason=fallback_reason,
        waits=not asked.activate,
        cached=bool(served.is_kept) and fallback_reason is None,
        keeper=keeper,
    )
    if served.failure is not None:
        raise served.failure
    if rows is not None and recorded.learnable and live.shadow_sample > 0.0 and _is_copied(asked, chosen):
        _mirror(process, live, decision_id, rows, served, (predicted - routed) * 1000.0)
    done = time.perf_counter()
    metrics.GATHERING.note(document.name, seat.arm or "", fallback_reason or "", done - start, served.is_kept)
    return Decision(
        recorded.signed_id,
        document.name,
        live.experiment,
        seat.arm,
        served.model.model.model,
        live.strategy,
        chosen.propensity,
        document.version,
        served.outputs,
        seat.payload,
        recorded.learnable,
        process.store.is_stale(document.name),
        fallback_reason,
        routed - start,
        predicted - routed,
        done - predicted,
    )


def _is_copied(asked: Asked, chosen: Chosen[Seat]) -> bool:
    """Do challengers get a copy? Not of a request that excludes one of them, for the others would
    be compared on requests that it does not get; nor of one that may never be shown to anybody.
    """
    return chosen.excluded is None and asked.activate


def _mirror(
    process: Process, live: LiveEndpoint, decision_id: bytes, rows: Rows, served: Served, latency_ms: float
) -> None:
    """Offer a copy of the request to the challengers, for the share of requests that they are to
    see."""
    if random.random() < live.shadow_sample:
        predicted = served.outputs.get("predict", [])
        event = ShadowEvent(
            SHADOW_VERSION, decision_id, live.experiment_id, rows.tolist(), predicted, latency_ms, bool(served.is_kept)
        )
        process.shadower.offer(live.document.name, event)

"""One decision: route, let the arm (or, where it fails, the champion) predict, record, sign. Every protocol's face calls this."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from . import metrics, snapshot
from .breaker import CircuitOpen
from .deadline import DeadlineExceeded, Overloaded
from .ledger import events
from .ledger.decision_log import StreamUnavailable
from .ledger.spool import SpoolFull
from .live import LiveEndpoint, LiveModel
from .process import Process
from .routing import Route
from .runtimes.protocol import RowsRefused
from .runtimes.rows import RowsInvalid, to_array
from .shadowing import VERSION as SHADOW_VERSION
from .shadowing import ShadowEvent
from .sticky import Assignment
from .tokens import Token, new_id

log = structlog.get_logger(__name__)

# Of an endpoint's deadline, what an arm that may hang leaves to the champion that answers in its place.
CHAMPION_SHARE = 0.25

NOBODY_ANSWERED = "no_answer"
"""The fallback reason of a decision that neither its arm nor the champion could serve."""

_NO_OUTPUTS: dict[str, list[Any]] = {}

Row = Sequence[Any] | dict[str, Any]


class ModelFailed(Exception):
    """The champion itself could not answer: there is nobody left to fall back on."""


@dataclass(slots=True)
class Decision:
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


def decide(
    process: Process,
    live: LiveEndpoint,
    *,
    inputs: Sequence[Row] | None,
    unit: str | None,
    context: dict[str, Any] | None,
    request_id: str | None,
) -> Decision:
    """Decide, and predict when there are inputs.

    Raises RowsInvalid for inputs that the endpoint's models can't take, ContextInvalid for a declared field of the wrong type, and
    ModelFailed when the champion fails too.
    """
    start = time.perf_counter()
    document = live.document
    experiment = document.experiment
    decision_id = new_id()
    chosen, position = live.champion, -1
    propensities: Sequence[float] = ()
    routed_to: Route | None = None
    if experiment is not None and live.router is not None:
        # Checked whatever the policy: what is logged is evaluated and learned from later.
        x = None if live.schema is None else live.schema.encode(context)
        routed_to = live.router.route(unit, x)
        if experiment.sticky and unit is not None and not routed_to.holdout and routed_to.proposed is None:
            routed_to = _kept(process, document.name, experiment, unit, routed_to)
        position, propensities = routed_to.position, routed_to.propensities
        chosen = live.arms[position]
    rows = None
    if inputs is not None:
        # By the champion's signature, whichever arm was drawn: whether a request is right can't depend on chance.
        if len(inputs) > process.max_rows:
            raise RowsInvalid(
                [{"field": "inputs", "message": f"{len(inputs)} rows where at most {process.max_rows} are taken"}]
            )
        rows = to_array(inputs, live.champion.model.features, live.champion.model.feature_names)
    routed = time.perf_counter()
    served, outputs, fallback_reason = chosen, _NO_OUTPUTS, None
    failure: ModelFailed | None = None
    if rows is not None:
        try:
            served, outputs, fallback_reason = _predict(chosen, live, rows, start)
        except ModelFailed as error:
            # Told to the caller, once it is in the ledger: whose failures leave no trace would look better than it is.
            failure, fallback_reason = error, NOBODY_ANSWERED
    predicted = time.perf_counter()

    if experiment is None:
        arm, payload, propensity, arm_id, experiment_id, learnable = None, _payload(served), 1.0, 0, 0, False
    else:
        arm = experiment.arms[position]
        payload = arm.payload if arm.payload is not None else _payload(chosen)
        propensity, arm_id, experiment_id = propensities[position], arm.id, experiment.id
        recorded = _record(
            process,
            live,
            events.DecisionEvent(
                version=events.VERSION,
                id=decision_id,
                experiment_id=experiment_id,
                arm_id=arm_id,
                propensities=list(propensities),
                propensity=propensity,
                policy_version=document.version,
                unit=unit,
                context=context,
                request_id=request_id,
                latency_ms=(predicted - start) * 1000.0,
                fallback_reason=fallback_reason,
                holdout=routed_to is not None and routed_to.holdout,
                proposed_arm_id=_proposed(experiment, routed_to),
            ),
        )
        learnable = recorded and fallback_reason is None
        if failure is None and experiment.shadow_sample > 0.0 and rows is not None and learnable:
            _mirror(process, document.name, experiment, decision_id, rows, outputs, (predicted - routed) * 1000.0)
    if failure is not None:
        raise failure
    token = Token(decision_id, experiment_id, arm_id, document.version, propensity, learnable)
    signed = process.signer.sign(token)
    done = time.perf_counter()
    arm_name = None if arm is None else arm.name
    metrics.DECISIONS.labels(document.name, arm_name or "", fallback_reason or "").inc()
    metrics.PREDICT_SECONDS.labels(document.name).observe(done - start)
    return Decision(
        decision_id=signed,
        endpoint=document.name,
        experiment=None if experiment is None else experiment.name,
        arm=arm_name,
        model=served.model.model,
        strategy="single" if experiment is None else experiment.strategy,
        propensity=propensity,
        policy_version=document.version,
        outputs=outputs,
        payload=payload,
        learnable=learnable,
        stale=process.store.is_stale(document.name),
        fallback_reason=fallback_reason,
        route_seconds=routed - start,
        predict_seconds=predicted - routed,
        record_seconds=done - predicted,
    )


def _mirror(
    process: Process,
    endpoint: str,
    experiment: snapshot.Experiment,
    decision_id: bytes,
    rows: NDArray[np.float64],
    outputs: dict[str, list[Any]],
    latency_ms: float,
) -> None:
    """Offer a copy of the request to the challengers, for the share of requests that they are to see."""
    if random.random() < experiment.shadow_sample:
        predicted = outputs.get("predict", [])
        event = ShadowEvent(SHADOW_VERSION, decision_id, experiment.id, rows.tolist(), predicted, latency_ms)
        process.shadower.offer(endpoint, event)


def _kept(process: Process, endpoint: str, experiment: snapshot.Experiment, unit: str, route: Route) -> Route:
    """The arm that the unit has had so far, with the probabilities of that time; `route` for a new unit."""
    ids = [arm.id if arm.enabled else -1 for arm in experiment.arms]
    proposed = Assignment(ids[route.position], list(route.propensities))
    held = process.assignments.get(endpoint, experiment.id, unit, proposed, ids)
    if held is proposed:
        return route
    return Route(ids.index(held.arm_id), held.propensities)


def _proposed(experiment: snapshot.Experiment, route: Route | None) -> int | None:
    """The id of the arm that an apprentice's policy would have served."""
    return None if route is None or route.proposed is None else experiment.arms[route.proposed].id


def _payload(live: LiveModel) -> Any:
    return live.model.payload if live.model.runtime == "static" else None


def _predict(
    chosen: LiveModel, live: LiveEndpoint, rows: NDArray[np.float64], start: float
) -> tuple[LiveModel, dict[str, list[Any]], str | None]:
    """(who served, outputs, why not the chosen arm)."""
    champion = live.champion
    deadline = start + live.document.deadline_ms / 1000.0
    if chosen is champion:
        return champion, _call_patiently(champion, rows, deadline), None
    share = 1.0 - CHAMPION_SHARE
    try:
        chosen.breaker.admit()
    except CircuitOpen:
        return champion, _call_champion(champion, rows, deadline), "circuit_open"
    try:
        outputs = _call(chosen, rows, start + share * (deadline - start))
    except DeadlineExceeded:
        reason = "timeout"
    except Overloaded:
        reason = "overloaded"
    except _Unavailable:
        reason = "unavailable"
    except RowsRefused as error:
        # Rows that the champion refuses too are the caller's fault, and no failure of the arm: then nothing is counted against it.
        outputs = _call_champion(champion, rows, deadline)
        log.warning("arm refused rows", endpoint=live.document.name, model=chosen.model.model, error=str(error))
        chosen.breaker.failed()
        return champion, outputs, "error"
    except Exception as error:  # whatever a model raises, the champion answers
        log.warning("arm failed", endpoint=live.document.name, model=chosen.model.model, error=repr(error))
        reason = "error"
    else:
        chosen.breaker.succeeded()
        return chosen, outputs, None
    if reason != "error":
        log.warning("arm did not answer", endpoint=live.document.name, model=chosen.model.model, reason=reason)
    chosen.breaker.failed()
    return champion, _call_champion(champion, rows, deadline), reason


class _Unavailable(Exception):
    """The model is not loaded in this process."""


def _call(model: LiveModel, rows: NDArray[np.float64], deadline: float) -> dict[str, list[Any]]:
    """By this thread where that is known to be short, else where it can be left at the deadline."""
    runtime = model.runtime
    if runtime is None:
        raise _Unavailable(model.problem)
    began = time.perf_counter()
    try:
        if runtime.bounded and model.pace.is_short(len(rows)):
            outputs = runtime.predict(rows)
        else:
            outputs = model.caller.call(lambda: runtime.predict(rows), deadline - began)
    except DeadlineExceeded:
        model.pace.took(len(rows), time.perf_counter() - began)
        raise
    model.pace.took(len(rows), time.perf_counter() - began)
    return outputs


def _call_champion(model: LiveModel, rows: NDArray[np.float64], deadline: float) -> dict[str, list[Any]]:
    try:
        return _call(model, rows, deadline)
    except RowsRefused as error:
        raise RowsInvalid(
            [{"field": "inputs", "message": f"{model.model.model} does not take these rows: {error}"}]
        ) from error
    except _Unavailable as error:
        raise ModelFailed(f"{model.model.model} is not loaded here: {error}") from error
    except Exception as error:  # whatever it raises, the caller gets one answer: there is no other model
        log.error("champion failed", model=model.model.model, error=repr(error))
        raise ModelFailed(f"{model.model.model}: {type(error).__name__}") from error


def _call_patiently(model: LiveModel, rows: NDArray[np.float64], deadline: float) -> dict[str, list[Any]]:
    """A champion that has its whole deadline, and is not waited for any more where it passed that again and again: each wait holds
    a thread that other endpoints are answered on. Rows whose number alone explains it say nothing of the champion.
    """
    try:
        model.patience.admit()
    except CircuitOpen as error:
        raise ModelFailed(f"{model.model.model} passed its deadline too often to be asked now") from error
    began = time.perf_counter()
    try:
        outputs = _call_champion(model, rows, deadline)
    except ModelFailed as error:
        if isinstance(error.__cause__, DeadlineExceeded):
            allowed = deadline - began
            if _fits(model, len(rows), allowed) or not _fits(model, 1, allowed):
                model.patience.failed()
        raise
    model.patience.succeeded()
    return outputs


def _fits(model: LiveModel, rows: int, seconds: float) -> bool:
    """Were so many rows expected to take no longer than that? True also where nothing is known."""
    expected = model.pace.expected_seconds(rows)
    return expected is None or expected <= seconds


def _record(process: Process, live: LiveEndpoint, event: events.DecisionEvent) -> bool:
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

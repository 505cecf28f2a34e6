"""Second of a decision's three steps: a model answers the rows, the chosen one or, where that
fails, the champion.

Who asks for a certain model version takes this step without the first.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import structlog

from .breaker import CircuitOpen
from .deadline import DeadlineExceeded, Overloaded
from .live import LiveEndpoint, LiveModel
from .runtimes.columns import Rows
from .runtimes.large_numbers import errors_of_caller
from .runtimes.protocol import NotFinite, Outputs, RowsRefused
from .runtimes.rows import RowsInvalid, to_rows

log = structlog.get_logger(__name__)

CHAMPION_SHARE = 0.25
"""Of an endpoint's deadline, what an arm that may hang leaves to the champion that answers in its
place."""

NOBODY_ANSWERED = "no_answer"
"""The fallback reason of a decision that neither its arm nor the champion could serve."""

Row = Sequence[Any] | dict[str, Any]
_NO_OUTPUTS: Outputs = {}


class ModelFailed(Exception):
    """The champion itself could not answer: there is nobody left to fall back on."""


class Served(NamedTuple):
    """Who answered, and what."""

    model: LiveModel
    outputs: Outputs
    fallback_reason: str | None = None  # why not the chosen model
    failure: ModelFailed | None = None
    """Told to the caller once it is in the ledger: whose failures leave no trace would look better
    than it is."""


def rows_of(live: LiveEndpoint, inputs: Sequence[Row] | Rows, most: int) -> Rows:
    """The rows of a request as runtimes take them. Raises RowsInvalid.

    By the champion's signature, whichever arm was chosen: whether a request is right can't depend
    on chance.
    """
    if len(inputs) > most:
        raise RowsInvalid([{"field": "inputs", "message": f"{len(inputs)} rows where at most {most} are taken"}])
    return to_rows(inputs, live.champion.model)


def unasked(chosen: LiveModel) -> Served:
    """What stands for an answer where the caller runs the model itself."""
    return Served(chosen, _NO_OUTPUTS)


def serve(live: LiveEndpoint, chosen: LiveModel, rows: Rows, start: float) -> Served:
    """Have `chosen` answer within the endpoint's deadline, counted from `start`
    (time.perf_counter).

    Raises RowsInvalid for rows that the champion refuses, or with numbers too large for who is
    asked.
    """
    try:
        return _serve(live, chosen, rows, start)
    except ModelFailed as error:
        return Served(chosen, _NO_OUTPUTS, NOBODY_ANSWERED, error)


def serve_alone(live: LiveEndpoint, chosen: LiveModel, rows: Rows, start: float) -> Outputs:
    """Have `chosen` answer within the endpoint's deadline, and nobody in its place: for who asks
    for a certain model version. Raises RowsInvalid and ModelFailed."""
    return _call_patiently(chosen, rows, start + live.document.deadline_ms / 1000.0)


def _serve(live: LiveEndpoint, chosen: LiveModel, rows: Rows, start: float) -> Served:
    champion = live.champion
    deadline = start + live.document.deadline_ms / 1000.0
    if chosen is champion:
        return Served(champion, _call_patiently(champion, rows, deadline))
    share = 1.0 - CHAMPION_SHARE
    try:
        chosen.breaker.admit()
    except CircuitOpen:
        return Served(champion, _call_champion(champion, rows, deadline), "circuit_open")
    try:
        outputs = _call(chosen, rows, start + share * (deadline - start))
    except DeadlineExceeded:
        reason = "timeout"
    except Overloaded:
        reason = "overloaded"
    except _Unavailable:
        reason = "unavailable"
    except RowsInvalid:  # too large for it: nothing is counted against it
        raise
    except RowsRefused as error:
        # Rows that the champion refuses too are the caller's fault, and no failure of the arm: then
        # nothing is counted against it.
        outputs = _call_champion(champion, rows, deadline)
        log.warning("arm refused rows", endpoint=live.document.name, model=chosen.model.model, error=str(error))
        chosen.breaker.failed()
        return Served(champion, outputs, "error")
    except Exception as error:  # whatever a model raises, the champion answers
        log.warning("arm failed", endpoint=live.document.name, model=chosen.model.model, error=repr(error))
        reason = "error"
    else:
        chosen.breaker.succeeded()
        return Served(chosen, outputs)
    if reason != "error":
        log.warning("arm did not answer", endpoint=live.document.name, model=chosen.model.model, reason=reason)
    chosen.breaker.failed()
    return Served(champion, _call_champion(champion, rows, deadline), reason)


class _Unavailable(Exception):
    """The model is not loaded in this process."""


def _call(model: LiveModel, rows: Rows, deadline: float) -> Outputs:
    """What the model answers. Raises RowsInvalid for rows with numbers too large for it."""
    try:
        return _answered(model, rows, deadline)
    except (NotFinite, RowsRefused) as error:
        errors = errors_of_caller(rows, error)
        if errors:
            raise RowsInvalid(errors) from error
        raise


def _answered(model: LiveModel, rows: Rows, deadline: float) -> Outputs:
    """By this thread where that is known to be short, else where it can be left at the deadline."""
    runtime = model.runtime
    if runtime is None:
        raise _Unavailable(model.problem)
    if runtime.bounded and model.pace.is_short(len(rows)):
        # Of this thread alone: what it waits for while others have the core, or the interpreter,
        # says nothing of the model.
        worked = time.thread_time()
        outputs = runtime.predict(rows)
        model.pace.took(len(rows), time.thread_time() - worked)
        return outputs
    began = time.perf_counter()
    try:
        outputs = model.caller.call(lambda: runtime.predict(rows), deadline - began)
    except DeadlineExceeded:
        model.pace.took(len(rows), time.perf_counter() - began)
        raise
    model.pace.took(len(rows), time.perf_counter() - began)
    return outputs


def _call_champion(model: LiveModel, rows: Rows, deadline: float) -> Outputs:
    try:
        return _call(model, rows, deadline)
    except RowsInvalid:
        raise
    except RowsRefused as error:
        raise RowsInvalid(
            [{"field": "inputs", "message": f"{model.model.model} does not take these rows: {error}"}]
        ) from error
    except _Unavailable as error:
        raise ModelFailed(f"{model.model.model} is not loaded here: {error}") from error
    except Exception as error:  # whatever it raises, the caller gets one answer: there is no other model
        log.error("model failed, and nobody answers for it", model=model.model.model, error=repr(error))
        raise ModelFailed(f"{model.model.model}: {type(error).__name__}") from error


def _call_patiently(model: LiveModel, rows: Rows, deadline: float) -> Outputs:
    """A champion that has its whole deadline, and is not waited for any more where it passed that
    again and again: each wait holds a thread that other endpoints are answered on. Rows whose
    number alone explains it say nothing of the champion.
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

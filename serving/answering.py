"""Second of a decision's three steps: a model answers the rows, the chosen one or, where that
fails, the champion.

Who asks for a certain model version takes this step without the first.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import structlog

from .breaker import CircuitOpen
from .deadline import DeadlineExceeded, Overloaded, WaitedInVain
from .live import LiveEndpoint, LiveModel
from .prediction_cache import Answered
from .runtimes.columns import Rows
from .runtimes.large_numbers import errors_of_caller
from .runtimes.rows import RowsInvalid, to_rows
from .runtimes.runtime import NotFinite, Outputs, RowsRefused, Runtime

log = structlog.get_logger(__name__)

CHAMPION_SHARE = 0.25
"""Of an endpoint's deadline, what an arm that may hang leaves to the champion that answers in its
place."""

NOBODY_ANSWERED = "no_answer"
"""The fallback reason of a decision that neither its arm nor the champion could serve."""

PATIENCE_TIMES = 3.0
"""As many times as long as a call is expected to take, others wait for it."""
SHORTEST_PATIENCE_SECONDS = 0.05
UNKNOWN_SHARE = 0.25
"""Of what is left to a request, how long others wait for its call where nobody knows what one
takes."""

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
    is_kept: bool | None = None
    """Was the answer kept from an earlier call? None where answers of the model are not."""


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
    deadline = start + live.document.deadline_ms / 1000.0
    return _answer_alone(live, chosen, rows, deadline, lambda: _call_patiently(live, chosen, rows, deadline)).outputs


def _serve(live: LiveEndpoint, chosen: LiveModel, rows: Rows, start: float) -> Served:
    champion = live.champion
    deadline = start + live.document.deadline_ms / 1000.0
    if chosen is champion:
        if live.cache is None:  # as most endpoints
            return Served(champion, _call_patiently(live, champion, rows, deadline))
        answered = _answer_alone(
            live, champion, rows, deadline, lambda: _call_patiently(live, champion, rows, deadline)
        )
        return Served(champion, answered.outputs, is_kept=_told(live, champion, answered))
    until = start + (1.0 - CHAMPION_SHARE) * (deadline - start)

    def ask_arm() -> Outputs:
        chosen.breaker.admit()
        return _call(live, chosen, rows, until)

    def ask_champion() -> Outputs:
        return _answer_alone(
            live, champion, rows, deadline, lambda: _call_champion(live, champion, rows, deadline)
        ).outputs

    try:
        # What is kept proves nothing of a model that fails: it is asked, or is out, as ever.
        is_well = chosen.breaker.state == "closed"
        answered = _answer(live, chosen, rows, until, ask_arm) if is_well else Answered(ask_arm(), is_kept=False)
    except CircuitOpen:
        return Served(champion, ask_champion(), "circuit_open")
    except WaitedInVain:
        return Served(champion, ask_champion(), "timeout")
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
        outputs = ask_champion()
        log.warning("arm refused rows", endpoint=live.document.name, model=chosen.model.model, error=str(error))
        chosen.breaker.failed()
        return Served(champion, outputs, "error")
    except Exception as error:  # whatever a model raises, the champion answers
        log.warning("arm failed", endpoint=live.document.name, model=chosen.model.model, error=repr(error))
        reason = "error"
    else:
        if not answered.is_kept:
            chosen.breaker.succeeded()
        return Served(chosen, answered.outputs, is_kept=_told(live, chosen, answered))
    if reason != "error":
        log.warning("arm did not answer", endpoint=live.document.name, model=chosen.model.model, reason=reason)
    chosen.breaker.failed()
    return Served(champion, ask_champion(), reason)


def _answer(live: LiveEndpoint, model: LiveModel, rows: Rows, until: float, call: Callable[[], Outputs]) -> Answered:
    """What `call` has the model answer, unless the endpoint keeps what it answered before. Only
    calls that may be long are waited for by others with the same rows: a short one is sooner made
    than waited for."""
    cache = live.cache
    if cache is None or not cache.takes(model.kept):
        return Answered(call(), is_kept=False)
    return cache.answer(model.model, rows, call, until, patience=_patience(model, rows, until))


def _patience(model: LiveModel, rows: Rows, until: float) -> float | None:
    """How many seconds others with the same rows wait for a call; None where it is sooner made."""
    if model.runtime is None or (model.runtime.bounded and model.pace.is_short(len(rows))):
        return None
    expected = model.pace.expected_seconds(len(rows))
    if expected is None:
        return max(0.0, until - time.perf_counter()) * UNKNOWN_SHARE
    return max(SHORTEST_PATIENCE_SECONDS, PATIENCE_TIMES * expected)


def _told(live: LiveEndpoint, model: LiveModel, answered: Answered) -> bool | None:
    """`Served.is_kept`."""
    cache = live.cache
    return answered.is_kept if cache is not None and cache.takes(model.kept) else None


def _answer_alone(
    live: LiveEndpoint, model: LiveModel, rows: Rows, until: float, call: Callable[[], Outputs]
) -> Answered:
    """The same of a model for which nobody answers. Raises ModelFailed, and what `call` raises."""
    try:
        return _answer(live, model, rows, until, call)
    except WaitedInVain as error:
        raise ModelFailed(f"{model.model.model} did not answer another request with these rows in time") from error


class _Unavailable(Exception):
    """The model is not loaded in this process."""


def _call(live: LiveEndpoint, model: LiveModel, rows: Rows, deadline: float) -> Outputs:
    """What the model answers. Raises RowsInvalid for rows with numbers too large for it."""
    try:
        return _answered(live, model, rows, deadline)
    except (NotFinite, RowsRefused) as error:
        errors = errors_of_caller(rows, error)
        if errors:
            raise RowsInvalid(errors) from error
        raise


def _answered(live: LiveEndpoint, model: LiveModel, rows: Rows, deadline: float) -> Outputs:
    """By this thread where that is known to be short, else where it can be left at the deadline,
    and together with others' rows where the endpoint wants that."""
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
    batching = live.batching
    if batching is not None and model.kept == "always":
        return batching.predict(model.model, rows, lambda some: _call_apart(model, runtime, some, deadline), deadline)
    return _call_apart(model, runtime, rows, deadline)


def _call_apart(model: LiveModel, runtime: Runtime, rows: Rows, deadline: float) -> Outputs:
    began = time.perf_counter()
    try:
        outputs = model.caller.call(lambda: runtime.predict(rows), deadline - began)
    except DeadlineExceeded:
        model.pace.took(len(rows), time.perf_counter() - began)
        raise
    model.pace.took(len(rows), time.perf_counter() - began)
    return outputs


def _call_champion(live: LiveEndpoint, model: LiveModel, rows: Rows, deadline: float) -> Outputs:
    try:
        return _call(live, model, rows, deadline)
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
        raise ModelFailed(f"{model.model.model} {_failed(error)}") from error


def _failed(error: Exception) -> str:
    """What a caller is told of it: what happened, and nothing of what the model's code said."""
    if isinstance(error, DeadlineExceeded):
        return "did not answer in time"
    if isinstance(error, Overloaded):
        return "has too many calls under way that have not come back"
    return f"failed: {type(error).__name__}"


def _call_patiently(live: LiveEndpoint, model: LiveModel, rows: Rows, deadline: float) -> Outputs:
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
        outputs = _call_champion(live, model, rows, deadline)
    except ModelFailed as error:
        if isinstance(error.__cause__, DeadlineExceeded) and not isinstance(error.__cause__, WaitedInVain):
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

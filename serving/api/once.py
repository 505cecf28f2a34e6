"""predict for many requests in one call, each of which is decided once: its `request_id` decides.

What is going to be answered is kept first, with its decision; then the decisions go into the
ledger's stream; then the caller is told. Whoever sends a request again gets what was kept, to the
byte, and the ledger knows the decision by its id: wherever a caller or a process dies, the ledger
holds the request once. Where Redis is away nothing is decided, for nobody could promise that.
"""

import hashlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import redis
import structlog
from msgspec import UNSET

from serving import problems
from serving.ledger.decision_log import StreamUnavailable
from serving.live import LiveEndpoint
from serving.problems import Problem
from serving.process import Process
from serving.recording import Holding
from serving.streams.messages import VERSION, Kept
from serving.tokens import new_id

from . import documents, face
from .documents import NamedPrediction, NumbersRequest, PredictRequest

log = structlog.get_logger(__name__)

REMEMBER_SECONDS = 600
WORK_SECONDS = 5.0
"""After so long nothing more of a call is predicted: the rest is told to be sent again. A thread is
not one caller's."""

Request = PredictRequest | NumbersRequest


class _Asked(NamedTuple):
    """A request that can be read. `print` is the same for the same request alone."""

    place: int
    name: str
    print: str
    request: Request


class _Result(msgspec.Struct):
    """documents.PredictionResult, with an answer that is JSON already."""

    status: int
    answer: msgspec.Raw | None
    problem: Any


def predict_each(process: Process, live: LiveEndpoint, body: bytes) -> list[Any]:
    """What became of each request, in order, as documents.PredictionResult. Raises Problem 400, and
    503 where nothing was decided, or not all that was decided reached the ledger: the same requests
    are sent again then."""
    call = documents.PREDICTIONS.decode(body)
    seconds = REMEMBER_SECONDS if call.remember_seconds is UNSET else call.remember_seconds
    _check_room(process, live)
    results: list[_Result | None] = [None] * len(call.requests)
    asked: list[_Asked] = []
    for place, raw in enumerate(call.requests):
        try:
            asked.append(_read(live, place, bytes(raw)))
        except Problem as problem:
            results[place] = _refused(problem)
    try:
        kept = _kept(process, live, asked, seconds, results)
        events = [one.event for one in kept.values() if one.event is not None]
        if events:
            process.log.append_many(live.document.name, events)
    except (redis.RedisError, StreamUnavailable, OSError) as error:
        log.warning("requests not decided once", endpoint=live.document.name, error=str(error))
        detail = "Redis did not keep what was decided: send the same requests again, each is decided once"
        raise problems.unavailable(detail, retry_after=1) from error
    for one in asked:
        if results[one.place] is None:
            results[one.place] = _answered(one, kept[one.name])
    return results


def _check_room(process: Process, live: LiveEndpoint) -> None:
    if not process.backlog.has_room(live.document.name):
        raise problems.unavailable("too many decisions wait for the learner: send them later", retry_after=2)
    if not process.backlog.has_reserve:
        raise problems.unavailable("Redis has no room to remember requests: send them later", retry_after=5)


def _read(live: LiveEndpoint, place: int, raw: bytes) -> _Asked:
    request = face.read_predict(live, raw)
    if request.request_id is UNSET or request.request_id is None:
        message = "required: a request is known by it when it is sent again"
        raise problems.invalid_fields([{"field": "request_id", "message": message}])
    digest = hashlib.blake2b(_encode_alike(request), digest_size=16).hexdigest()
    return _Asked(place, request.request_id, digest, request)


def _kept(
    process: Process, live: LiveEndpoint, asked: Sequence[_Asked], seconds: int, results: list[_Result | None]
) -> dict[str, Kept]:
    """What is kept of each request, by its name; one that can't be answered gets its result.
    Raises redis.RedisError."""
    answered = process.answered(live.document.name)
    first = {one.name: one for one in reversed(asked)}  # of two with one name, the one before
    names = list(first)
    kept = {name: there for name, there in zip(names, answered.look(names), strict=True) if there is not None}
    ends = time.monotonic() + WORK_SECONDS
    proposed: dict[str, Kept] = {}
    for one in asked:
        if one.name in kept or one is not first[one.name]:
            continue
        try:
            proposed[one.name] = _predicted(process, live, one, ends)
        except Problem as problem:
            refused = _refused(problem)
            for same in asked:
                if same.name == one.name:
                    results[same.place] = refused
    winners = answered.keep(list(proposed), list(proposed.values()), seconds)
    return kept | dict(zip(proposed, winners, strict=True))


def _predicted(process: Process, live: LiveEndpoint, one: _Asked, ends: float) -> Kept:
    """What is proposed to be kept. Nothing is kept of what nobody answered: sent again, it may
    be. Raises Problem."""
    if time.monotonic() > ends:
        raise problems.unavailable("the requests before it took too long: send it again", retry_after=1)
    holding = Holding(new_id())
    try:
        document = face.predict(process, live, one.request, holding).document
    except Problem:
        raise
    except Exception as error:  # one request's fault is none of the others'
        log.error("unforeseen error", endpoint=live.document.name, request_id=one.name, exc_info=error)
        raise problems.internal() from error
    answer = NamedPrediction(**msgspec.structs.asdict(document), request_id=one.name)
    return Kept(VERSION, one.print, _encode(answer), holding.event)


def _answered(one: _Asked, kept: Kept) -> _Result:
    if kept.place != one.print or kept.answer is None:
        return _refused(problems.conflict(f"another request was answered under the request_id {one.name[:64]}"))
    return _Result(200, msgspec.Raw(kept.answer), None)


def _refused(problem: Problem) -> _Result:
    return _Result(problem.status, None, problem.document())


_encode = msgspec.json.Encoder().encode
_encode_alike = msgspec.json.Encoder(order="deterministic").encode

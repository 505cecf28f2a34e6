"""Lets challengers of shadow experiments predict on copies of requests, and keeps what they said
beside what the champion answered.

It runs in a worker of its own (queue `shadow`): a challenger may sleep, leak or end the process. A
round ends after ROUND_SECONDS or when the process has grown past its limit, which then replaces it;
copies that are not reached in time are dropped by the stream's bound.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import msgspec
import psutil
import redis
import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q

from noregret.experiments.models import Experiment
from noregret.redis_client import client, keys
from noregret.registry.frameworks import model_document
from serving import artifacts
from serving.deadline import BoundedCaller, DeadlineExceeded, Overloaded
from serving.ledger import horizon
from serving.redis_keys import BODY_FIELD
from serving.runtimes.protocol import Resources
from serving.runtimes.rows import to_rows
from serving.runtimes.runtime import Runtime
from serving.shadowing import ShadowEvent, decode
from serving.snapshot import Model

from .scoring import scored_late
from .shadow_sums import LARGEST, Prediction, add_predictions, locked
from .summing import add_scored
from .sums import Scored

log = structlog.get_logger(__name__)

AT_ONCE = 500
ROUND_SECONDS = 5.0
CALL_SECONDS = 5.0
"""A challenger that has not answered by then has failed, by timeout."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Seat:
    """A challenger that is loaded, or why it could not be."""

    arm_id: int
    runtime: Runtime | None
    caller: BoundedCaller
    problem: str = ""


_loaded: dict[tuple[str, str | None], tuple[Runtime | None, BoundedCaller, str]] = {}
_failed_at: dict[tuple[str, str | None], float] = {}
RETRY_SECONDS = 15.0
"""A challenger that could not be loaded is tried again after this long: its file may be there by
then."""


def _load(model: Model) -> tuple[Runtime | None, BoundedCaller, str]:
    key = (model.model, model.sha256)
    failed_at = _failed_at.get(key)
    if key not in _loaded or (failed_at is not None and time.monotonic() - failed_at >= RETRY_SECONDS):
        runtime: Runtime | None = None
        problem = ""
        try:
            runtime = model.load(Resources(artifacts.supplied(), settings))
        except Exception as error:  # whatever a model raises, it is the challenger's failure
            log.error("challenger not loaded", model=model.model, error=repr(error))
            problem = "unavailable"
            _failed_at[key] = time.monotonic()
        else:
            _failed_at.pop(key, None)
        _loaded[key] = runtime, BoundedCaller(model.model), problem
    return _loaded[key]


def seats(experiment: Experiment) -> list[Seat]:
    """The challengers that are enabled."""
    arms = experiment.arms.filter(enabled=True, is_control=False).select_related("model").order_by("position")
    found = []
    for arm in arms:
        runtime, caller, problem = _load(model_document(arm.model))
        found.append(Seat(arm.pk, runtime, caller, problem))
    return found


def rounds() -> int:
    """One round for every running shadow; how many predictions were kept. Raises
    redis.RedisError."""
    kept = 0
    mirrored = Q(strategy=Experiment.Strategy.SHADOW) | Q(apprentice=True)
    for experiment in Experiment.objects.filter(mirrored, status=Experiment.Status.RUNNING).select_related("endpoint"):
        try:
            kept += mirror(experiment)
        except redis.ConnectionError:
            raise
        except Exception:  # whatever is wrong with one experiment, the others' challengers predict
            log.exception("copies not predicted on", experiment=experiment.name)
    return kept


def mirror(experiment: Experiment) -> int:
    """Predict on the copies that wait for one experiment, oldest first; how many predictions were
    kept."""
    stream = keys().shadows(experiment.endpoint.name)
    entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", client().xrange(stream, count=AT_ONCE) or [])
    challengers = seats(experiment)
    champion = model_document(experiment.endpoint.champion)  # by whose columns rows were taken
    until = time.monotonic() + ROUND_SECONDS
    rows: list[tuple[Any, ...]] = []
    done: list[bytes] = []
    for entry_id, fields in entries:
        done.append(entry_id)
        try:
            event = decode(fields.get(BODY_FIELD, b""))
        except ValueError as error:
            log.warning("copy not readable", endpoint=experiment.endpoint.name, error=str(error))
            continue
        if event.experiment_id == experiment.pk:
            rows.extend(_predicted(event, seat, champion) for seat in challengers)
        if time.monotonic() > until or _too_big():
            break
    _store(experiment, rows)
    if done:
        client().xdel(stream, *done)
    return len(rows)


def _too_big() -> bool:
    """Has a challenger made this process grow? It is replaced after the round
    (--max-memory-per-child)."""
    return psutil.Process().memory_info().rss > settings.SHADOW_MEMORY_BYTES


def _predicted(event: ShadowEvent, seat: Seat, champion: Model) -> tuple[Any, ...]:
    """A row of serving_shadowprediction."""
    began = time.perf_counter()
    predicted, error = None, seat.problem or None
    runtime = seat.runtime
    if runtime is not None:
        try:
            rows = to_rows(event.rows, champion)
            predicted = seat.caller.call(lambda: runtime.predict(rows), CALL_SECONDS).get("predict")
        except DeadlineExceeded:
            error = "timeout"
        except Overloaded:
            error = "overloaded"
        except Exception as failure:  # whatever a challenger raises, it is its failure
            log.debug("challenger failed", error=repr(failure))
            error = "error"
    latency_ms = (time.perf_counter() - began) * 1000.0
    decided_at = _EPOCH + timedelta(microseconds=int.from_bytes(event.decision_id[:8], "big"))
    encode = msgspec.json.Encoder().encode
    agrees = None if predicted is None else list(predicted) == list(event.predicted)
    return (
        UUID(bytes=event.decision_id),
        decided_at,
        event.experiment_id,
        seat.arm_id,
        latency_ms,
        event.latency_ms,
        event.cached,
        error,
        agrees,
        None if predicted is None else difference(predicted, event.predicted),
        None if predicted is None else encode(list(predicted)).decode(),
        encode(list(event.predicted)).decode(),
    )


def difference(one: Sequence[Any], two: Sequence[Any]) -> float | None:
    """The mean absolute difference of numeric predictions, at most LARGEST; None for labels that
    are none."""
    pairs = list(zip(one, two, strict=False))
    if len(one) != len(two) or not pairs or not all(_is_number(value) for pair in pairs for value in pair):
        return None
    apart = [min(abs(float(a) - float(b)), LARGEST) for a, b in pairs]
    largest = max(apart)
    # In shares of the largest: a sum of two may be no number.
    return largest * (math.fsum(each / largest for each in apart) / len(apart)) if largest else 0.0


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


_COLUMNS = (
    "decision_id, decided_at, experiment_id, arm_id, latency_ms, champion_latency_ms, champion_cached, error, agrees, "
    "difference, predicted, champion_predicted"
)
_HELD = """
SELECT s.decision_id, s.arm_id FROM serving_shadowprediction AS s
JOIN unnest(%(ids)s::uuid[], %(times)s::timestamptz[]) AS new (id, at) ON s.decided_at = new.at AND s.decision_id = new.id
"""


def _store(experiment: Experiment, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write predictions, and add those that were new to their challengers' sums, in one
    transaction; score an apprentice's choices at those of them that come after their bucket was
    closed."""
    if not rows:
        return
    with transaction.atomic():
        horizon.hold_days()
        begins = horizon.begins_at()
        rows = [row for row in rows if begins is None or row[1] >= begins]
        if not rows:
            return
        decisions = list({(row[0], row[1]) for row in rows})
        before = scored_late(experiment, decisions) if experiment.apprentice else Scored()
        _insert(experiment, rows)
        if experiment.apprentice:
            add_scored(experiment, scored_late(experiment, decisions).minus(before))


def _prediction(row: tuple[Any, ...]) -> Prediction:
    identity, at, _, arm, own, champions, is_cached, *rest = row
    return Prediction(identity, at, arm, (own, None if is_cached else champions), *rest)


def _insert(experiment: Experiment, rows: Sequence[tuple[Any, ...]]) -> None:
    marks = ", ".join(["%s"] * 12)
    with connection.cursor() as cursor:
        # Locked first: whoever else writes predictions of this experiment waits, so that what is
        # not there yet is new.
        sums = locked(experiment.pk, {row[3] for row in rows})
        cursor.execute(_HELD, {"ids": [row[0] for row in rows], "times": [row[1] for row in rows]})
        held = set(cursor.fetchall())
        new = list({(row[0], row[3]): row for row in rows if (row[0], row[3]) not in held}.values())
        cursor.executemany(
            f"INSERT INTO serving_shadowprediction ({_COLUMNS}) VALUES ({marks})",  # noqa: S608 - constants
            new,
        )
        add_predictions(sums, [_prediction(row) for row in new])

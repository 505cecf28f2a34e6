"""Takes a unit out of everything that names it, and leaves every sum as it is.

Rows of the ledger are not deleted but made nobody's: they get a random pseudonym, another in each
experiment, and lose the request id and the context. So what was learned still follows from the
ledger. Of a context that a contextual policy learned from, the declared fields stay: its models
could not be computed again without them. A decision id stays too, for rewards hang on it: who kept
it elsewhere together with the unit knows the row.

What is on its way, in streams, in spools of any machine, comes in without the name
(serving.ledger.forgotten).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from django.conf import settings
from django.db import connection, transaction

from noregret.experiments.models import Endpoint, Experiment
from noregret.learning import clock
from noregret.learning.contextual import context_fields, policy_of, readable_context
from noregret.learning.models import ExperimentEvidence
from noregret.redis_client import client, decision_log, keys
from noregret.trail import audit
from serving.ledger import forgotten, horizon, spool
from serving.ledger.events import DecisionEvent, decode, encode
from serving.models import EdgeDecision, WaitingDecision

LONGEST = 256


class Pseudonyms(dict[int, str]):
    """By experiment id: one each, made when it is asked for."""

    def __missing__(self, experiment_id: int) -> str:
        self[experiment_id] = forgotten.pseudonym()
        return self[experiment_id]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a unit may be named. `take_out` gets the unit and its pseudonym by experiment id; both
    say how many there were."""

    what: str
    count: Callable[[str], int]
    take_out: Callable[[str, Pseudonyms], int]


def forget(unit: str, *, actor: str, dry_run: bool = False) -> dict[str, int]:
    """How many of each were found, and taken out unless `dry_run`. Raises ValueError,
    redis.RedisError."""
    if not unit or len(unit) > LONGEST or "\x00" in unit:
        raise ValueError(f"a unit of 1 to {LONGEST} characters was expected")
    if dry_run:
        return {place.what: place.count(unit) for place in (*IN_DATABASE, *OUTSIDE)}
    # Committed first: whoever drains from here on knows it.
    forgotten.remember(unit, clock.now())
    pseudonyms = Pseudonyms()
    found: dict[str, int] = {}
    with transaction.atomic():
        # A drain, a round or a rebuild that began before is over when its rows are ours; one that
        # begins after sees what is done here.
        list(ExperimentEvidence.objects.select_for_update().order_by("experiment_id").values_list("pk", flat=True))
        for place in IN_DATABASE:
            found[place.what] = place.take_out(unit, pseudonyms)
        horizon.count_rewriting()
        audit.record(actor=actor, action="unit.forgotten", details={"rows": dict(found)})
    for place in OUTSIDE:
        found[place.what] = place.take_out(unit, pseudonyms)
    return found


# Every experiment that rows name, also one that is gone: a step of the index an experiment, where
# DISTINCT would read all of it.
_EXPERIMENTS = """
WITH RECURSIVE seen AS (
    (SELECT experiment_id FROM serving_decision ORDER BY experiment_id LIMIT 1)
    UNION ALL
    SELECT (SELECT experiment_id FROM serving_decision WHERE experiment_id > seen.experiment_id ORDER BY experiment_id LIMIT 1)
    FROM seen WHERE seen.experiment_id IS NOT NULL
)
SELECT experiment_id FROM seen WHERE experiment_id IS NOT NULL
"""
_ANONYMOUS = """
UPDATE serving_decision SET unit = %(pseudonym)s, request_id = NULL, context = (
    SELECT jsonb_object_agg(key, value) FROM jsonb_each(context) WHERE key = ANY(%(fields)s))
WHERE experiment_id = %(experiment)s AND unit = %(unit)s
"""


def _experiment_ids() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(_EXPERIMENTS)
        return [row[0] for row in cursor.fetchall()]


def _count_decisions(unit: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM serving_decision WHERE experiment_id = ANY(%s) AND unit = %s",
            [_experiment_ids(), unit],
        )
        return int(cursor.fetchone()[0])


def _decisions(unit: str, pseudonyms: Pseudonyms) -> int:
    count = 0
    known = {experiment.pk: experiment for experiment in Experiment.objects.all()}
    for experiment_id in _experiment_ids():
        experiment = known.get(experiment_id)
        learns = experiment is not None and policy_of(experiment) is not None
        fields = context_fields(experiment) if experiment is not None and learns else []
        asked: dict[str, Any] = {
            "pseudonym": pseudonyms[experiment_id],
            "fields": fields,
            "experiment": experiment_id,
            "unit": unit,
        }
        with connection.cursor() as cursor:
            cursor.execute(_ANONYMOUS, asked)
            count += cursor.rowcount
    return count


def _count_rows(table: str, unit: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table} WHERE unit = %s", [unit])  # noqa: S608 - a constant
        return int(cursor.fetchone()[0])


def _rename_rows(table: str, unit: str, pseudonyms: Pseudonyms) -> int:
    """Of a table with the columns `experiment_id` and `unit`."""
    count = 0
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT DISTINCT experiment_id FROM {table} WHERE unit = %s", [unit])  # noqa: S608 - a constant
        for (experiment_id,) in cursor.fetchall():
            cursor.execute(
                f"UPDATE {table} SET unit = %s WHERE experiment_id = %s AND unit = %s",  # noqa: S608 - a constant
                [pseudonyms[experiment_id], experiment_id, unit],
            )
            count += cursor.rowcount
    return count


def _table(what: str, table: str) -> Place:
    return Place(what, partial(_count_rows, table), partial(_rename_rows, table))


def _quarantined(unit: str) -> list[int]:
    """Events that name the unit, or can't be read and hold its letters: rather one too many."""
    found = []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, body FROM serving_quarantinedevent WHERE position(%s::bytea IN body) > 0", [unit.encode()]
        )
        for pk, body in cursor.fetchall():
            try:
                is_other = decode(bytes(body)).unit != unit
            except ValueError:
                is_other = False
            if not is_other:
                found.append(pk)
    return found


def _quarantine(unit: str, pseudonyms: Pseudonyms) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE serving_quarantinedevent SET body = '', problem = 'of a unit that was forgotten' WHERE id = ANY(%s)",
            [_quarantined(unit)],
        )
        return int(cursor.rowcount)


def _waiting(unit: str, pseudonyms: Pseudonyms) -> int:
    """Decisions that are not activated yet hold their event as it came."""
    return _with_events(WaitingDecision, unit, pseudonyms)


def _of_devices(unit: str, pseudonyms: Pseudonyms) -> int:
    """So do those of devices until they are in the ledger."""
    return _with_events(EdgeDecision, unit, pseudonyms)


_WithEvent = TypeVar("_WithEvent", WaitingDecision, EdgeDecision)


def _with_events(table: type[_WithEvent], unit: str, pseudonyms: Pseudonyms) -> int:
    rows = list(table.objects.filter(unit=unit).order_by("pk"))
    known: Mapping[int, Experiment] = {experiment.pk: experiment for experiment in Experiment.objects.all()}

    def readable(experiment_id: int, context: dict[str, Any] | None) -> dict[str, Any] | None:
        return readable_context(known.get(experiment_id), context)

    for row in rows:
        pseudonym, event = pseudonyms[row.experiment_id], row.event
        if event is not None:
            event = encode(forgotten.without_name(decode(bytes(event)), pseudonym, readable))
        table.objects.filter(pk=row.pk, unit=unit).update(unit=pseudonym, event=event)
    return len(rows)


def _sticky_keys(unit: str) -> list[str]:
    experiments = Experiment.objects.filter(started_at__isnull=False).values_list("endpoint__name", "pk")
    return [keys().sticky(endpoint, pk, unit) for endpoint, pk in experiments]


def _count_sticky(unit: str) -> int:
    with client().pipeline(transaction=False) as pipeline:
        for key in _sticky_keys(unit):
            pipeline.exists(key)
        return sum(map(int, pipeline.execute()))


def _sticky(unit: str, pseudonyms: Pseudonyms) -> int:
    with client().pipeline(transaction=False) as pipeline:
        for key in _sticky_keys(unit):
            pipeline.delete(key)
        return sum(map(int, pipeline.execute()))


def _in_streams(unit: str) -> Iterator[tuple[str, bytes, DecisionEvent]]:
    """(endpoint, entry id, event) of decisions that are not drained yet."""
    for name in Endpoint.objects.values_list("name", flat=True):
        for entry in decision_log().entries(name):
            try:
                event = decode(entry.body or b"")
            except ValueError:
                continue
            if event.unit == unit:
                yield name, entry.id, event


def _count_in_streams(unit: str) -> int:
    return sum(1 for _ in _in_streams(unit))


def _streams(unit: str, pseudonyms: Pseudonyms) -> int:
    """Each is put in again without the name. A drain that has read the other one already knows the
    digest."""
    count = 0
    known: Mapping[int, Experiment] = {experiment.pk: experiment for experiment in Experiment.objects.all()}

    def readable(experiment_id: int, context: dict[str, Any] | None) -> dict[str, Any] | None:
        return readable_context(known.get(experiment_id), context)

    for name, entry_id, event in list(_in_streams(unit)):
        body = encode(forgotten.without_name(event, pseudonyms[event.experiment_id], readable))
        decision_log().replace(name, entry_id, body)
        count += 1
    return count


def _in_spool(unit: str) -> int:
    """Of this machine. A living process writes its file, so it is left as it is: what it ships
    comes into the ledger without the name."""
    count = 0
    for path in settings.SPOOL_DIR.glob(f"*{spool.SUFFIX}") if settings.SPOOL_DIR.is_dir() else []:
        try:
            with path.open("rb") as file:
                for _, body in spool.read(file):
                    try:
                        count += decode(body).unit == unit
                    except ValueError:
                        continue
        except FileNotFoundError:  # shipped meanwhile
            continue
    return count


# A table that holds units gets a line here: how it is counted, and how its rows of the unit are put
# under its pseudonyms.
IN_DATABASE: tuple[Place, ...] = (
    Place("decisions", _count_decisions, _decisions),
    _table("first visits", "serving_firstvisit"),
    _table("outcomes by unit", "learning_unitoutcomes"),
    _table("outcomes by unit of days that were dropped", "learning_unitbase"),
    Place("decisions that are not activated", partial(_count_rows, "serving_waitingdecision"), _waiting),
    Place("decisions of devices that are not drained", partial(_count_rows, "serving_edgedecision"), _of_devices),
    Place("quarantined events", lambda unit: len(_quarantined(unit)), _quarantine),
)
OUTSIDE: tuple[Place, ...] = (
    Place("sticky assignments", _count_sticky, _sticky),
    Place("decisions in streams", _count_in_streams, _streams),
    Place(
        "decisions in this machine's spool, which come in without the name", _in_spool, lambda unit, _: _in_spool(unit)
    ),
)

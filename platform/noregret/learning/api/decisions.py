"""The ledger of an experiment as lines of JSON, streamed: memory stays bounded however long it
is."""

from collections.abc import Iterator
from datetime import datetime
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Any

import msgspec
from django.conf import settings
from django.db import connection
from django.http import StreamingHttpResponse
from django.utils.dateparse import parse_datetime
from msgspec import Struct
from psycopg import ServerCursor
from rest_framework.request import Request

from noregret.experiments.addressed import AddressedView
from noregret.experiments.models import Experiment
from noregret.learning.kept import rows_from
from noregret.learning.waiting import first_id_at
from noregret.rest.calls import call
from noregret.rest.reads import bounded_reads
from serving import problems
from serving.api.calls import Parameter
from serving.ledger.edge_decisions import BESIDE
from serving.ledger.events import decode
from serving.ledger.ingest import as_json, decided_at
from serving.times import told
from serving.tokens import Signer, Token

_CHUNK = 2000
_PARTS_READS = 6
"""A part of an export may take so many times as long as another statement: the first sorts them
all."""

_QUERY = """
SELECT d.id, d.unit, d.arm_id, d.propensity, d.policy_version, d.context, d.decided_at, d.latency_ms,
    d.fallback_reason, r.value, r.recorded_at, d.propensities, d.holdout, d.excluded, d.activated_at, d.cached,
    d.edge_decided_at, d.request_id
FROM serving_decision AS d
LEFT JOIN serving_reward AS r
    ON r.decided_at = d.decided_at AND r.decision_id = d.id AND r.metric = %(metric)s AND NOT r.late
WHERE d.experiment_id = %(experiment)s AND d.decided_at >= coalesce(%(rows_from)s::timestamptz, '-infinity')
    AND (%(since)s::timestamptz IS NULL OR d.decided_at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR d.decided_at < %(until)s)
ORDER BY d.decided_at, d.id
"""
# Ids are sorted by the time of the decision.
_WAITING = """
SELECT id, event FROM serving_waitingdecision
WHERE experiment_id = %(experiment)s AND event IS NOT NULL
    AND id >= coalesce(%(first)s::uuid, '00000000-0000-0000-0000-000000000000'::uuid)
    AND (%(last)s::uuid IS NULL OR id < %(last)s)
ORDER BY id
"""


class DecisionsView(AddressedView):
    """GET /api/v1/experiments/{name}/decisions.ndjson"""

    @call(
        "The ledger of an experiment, a line of JSON a decision",
        answers={200: str},
        problems=(404,),
        parameters=(
            Parameter("since", str, "A time with its zone; included."),
            Parameter("until", str, "A time with its zone; not included."),
            Parameter(
                "beside",
                bool,
                "In place of the ledger the decisions of devices that are kept beside, and teach nothing.",
            ),
        ),
        media_type="application/x-ndjson",
    )
    def get(self, request: Request, name: str) -> StreamingHttpResponse:
        experiment = self.experiment(name)
        since, until = (_time(request, parameter) for parameter in ("since", "until"))
        beside = request.query_params.get("beside", "false")
        if beside not in ("true", "false"):
            raise problems.invalid_fields([{"field": "beside", "message": "true or false was expected"}])
        number = experiment.pk if beside == "false" else BESIDE + experiment.pk
        begins = rows_from(experiment)
        headers = {} if begins is None else {"Rows-From": told(begins)}
        return StreamingHttpResponse(
            lines(experiment, since, until, number), content_type="application/x-ndjson", headers=headers
        )


def _time(request: Request, parameter: str) -> datetime | None:
    text = request.query_params.get(parameter)
    if text is None:
        return None
    try:
        # A `+` in a query is a space unless it was escaped: of an offset it can only have been a
        # plus.
        found = parse_datetime(text.replace(" ", "+")) if "T" in text else parse_datetime(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise problems.invalid_fields(
            [{"field": parameter, "message": "a time with its zone was expected, as 2026-11-23T10:00:00Z"}]
        )
    return found


def lines(
    experiment: Experiment, since: datetime | None, until: datetime | None, number: int | None = None
) -> Iterator[bytes]:
    """A line a decision, in order of decision time; decision ids are as they were answered.
    `number`: under which they are in the ledger, where it is not the experiment's own."""
    number = experiment.pk if number is None else number
    arms = dict(experiment.arms.order_by("position").values_list("pk", "name"))
    signer = Signer(settings.SECRET_KEY)
    encode = msgspec.json.Encoder().encode
    parameters = {
        "metric": experiment.reward_.metric,
        "experiment": number,
        "since": since,
        "until": until,
        "rows_from": rows_from(experiment),
    }
    begins = max((at for at in (since, rows_from(experiment)) if at is not None), default=None)
    with (
        bounded_reads(_PARTS_READS * settings.READ_SECONDS),
        connection.connection.cursor(name="decisions") as decided,
        connection.connection.cursor(name="waiting") as waiting,
    ):
        decided.execute(_QUERY, parameters)
        waiting.execute(_WAITING, {"experiment": number, "first": first_id_at(begins), "last": first_id_at(until)})
        told = (_line(row, number, arms, signer) for row in _rows(decided))
        held_back = (_waiting_line(row[1], number, arms, signer) for row in _rows(waiting))
        lines = merge(told, held_back, key=attrgetter("decided_at"))
        while chunk := b"".join(encode(line) + b"\n" for line in islice(lines, _CHUNK)):
            yield chunk


def _rows(cursor: ServerCursor) -> Iterator[tuple[Any, ...]]:
    while rows := cursor.fetchmany(_CHUNK):
        yield from rows


class Line(Struct, frozen=True):
    """A decision. `context` is as PostgreSQL wrote it: it is JSON already. `propensities` are by
    arm, as an evaluation needs them; an arm that was added later had none. `excluded` are the arms
    that the request was not for. Of one that is not `activated` nothing is learned, and no reward
    is told. `cached`: the arm's answer was kept from an earlier call. `edge_decided_at`: when a
    device says that it decided; null where it was decided here. `request_id`: as the caller
    gave it."""

    decision_id: str
    unit: str | None
    arm: str | None
    propensity: float
    policy_version: int
    context: msgspec.Raw | None
    decided_at: datetime
    latency_ms: float
    fallback_reason: str | None
    reward: float | None
    rewarded_at: datetime | None
    propensities: dict[str, float]
    holdout: bool
    excluded: list[str]
    activated: bool
    cached: bool
    request_id: str | None
    edge_decided_at: datetime | None = None


def _line(row: tuple[Any, ...], experiment_id: int, arms: dict[int, str], signer: Signer) -> Line:
    identity, unit, arm_id, propensity, policy_version, context, decided_at, latency_ms, *rest = row
    reason, value, recorded, propensities, holdout, excluded, activated_at, cached, *by_caller = rest
    edge_decided_at, request_id = by_caller
    token = Token(
        identity.bytes, experiment_id, arm_id, policy_version, propensity, reason is None, activated_at is not None
    )
    return Line(
        decision_id=signer.sign(token),
        unit=unit,
        arm=arms.get(arm_id),
        propensity=propensity,
        policy_version=policy_version,
        context=None if context is None else msgspec.Raw(context.encode()),
        decided_at=decided_at,
        latency_ms=round(latency_ms, 3),
        fallback_reason=reason,
        reward=value,
        rewarded_at=recorded,
        propensities=dict(zip(arms.values(), propensities, strict=False)),
        holdout=holdout,
        excluded=[arms[arm] for arm in excluded or () if arm in arms],
        activated=True,
        cached=cached,
        request_id=request_id,
        edge_decided_at=edge_decided_at,
    )


def _waiting_line(body: bytes, experiment_id: int, arms: dict[int, str], signer: Signer) -> Line:
    """A decision that is not activated, from its event."""
    event = decode(bytes(body))
    learnable = event.fallback_reason is None
    token = Token(event.id, experiment_id, event.arm_id, event.policy_version, event.propensity, learnable, waits=True)
    context = as_json(event.context)
    return Line(
        decision_id=signer.sign(token),
        unit=event.unit,
        arm=arms.get(event.arm_id),
        propensity=event.propensity,
        policy_version=event.policy_version,
        context=None if context is None else msgspec.Raw(context.encode()),
        decided_at=decided_at(event.id),
        latency_ms=round(event.latency_ms, 3),
        fallback_reason=event.fallback_reason,
        reward=None,
        rewarded_at=None,
        propensities=dict(zip(arms.values(), event.propensities, strict=False)),
        holdout=event.holdout,
        excluded=[arms[arm] for arm in event.excluded or () if arm in arms],
        activated=False,
        cached=event.cached,
        request_id=event.request_id,
    )

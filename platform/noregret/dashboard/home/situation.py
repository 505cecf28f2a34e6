"""Reads what `needs` tells from. A fixed number of queries, however many endpoints and experiments
there are, and of each cause no more rows than are shown.

Each part is read only for who may see its rows.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Exists, F, OuterRef, Sum

from bandits.inference.limits import proportion_evidence
from noregret.access.models import ApiKey
from noregret.experiments.models import Endpoint, Experiment
from noregret.learning.baselines import hour_of
from noregret.learning.health import Health
from noregret.learning.models import ArmStatistics, BaselineInterval, ShadowStatistics
from noregret.learning.served import FAILING
from noregret.notify.models import Delivery
from serving.process import CannotServe, process

from .needs import (
    Baked,
    Failing,
    Guarded,
    GuardrailActed,
    NeverAnswered,
    Recommended,
    Situation,
    Unrewarded,
)

MOST = 50
"""Rows of each cause that are read: more lines help nobody."""
ASKED = 20
"""Requests after which an arm that has answered none is told of."""
LATELY = timedelta(minutes=5)
UNREWARDED_DECISIONS = 100
REWARD_PATIENCE = timedelta(hours=1)
"""So long after the first windows are over rewards may still be on their way."""
TOLD_FOR = timedelta(days=1)
"""For so long it is told that a guardrail rolled back, or that a notification was given up."""
KEY_ENDS_WITHIN = timedelta(days=7)
_SHOWN = 20.0

Part = str
PARTS = ("experiments", "endpoints", "quarantine", "deliveries", "keys")


def situation(now: datetime, health: Health | str, sees: Collection[Part]) -> Situation:
    """What is, as far as `sees` (of PARTS) goes; `health` is why Redis can't be reached where it is
    text."""
    found = Situation(now, dead_seconds=settings.LEARNER_DEAD_SECONDS)
    if isinstance(health, str):
        found = replace(found, redis_problem=health)
    else:
        found = replace(found, learner_age=health.learner.age_seconds)
        if "endpoints" in sees:
            lagging = {name: (lag.seconds, lag.why) for name, lag in health.learner.lagging.items()}
            found = replace(found, lagging=lagging, waiting=health.waiting)
        if "quarantine" in sees:
            found = replace(found, quarantined=health.quarantined)
    if "endpoints" in sees:
        found = replace(found, failing=[*_failing_champions(now)])
        try:
            found = replace(found, not_loaded=process().store.champions_not_loaded())
        except CannotServe as error:
            found = replace(found, cannot_serve=error.cause)
    if "experiments" in sees:
        found = replace(
            found,
            failing=[*found.failing, *_failing_arms(now)],
            never_answered=[*_never_answered(), *_silent_shadows()][:MOST],
            guarded=_guarded(now),
            recommended=[*_recommended()],
            baked=[*_baked(now)],
            unrewarded=[*_unrewarded(now)],
        )
    if "deliveries" in sees:
        failed = Delivery.objects.filter(state=Delivery.State.FAILED, done_at__gt=now - TOLD_FOR)
        found = replace(found, given_up=failed.count())
    if "keys" in sees:
        soon = ApiKey.objects.filter(
            revoked_at__isnull=True, expires_at__gt=now, expires_at__lt=now + KEY_ENDS_WITHIN
        ).order_by("expires_at")
        rows = soon.values_list("pk", "name", "expires_at")[:MOST]
        found = replace(found, expiring=[(pk, name, until) for pk, name, until in rows if until is not None])
    return replace(found, endpoints=_numbers(found))


def _numbers(found: Situation) -> dict[str, int]:
    names = {*found.lagging, *found.not_loaded, *(row.endpoint for row in found.failing)}
    return dict(Endpoint.objects.filter(name__in=names).values_list("name", "pk")) if names else {}


def _running() -> Any:
    return Experiment.objects.filter(status=Experiment.Status.RUNNING)


def _recommended() -> Iterator[Recommended]:
    for pk, name, asked in _running().exclude(asked="").values_list("pk", "name", "asked")[:MOST]:
        yield Recommended(pk, name, asked)


def _baked(now: datetime) -> Iterator[Baked]:
    """Canaries whose next step is a person's."""
    by_hand = _running().filter(strategy=Experiment.Strategy.CANARY, canary__auto=False, canary_since__isnull=False)
    for row in by_hand.only("name", "canary", "canary_step", "canary_since")[:MOST]:
        canary, step = row.canary_, row.canary_step or 0
        baked = now >= row.canary_since + timedelta(seconds=canary.bake_seconds)
        if baked and step + 1 < len(canary.steps):
            yield Baked(row.pk, row.name, canary.steps[step], row.canary_since)


def _is_failing(failures: int, decisions: int) -> bool:
    """Is it shown, and not only seen, that more fail than may?"""
    return failures > 0 and proportion_evidence(failures, decisions, FAILING) >= _SHOWN


def _failing_champions(now: datetime) -> Iterator[Failing]:
    """Of single deployments; their sums are by the hour."""
    begin = hour_of(now) - timedelta(hours=1)
    recent = BaselineInterval.objects.filter(baseline__ended_at__isnull=True, merged=False, start__gte=begin)
    sums = recent.values_list("baseline__endpoint", "baseline__endpoint__name").annotate(
        failed=Sum("failures"), recorded=Sum("decisions")
    )
    for pk, name, failures, decisions in sums.filter(failed__gt=0).order_by("-failed")[: 10 * MOST]:
        if _is_failing(failures, decisions):
            yield Failing(pk, name, "", "", True, failures, decisions)


_LATELY = """
SELECT e.id, p.name, e.name, a.name, a.model_id = p.champion_id, sum(i.failures)::bigint, sum(i.decisions)::bigint
FROM experiments_experiment AS e JOIN experiments_endpoint AS p ON p.id = e.endpoint_id
JOIN experiments_arm AS a ON a.experiment_id = e.id AND a.enabled
JOIN learning_arminterval AS i ON i.arm_id = a.id AND i.start >= %(since)s
WHERE e.status = 'running'
GROUP BY e.id, p.name, e.name, a.name, a.model_id, p.champion_id HAVING sum(i.failures) > 0
ORDER BY sum(i.failures) DESC LIMIT %(most)s
"""


def _failing_arms(now: datetime) -> Iterator[Failing]:
    with connection.cursor() as cursor:
        cursor.execute(_LATELY, {"since": now - LATELY, "most": 10 * MOST})
        for pk, endpoint, experiment, arm, is_champion, failures, decisions in cursor.fetchall():
            if _is_failing(failures, decisions):
                yield Failing(pk, endpoint, experiment, arm, is_champion, failures, decisions)


def _never_answered() -> Iterator[NeverAnswered]:
    """Of those that were called: what a cache answered says nothing of the model."""
    bad = ArmStatistics.objects.filter(
        arm__enabled=True,
        arm__experiment__status=Experiment.Status.RUNNING,
        decisions__gte=ASKED,
        failures__gte=F("decisions"),
    )
    rows = bad.values_list("arm__experiment", "arm__experiment__name", "arm__name", "decisions")[:MOST]
    for pk, experiment, arm, decisions in rows:
        yield NeverAnswered(pk, experiment, arm, decisions)


def _silent_shadows() -> Iterator[NeverAnswered]:
    """Challengers of which there are failed predictions on copies, and no other."""
    rows = ShadowStatistics.objects.filter(
        arm__enabled=True,
        arm__experiment__status=Experiment.Status.RUNNING,
        sums__predictions__gte=ASKED,
        sums__compared=0,
    ).values_list(
        "arm__experiment", "arm__experiment__name", "arm__name", "sums__predictions", "sums__errors"
    )[: 2 * MOST]  # fmt: skip
    for pk, experiment, arm, predictions, errors in rows:
        if errors == predictions:
            yield NeverAnswered(pk, experiment, arm, predictions)


_BARE = """
SELECT e.id, e.name, e.reward->>'metric', sum(s.decisions)::bigint
FROM experiments_experiment AS e JOIN experiments_arm AS a ON a.experiment_id = e.id
JOIN learning_armstatistics AS s ON s.arm_id = a.id
WHERE e.status = 'running' AND e.reward->>'default' IS NULL
AND e.started_at < %(now)s - %(patience)s - make_interval(secs => (e.reward->>'window_seconds')::float8)
GROUP BY e.id HAVING sum(s.rewards) = 0 AND sum(s.decisions) >= %(decisions)s
ORDER BY e.id LIMIT %(most)s
"""


def _unrewarded(now: datetime) -> Iterator[Unrewarded]:
    asked: dict[str, Any] = {"now": now, "patience": REWARD_PATIENCE, "decisions": UNREWARDED_DECISIONS, "most": MOST}
    with connection.cursor() as cursor:
        cursor.execute(_BARE, asked)
        for pk, name, metric, decisions in cursor.fetchall():
            yield Unrewarded(pk, name, metric or "reward", decisions)


# The newest entry of each experiment, or of each arm, decides: what a person did since is no need.
_NEWEST = """
SELECT DISTINCT ON (experiment, details->>'arm') experiment, coalesce(details->>'arm', ''), action, actor, reason, at
FROM access_auditentry WHERE experiment = ANY(%(names)s) AND action = ANY(%(actions)s)
ORDER BY experiment, details->>'arm', id DESC
"""
_ENTRY: dict[Guarded, str] = {
    "paused": "experiment.paused",
    "rolled_back": "experiment.rolled_back",
    "arm_disabled": "experiment.arm_disabled",
}
_ACTOR = "guardrail"


def _guarded(now: datetime) -> list[GuardrailActed]:
    """What guardrails did to experiments that still stand as they left them."""
    status, outcome = Experiment.Status, Experiment.Outcome
    rows = Experiment.objects.order_by("-pk")
    paused = dict(rows.filter(status=status.PAUSED).values_list("name", "pk")[: 4 * MOST])
    # Whoever has started another on the endpoint has taken it up.
    others = Experiment.objects.exclude(pk=OuterRef("pk"))
    later = others.filter(endpoint=OuterRef("endpoint"), started_at__gt=OuterRef("ended_at"))
    back = rows.filter(~Exists(later), outcome=outcome.ROLLED_BACK, ended_at__gt=now - TOLD_FOR)
    rolled_back = dict(back.values_list("name", "pk")[: 4 * MOST])
    begun = rows.filter(status__in=(status.RUNNING, status.PAUSED), arms__enabled=False)
    disabled: dict[tuple[str, str], int] = {
        (name, arm): pk for name, arm, pk in begun.values_list("name", "arms__name", "pk")[: 4 * MOST]
    }
    found = [
        *_acted("paused", {(name, ""): pk for name, pk in paused.items()}),
        *_acted("rolled_back", {(name, ""): pk for name, pk in rolled_back.items()}),
        *_acted("arm_disabled", disabled),
    ]
    return sorted(found, key=lambda row: row.at, reverse=True)[:MOST]


def _acted(what: Guarded, rows: dict[tuple[str, str], int]) -> Sequence[GuardrailActed]:
    if not rows:
        return ()
    found = []
    with connection.cursor() as cursor:
        names = sorted({name for name, _ in rows})
        cursor.execute(_NEWEST, {"names": names, "actions": [_ENTRY[what]]})
        for name, arm, _, actor, reason, at in cursor.fetchall():
            pk = rows.get((name, arm if what == "arm_disabled" else ""))
            if pk is not None and actor == _ACTOR:
                found.append(GuardrailActed(pk, name, what, arm, reason, at))
    return found

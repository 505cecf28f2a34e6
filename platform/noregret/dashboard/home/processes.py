"""Is the platform well? A line a process or store, with an age where there is one, in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import redis
from django.conf import settings

from noregret.dashboard.verdicts.told import counted
from noregret.learning.backlog import OLD_SECONDS
from noregret.learning.health import Health, gives_sign, health
from noregret.learning.shown.phrases import duration
from noregret.notify.models import Delivery
from noregret.redis_client import decision_log
from noregret.rest import replica
from serving.process import CannotServe, process

BACKLOG_ALARM = 100_000
SHOWN_LAGGING = 10
LOOKED_AT = 20
"""Endpoints whose oldest waiting decision is looked up: those with most."""
LATE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class HealthLine:
    """A sentence, and whether it is good. `quarantine`: it is of what is set aside; `more`: what
    the sentence counts, a sentence each."""

    ok: bool
    text: str
    quarantine: bool = False
    more: Sequence[str] = ()


def asked() -> Health | str:
    """What is known of the learner, or why Redis can't be reached."""
    try:
        return health()
    except redis.RedisError as error:
        return str(error)


def lines(found: Health | str, now: datetime) -> list[HealthLine]:
    """Every process and store. That this page is there says that PostgreSQL answers."""
    if isinstance(found, str):
        said = f"Redis can't be reached ({found}). Predictions go on from the last snapshot; nothing is learned until it is back."
        return [HealthLine(False, said), *_web()]
    return [*_learner(found), *_replica(), _ingest(found, now), *_web(), _messages(now), _quarantine(found)]


def _learner(found: Health) -> Iterator[HealthLine]:
    age = found.learner.age_seconds
    alive = gives_sign(age)
    said = (
        "The learner has never given a sign: is a worker running?"
        if age is None
        else f"The learner looked at every endpoint {_since(age)}{', and is behind with some' if found.learner.lagging else ''}."
    )
    if not alive and age is not None:
        said += f" It should every {settings.LEARN_SECONDS:g} s: look at worker and beat."
    yield HealthLine(alive, said)
    lagging = sorted(found.learner.lagging.items(), key=lambda pair: -pair[1].seconds)
    said_of = [
        f"{name or 'Every endpoint'} is behind by {duration(round(lag.seconds))}: {lag.why}." for name, lag in lagging
    ]
    for behind in said_of[:SHOWN_LAGGING]:
        yield HealthLine(False, behind)
    more = said_of[SHOWN_LAGGING:]
    if more:
        yield HealthLine(False, f"So {counted(len(more), 'other is', 'others are')}.", more=more)


def _replica() -> Iterator[HealthLine]:
    """Of what figures are read from, where settings name a replica."""
    found = replica.state()
    if found is None:
        return
    if found.problem is not None:
        yield HealthLine(False, f"Figures are read from the primary, not from the replica: {found.problem}.")
    else:
        yield HealthLine(True, f"The replica that figures are read from is {found.lag_seconds or 0.0:.1f} s behind.")


def _ingest(found: Health, now: datetime) -> HealthLine:
    said = counted(found.backlog, "decision waits", "decisions wait") + " to be written to the ledger"
    oldest = _oldest_seconds(found, now)
    if oldest is None:
        return HealthLine(found.backlog < BACKLOG_ALARM, f"{said}.")
    return HealthLine(
        found.backlog < BACKLOG_ALARM and oldest <= OLD_SECONDS, f"{said}, the oldest for {oldest:,.0f} s."
    )


def _oldest_seconds(found: Health, now: datetime) -> float | None:
    most = sorted(found.waiting.items(), key=lambda pair: -pair[1])[:LOOKED_AT]
    try:
        appended = decision_log().oldest_of_each([name for name, count in most if count])
    except redis.RedisError:
        return None
    oldest = min((at for at in appended if isinstance(at, datetime)), default=None)
    return None if oldest is None else max(0.0, (now - oldest).total_seconds())


def _web() -> Iterator[HealthLine]:
    """The web process that answers; others may know other snapshots."""
    try:
        store = process().store
    except CannotServe as error:
        yield HealthLine(False, f"This web process can't serve anything: {error.cause}.")
        return
    told = store.describe()
    missing = len(store.champions_not_loaded()) + len(store.challengers_not_loaded())
    age = told["seconds_since_redis"]
    fresh = age is not None and age <= settings.STALE_SECONDS
    since = "has never read its snapshots" if age is None else f"read its snapshots {_since(age)}"
    models = f"{counted(missing, 'model is', 'models are')} not loaded" if missing else "every model is loaded"
    endpoints = counted(told["endpoints"], "endpoint", "endpoints")
    yield HealthLine(fresh and not missing, f"This web process serves {endpoints}, {since}; {models}.")


def _messages(now: datetime) -> HealthLine:
    """Notifications: a queue of its own, with a worker of its own."""
    waiting = Delivery.objects.filter(state=Delivery.State.WAITING)
    oldest = waiting.order_by("due_at").values_list("due_at", flat=True).first()
    if oldest is None or now - oldest <= LATE:
        return HealthLine(True, "Notifications go out." if oldest else "No notification waits.")
    late = (now - oldest).total_seconds()
    return HealthLine(False, f"Notifications have waited for {late:,.0f} s: does a worker run for the queue deliver?")


def _quarantine(found: Health) -> HealthLine:
    said = counted(found.quarantined, "event or row is", "events or rows are") + " in quarantine."
    return HealthLine(not found.quarantined, said, quarantine=bool(found.quarantined))


def _since(seconds: float) -> str:
    """Young ages are told alike: a page that nothing happened to stays the same."""
    return "less than 10 s ago" if seconds < 10.0 else f"{seconds:,.0f} s ago"

"""What needs a person, told from what was read (`situation`). No row and no server is asked here.

Each need is one line with the link at which somebody can act. Nobody is called for what the
platform does by itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, get_args

from django.urls import reverse

from noregret.learning.shown.phrases import duration, listed

# In the order in which they are told; what mends itself comes last.
Cause = Literal[
    "redis_away",
    "workers_silent",
    "web_cannot_serve",
    "champion_failing",
    "champion_not_loaded",
    "guardrail_acted",
    "arm_never_answered",
    "arm_failing",
    "recommendation",
    "canary_waits",
    "no_reward",
    "quarantine",
    "deliveries_given_up",
    "key_expires",
    "learner_behind",
]
_RANK = {cause: i for i, cause in enumerate(get_args(Cause))}
STUCK_SECONDS = 300.0
"""A learner that is behind for less mends itself, as after a busy moment."""
_NAMED = 3
"""Endpoints of one cause that are named; the others are counted."""
Guarded = Literal["paused", "rolled_back", "arm_disabled"]


@dataclass(frozen=True, slots=True)
class Recommended:
    """A running experiment that waits for a person's word. `asked`: an action, and the arm where it
    is of one."""

    pk: int
    experiment: str
    asked: str


@dataclass(frozen=True, slots=True)
class Baked:
    """A canary that goes on by hand alone and is past the end of its step."""

    pk: int
    experiment: str
    share: float
    since: datetime


@dataclass(frozen=True, slots=True)
class Failing:
    """Who fails in more of its newest decisions than it may. `arm` is empty for the champion of a
    single deployment; `link` is the endpoint's or the experiment's number."""

    link: int
    endpoint: str
    experiment: str
    arm: str
    is_champion: bool
    failures: int
    decisions: int


@dataclass(frozen=True, slots=True)
class NeverAnswered:
    """An arm that gets requests and has answered none of them."""

    pk: int
    experiment: str
    arm: str
    asked: int


@dataclass(frozen=True, slots=True)
class Unrewarded:
    """An experiment whose windows are over and that nobody has sent a reward for."""

    pk: int
    experiment: str
    metric: str
    decisions: int


@dataclass(frozen=True, slots=True)
class GuardrailActed:
    """What a guardrail did that a person has not taken up since."""

    pk: int
    experiment: str
    what: Guarded
    arm: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Situation:
    """What was read; the defaults are those of a platform that is well.

    `learner_age` is in seconds, None where the learner never gave a sign; `lagging` are seconds and
    reasons, and `waiting` decisions in streams, by endpoint; `not_loaded` are problems by endpoint,
    in the web process that answers, and `cannot_serve` is why that serves none.
    """

    now: datetime
    redis_problem: str = ""
    learner_age: float | None = 0.0
    dead_seconds: float = 60.0
    lagging: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)
    not_loaded: Mapping[str, str] = field(default_factory=dict)
    cannot_serve: str = ""
    failing: Sequence[Failing] = ()
    never_answered: Sequence[NeverAnswered] = ()
    guarded: Sequence[GuardrailActed] = ()
    recommended: Sequence[Recommended] = ()
    baked: Sequence[Baked] = ()
    unrewarded: Sequence[Unrewarded] = ()
    quarantined: int = 0
    given_up: int = 0
    expiring: Sequence[tuple[int, str, datetime]] = ()
    """Keys in force whose end is near: number, name, end."""
    endpoints: Mapping[str, int] = field(default_factory=dict)
    """The numbers of those endpoints that are named above."""


@dataclass(frozen=True, slots=True)
class Need:
    """One line: what is, and where to act. `urgent`: traffic is hurt, or nothing is learned."""

    cause: Cause
    said: str
    action: str
    url: str
    urgent: bool = False


def needs(situation: Situation) -> list[Need]:
    """Everything that needs a person, what is urgent first, what mends itself last; empty where
    nothing does."""
    found = [
        *_of_the_platform(situation),
        *_of_champions(situation),
        *_of_arms(situation),
        *_of_guardrails(situation),
        *_of_decisions(situation),
        *_of_the_rest(situation),
    ]
    return sorted(found, key=lambda need: (not need.urgent, _RANK[need.cause]))


def ago(now: datetime, at: datetime) -> str:
    """'5 min ago', in one unit, rounded down."""
    seconds = max(0.0, (now - at).total_seconds())
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:,.0f} {unit} ago"
    return f"{seconds:,.0f} s ago"


def _experiment(pk: int) -> str:
    return reverse("admin:experiments_experiment_change", args=[pk])


def _act(pk: int, action: str) -> str:
    return reverse("admin:experiment-action", args=[pk, action])


def _endpoint(situation: Situation, name: str) -> str:
    pk = situation.endpoints.get(name)
    changelist = reverse("admin:experiments_endpoint_changelist")
    return changelist if pk is None else reverse("admin:experiments_endpoint_change", args=[pk])


def _of_the_platform(situation: Situation) -> Iterator[Need]:
    if situation.redis_problem:
        said = f"Redis can't be reached ({situation.redis_problem}): predictions go on, and nothing is learned."
        yield Need("redis_away", said, "See the platform's health", "#health", urgent=True)
        return  # of the rest nobody knows
    age = situation.learner_age
    if age is None or age > situation.dead_seconds:
        since = "never given a sign" if age is None else f"been silent for {duration(round(age))}"
        said = f"The workers have {since}: nothing is learned, promoted or guarded. Look at worker and beat."
        yield Need("workers_silent", said, "See the platform's health", "#health", urgent=True)
    yield from _behind(situation)


def _behind(situation: Situation) -> Iterator[Need]:
    """One line, with however many endpoints the learner is behind."""
    if not situation.lagging:
        return
    longest = sorted(situation.lagging.items(), key=lambda pair: -pair[1][0])
    name, (seconds, why) = longest[0]
    behind, urgent = duration(round(seconds)), seconds >= STUCK_SECONDS
    if len(longest) == 1:
        said = f"The learner is {behind} behind with {name or 'every endpoint'}: {why}."
        yield Need("learner_behind", said, "See the endpoint", _endpoint(situation, name), urgent)
        return
    names = _named([name for name, _ in longest])
    said = f"The learner is up to {behind} behind with {len(longest):,} endpoints: {names}."
    yield Need("learner_behind", said, "See the platform's health", "#health", urgent)


def _named(names: Sequence[str]) -> str:
    """'a, b, c and 16 more'."""
    more = len(names) - _NAMED
    named = [name or "every endpoint" for name in names]
    return listed([*named[:_NAMED], f"{more:,} more"] if more > 0 else named)


def _of_champions(situation: Situation) -> Iterator[Need]:
    if situation.cannot_serve:
        said = f"This web process can't serve anything: {situation.cannot_serve}."
        yield Need("web_cannot_serve", said, "See the platform's health", "#health", urgent=True)
    missing = situation.not_loaded
    if len(missing) > 1:
        said = f"The champions of {len(missing):,} endpoints are not loaded in this web process: {_named([*missing])}."
        yield Need("champion_not_loaded", said, "See the endpoints", _endpoint(situation, ""), urgent=True)
    else:
        for name, problem in missing.items():
            said = f"The champion of {name} is not loaded in this web process: {problem}."
            yield Need("champion_not_loaded", said, "See the endpoint", _endpoint(situation, name), urgent=True)
    for row in situation.failing:
        if not row.is_champion:
            continue
        said = f"The champion of {row.endpoint} failed in {row.failures:,} of its last {row.decisions:,} decisions."
        url = _experiment(row.link) if row.arm else _endpoint(situation, row.endpoint)
        yield Need("champion_failing", said, "See its figures", url, urgent=True)


def _of_arms(situation: Situation) -> Iterator[Need]:
    silent = {(row.pk, row.arm) for row in situation.never_answered}
    for arm in situation.never_answered:
        said = f"{arm.arm} of {arm.experiment} has answered none of its {arm.asked:,} requests."
        yield Need("arm_never_answered", said, "See the experiment", _experiment(arm.pk))
    for row in situation.failing:
        if row.is_champion or (row.link, row.arm) in silent:
            continue
        said = f"{row.arm} of {row.experiment} failed in {row.failures:,} of its last {row.decisions:,} decisions."
        yield Need("arm_failing", said, "See the experiment", _experiment(row.link))


def _of_guardrails(situation: Situation) -> Iterator[Need]:
    for row in situation.guarded:
        told = {
            "paused": f"A guardrail paused {row.experiment}",
            "rolled_back": f"A guardrail rolled {row.experiment} back",
            "arm_disabled": f"A guardrail took {row.arm} out of {row.experiment}",
        }[row.what]
        said = f"{told} {ago(situation.now, row.at)}: {row.reason}."
        if row.what == "paused":
            yield Need("guardrail_acted", said, "Resume or stop it", _experiment(row.pk))
        else:
            yield Need("guardrail_acted", said, "See the experiment", _experiment(row.pk))


def _of_decisions(situation: Situation) -> Iterator[Need]:
    for row in situation.recommended:
        action, _, arm = row.asked.partition(" ")
        if action == "promote":
            said = f"{row.experiment} has its winner, {arm}: it waits for somebody to promote it."
            yield Need("recommendation", said, f"Promote {arm}", f"{_act(row.pk, 'promote')}?arm={arm}")
        elif action == "stop":
            said = f"{row.experiment} can end: no arm is better than another by what matters."
            yield Need("recommendation", said, "Stop it", _act(row.pk, "stop"))
        else:
            said = f"{row.experiment} recommends: {row.asked}."
            yield Need("recommendation", said, "See the experiment", _experiment(row.pk))
    for canary in situation.baked:
        said = f"{canary.experiment} has baked at {canary.share:.0%} since {canary.since:%Y-%m-%d %H:%M} UTC and goes on by hand alone."
        yield Need("canary_waits", said, "Advance it", _act(canary.pk, "advance"))
    for bare in situation.unrewarded:
        said = (
            f"{bare.experiment} made {bare.decisions:,} decisions and got no {bare.metric} for any: is feedback sent?"
        )
        yield Need("no_reward", said, "See the experiment", _experiment(bare.pk))


def _of_the_rest(situation: Situation) -> Iterator[Need]:
    if situation.quarantined:
        count = situation.quarantined
        said = f"{count:,} {'event or row is' if count == 1 else 'events or rows are'} in quarantine."
        yield Need("quarantine", said, "Look, replay or discard", reverse("admin:serving_quarantinedevent_changelist"))
    if situation.given_up:
        count = situation.given_up
        said = f"{count:,} {'notification was' if count == 1 else 'notifications were'} given up since yesterday."
        url = f"{reverse('admin:notify_delivery_changelist')}?state__exact=failed"
        yield Need("deliveries_given_up", said, "See why", url)
    for pk, name, until in situation.expiring:
        left = until - situation.now
        when = f"in {left // timedelta(days=1)} d" if left >= timedelta(days=1) else "within a day"
        said = f"The API key {name} expires {when}."
        yield Need("key_expires", said, "See the key", reverse("admin:access_apikey_change", args=[pk]))

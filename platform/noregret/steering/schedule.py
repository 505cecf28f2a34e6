"""Starts and ends experiments at their times. At its end an experiment is decided: stopped, or its
leader promoted."""

from datetime import datetime, timedelta

import structlog
from django.db.models import Q

from noregret.experiments.errors import ExperimentsError
from noregret.experiments.models import Experiment
from noregret.learning import clock
from noregret.learning.locks import bounded_wait
from noregret.learning.served import unfit
from noregret.learning.shown.recommendation import recommend
from noregret.rollout.transitions import move

log = structlog.get_logger(__name__)

ACTOR = "schedule"


def start_due() -> int:
    """Start the drafts whose time has come; how many. One that can't be started is tried again, and
    says why in the log."""
    now = clock.now()
    started = 0
    drafts = Experiment.objects.filter(status=Experiment.Status.DRAFT, schedule__start_at__isnull=False)
    for experiment in drafts.select_related("endpoint"):
        try:
            at = experiment.schedule_.start_at
            if at is None or at > now:
                continue
            with bounded_wait():
                reason = f"scheduled for {at:%Y-%m-%d %H:%M:%S} UTC"
                move(experiment, "start", actor=ACTOR, reason=reason, revision=experiment.revision)
        except ExperimentsError as error:
            log.warning("not started", experiment=experiment.name, why=str(error))
        except Exception:  # whatever is wrong with one draft, the others start, and everybody is learned for
            log.exception("not started", experiment=experiment.name)
        else:
            started += 1
    return started


def ends_at(experiment: Experiment) -> datetime | None:
    """When a started experiment ends by itself, or None."""
    schedule = experiment.schedule_
    ends = [] if schedule.end_at is None else [schedule.end_at]
    if schedule.max_seconds is not None and experiment.started_at is not None:
        ends.append(experiment.started_at + timedelta(seconds=schedule.max_seconds))
    return min(ends, default=None)


def with_an_end() -> list[int]:
    """The endpoints of experiments that are past their end, paused ones too."""
    now = clock.now()
    begun = Experiment.objects.filter(
        Q(schedule__end_at__isnull=False) | Q(schedule__max_seconds__isnull=False),
        status__in=(Experiment.Status.RUNNING, Experiment.Status.PAUSED),
    )
    return [one.endpoint_id for one in begun if _is_over(one, now)]


def _is_over(experiment: Experiment, now: datetime) -> bool:
    """Past its end; also where that can't be read: its own round then says what is wrong."""
    try:
        end = ends_at(experiment)
    except Exception:
        return True
    return end is not None and end <= now


def act(experiment: Experiment) -> bool:
    """End an experiment whose time is over; True if that was done."""
    end = ends_at(experiment)
    if end is None or clock.now() < end:
        return False
    arms = list(experiment.arms.select_related("model").order_by("position"))
    found = recommend(experiment, arms)
    leader = found.arm or found.leader
    over = f"its time was over at {end:%Y-%m-%d %H:%M:%S} UTC"
    promotes = experiment.schedule_.at_end == "promote_leader" and leader is not None and leader.enabled
    hindered = unfit(experiment, leader) if promotes and leader is not None else ""
    if hindered:
        promotes, over = False, f"{over}; {hindered}, so it is not promoted"
    evidence = {"value": found.evidence, "needed": found.needed}
    if promotes and leader is not None:
        move(
            experiment,
            "promote",
            actor=ACTOR,
            reason=f"{over}; {leader.name} led: {found.reason}",
            arm=leader,
            evidence=evidence,
        )
    else:
        move(experiment, "stop", actor=ACTOR, reason=f"{over}; {found.reason}", evidence=evidence)
    return True

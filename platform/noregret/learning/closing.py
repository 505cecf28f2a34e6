"""When buckets may be closed, and until when they are. Closes none."""

from datetime import datetime, timedelta

from noregret.experiments.models import Experiment

from .buckets import GRACE_SECONDS, bucket_width, floor_to_bucket
from .models import ExperimentEvidence

# Web processes that hear of an experiment's end late go on deciding for it; so long its buckets are
# still closed.
AFTER_END = timedelta(minutes=15)
# Nobody waits for the last buckets of an ended experiment: closed one by one, a hundred of them
# would keep the learner from all others.
ENDED_PAUSE = timedelta(minutes=1)
_REST_A_PAIR = timedelta(milliseconds=1)
LONGEST_REST = timedelta(seconds=30)


def can_be_closed_until(experiment: Experiment, now: datetime) -> datetime:
    """The end of the last bucket whose decisions have all matured."""
    window = timedelta(seconds=experiment.reward_.window_seconds + GRACE_SECONDS)
    return floor_to_bucket(now - window, bucket_width(experiment.reward_.window_seconds))


def first_bucket(experiment: Experiment) -> datetime:
    """When the bucket begins in which the experiment was started."""
    started = experiment.started_at or experiment.created_at
    return floor_to_bucket(started, bucket_width(experiment.reward_.window_seconds))


def is_closed_until(experiment: Experiment, held: ExperimentEvidence) -> datetime:
    """Until when an experiment's buckets are closed; before the first is, when that begins."""
    return held.closed_until or first_bucket(experiment)


def least_step(experiment: Experiment, arms: int) -> timedelta:
    """How much is closed at once, at least: whole buckets, for evidence has a number a pair of arms
    and more, and is written as a whole.

    A thousandth of a second a pair: nothing that is felt up to thirty arms, ten seconds with a
    hundred. Nobody waits at the end.
    """
    width = bucket_width(experiment.reward_.window_seconds)
    rest = timedelta(0) if experiment.ended_at is not None else min(arms * arms * _REST_A_PAIR, LONGEST_REST)
    return width * max(-(-rest // width), 1)


def overdue_seconds(experiment: Experiment, arms: int, now: datetime, since: datetime | None = None) -> float:
    """For how long the next bucket could have been closed, or the one of a decision made `since`;
    negative while it can't be."""
    window = timedelta(seconds=experiment.reward_.window_seconds + GRACE_SECONDS)
    end = (since or is_closed_until(experiment, experiment.evidence)) + least_step(experiment, arms)
    if experiment.ended_at is not None:
        end += ENDED_PAUSE
    return (now - window - end).total_seconds()

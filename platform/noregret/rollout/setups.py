"""An experiment as it is set up, for whoever looks at what follows from that: its rows, saved or
not, and the traffic that its endpoint's champion had."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import NamedTuple

from noregret.experiments.document import DAY
from noregret.experiments.models import Arm, Experiment
from noregret.learning import clock
from noregret.learning.baseline_figures import BaselineFigures, present_figures

SUPPOSED_PER_DAY = 100 * DAY
"""Decisions a day where no traffic is known: more than most endpoints have."""


class Caution(NamedTuple):
    """What is allowed and yet not what most people mean, in a sentence. `grave`: nothing is gained
    by it, or not in a time that people wait, so it is looked at twice before it starts."""

    said: str
    grave: bool = False


@dataclass(frozen=True)
class Setup:
    """`arms`: those that are enabled."""

    experiment: Experiment
    arms: Sequence[Arm]

    @property
    def is_draft(self) -> bool:
        return self.experiment.status == Experiment.Status.DRAFT

    @property
    def learns(self) -> bool:
        """Does the evidence decide, or advise whoever decides?"""
        strategies = (Experiment.Strategy.AB, Experiment.Strategy.BANDIT)
        return self.experiment.strategy in strategies and not self.experiment.apprentice

    @cached_property
    def before(self) -> BaselineFigures | None:
        """What the champion has shown; None where that is nothing, or no question any more."""
        return present_figures(self.experiment.endpoint) if self.is_draft else None

    @property
    def per_day(self) -> float | None:
        """Decisions a day; None where no traffic is known."""
        return None if self.before is None else self.before.decisions_per_day or None

    @property
    def shares(self) -> list[float]:
        """Of the traffic that is divided, what each arm gets at first, in their order."""
        weights = [1.0 if arm.weight is None else arm.weight for arm in self.arms]
        total = sum(weights)
        return [weight / total if total else 0.0 for weight in weights]

    def days_for(self, decisions: float, share: float) -> float:
        """Until so many decisions have come for this share of the traffic, at the known traffic or
        else at the supposed one."""
        per_day = (self.per_day or SUPPOSED_PER_DAY) * share * (1.0 - self.experiment.holdout)
        return decisions / per_day if per_day > 0.0 else float("inf")

    def planned_days(self) -> float | None:
        """How long its schedule lets it run; None where it names no end."""
        schedule = self.experiment.schedule_
        starts = schedule.start_at or clock.now()
        lengths = [] if schedule.max_seconds is None else [timedelta(seconds=schedule.max_seconds)]
        lengths += [] if schedule.end_at is None else [schedule.end_at - max(starts, clock.now())]
        return min((length.total_seconds() / DAY for length in lengths), default=None)


def days(value: float) -> str:
    """'36 days', '1 day', '5 hours': to the precision of an estimate."""
    if value == float("inf"):
        return "for ever"
    if value < 2.0 / 24.0:
        minutes = max(round(value * 1440), 1)
        return f"{minutes} minute{'' if minutes == 1 else 's'}"
    if value < 2.0:
        return f"{round(value * 24)} hours"
    return f"{value:,.0f} days"

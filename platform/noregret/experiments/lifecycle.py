"""What may follow what: an experiment's states and transitions, as data. No model, no database and
no clock enter this module."""

from dataclasses import dataclass
from typing import Literal

from django.db.models import TextChoices


class Status(TextChoices):
    DRAFT = "draft", "Draft"
    RUNNING = "running", "Running"
    PAUSED = "paused", "Paused"
    COMPLETED = "completed", "Completed"


class Outcome(TextChoices):
    PROMOTED = "promoted", "Promoted"
    ROLLED_BACK = "rolled_back", "Rolled back"
    STOPPED = "stopped", "Stopped"


Action = Literal["start", "pause", "resume", "stop", "promote", "rollback"]


@dataclass(frozen=True, slots=True)
class Transition:
    """From which states an action leads where; `outcome` is set when it completes the
    experiment."""

    sources: tuple[str, ...]
    target: str
    past: str
    outcome: str | None = None


_BEGUN = (Status.RUNNING, Status.PAUSED)

TRANSITIONS: dict[Action, Transition] = {
    "start": Transition((Status.DRAFT,), Status.RUNNING, "started"),
    "pause": Transition((Status.RUNNING,), Status.PAUSED, "paused"),
    "resume": Transition((Status.PAUSED,), Status.RUNNING, "resumed"),
    "stop": Transition((Status.DRAFT, *_BEGUN), Status.COMPLETED, "stopped", Outcome.STOPPED),
    "promote": Transition(_BEGUN, Status.COMPLETED, "promoted", Outcome.PROMOTED),
    "rollback": Transition(_BEGUN, Status.COMPLETED, "rolled_back", Outcome.ROLLED_BACK),
}


def possible(status: str) -> list[Action]:
    """The actions that an experiment in this state allows, in the order in which they are shown."""
    return [action for action, transition in TRANSITIONS.items() if status in transition.sources]

"""Celery's side of it: in the worker of the queue `deliver`."""

from noregret.celery import app
from noregret.trail.sending import CLAIMED_SECONDS

from .aliases import move_due


@app.task(time_limit=int(CLAIMED_SECONDS), soft_time_limit=int(CLAIMED_SECONDS) - 10)
def move_aliases() -> None:
    """Move what is due. What is cut off is tried again when its claim is over."""
    move_due()

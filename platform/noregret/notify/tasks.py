"""Celery's side of sending: in the worker of the queue `deliver`."""

from noregret.celery import app
from noregret.trail.sending import CLAIMED_SECONDS

from .deliver import deliver_due


@app.task(time_limit=int(CLAIMED_SECONDS), soft_time_limit=int(CLAIMED_SECONDS) - 10)
def deliver() -> None:
    """Send webhooks and e-mail that are due. The limit is the claim's: what is cut off is tried
    again."""
    deliver_due()

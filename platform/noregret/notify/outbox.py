"""Puts what happened into the outbox, in the transaction in which it happens: what was not done is
not told, what was done is not lost."""

import uuid
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from serving.times import told

from .models import Delivery, Webhook

MAILED = frozenset(
    {
        "guardrail.acted",
        "experiment.recommended",
        "experiment.promoted",
        "experiment.rolled_back",
        "endpoint.rolled_back",
    }
)
"""What operators are told by e-mail: what was done without them, and what waits for them."""


def enqueue(event: str, *, endpoint: str, body: dict[str, Any]) -> None:
    """A delivery for each receiver of an event. A recipient of the audit trail: called for every
    entry."""
    receivers = Webhook.objects.filter(Q(events__contains=[event]) | Q(events__contains=["*"]), active=True)
    if endpoint:
        receivers = receivers.filter(Q(endpoints__isnull=True) | Q(endpoints__contains=[endpoint]))
    else:
        receivers = receivers.filter(endpoints__isnull=True)
    mailed = event in MAILED and bool(settings.ALERT_EMAILS)
    now = timezone.now()
    message = {"id": str(uuid.uuid4()), "event": event, "at": told(now), **body}
    Delivery.objects.bulk_create(
        [Delivery(webhook=webhook, event=event, body=message, due_at=now) for webhook in receivers]
        + ([Delivery(event=event, body=message, due_at=now)] if mailed else [])
    )

"""The admin's first page: what runs, whether the platform is well, and what happened last."""

from typing import Any

import redis
from django.conf import settings
from django.http import HttpRequest

from noregret.access.models import AuditEntry
from noregret.experiments.models import Endpoint, Experiment
from noregret.learning.health import health
from noregret.learning.results import results
from noregret.registry.models import ModelVersion


def add_overview(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """unfold's callback for the index page."""
    running = Experiment.objects.filter(status__in=[Experiment.Status.RUNNING, Experiment.Status.PAUSED])
    context["experiments"] = [
        {"row": row, "results": results(row)}
        for row in running.select_related("endpoint", "promoted_arm").order_by("-started_at")[:20]
    ]
    context["endpoints"] = Endpoint.objects.select_related("champion").order_by("name")[:50]
    context["audit"] = AuditEntry.objects.order_by("-pk")[:10]
    context["has_models"] = ModelVersion.objects.exists()
    context["health"] = _health()
    return context


def _health() -> dict[str, Any]:
    """Sentences for a person, and whether each is good."""
    try:
        found = health()
    except redis.RedisError as error:
        return {"ok": False, "lines": [{"ok": False, "text": f"Redis can't be reached: {error}"}]}
    age = found.learner_age_seconds
    alive = age is not None and age <= settings.LEARNER_DEAD_SECONDS
    learner = (
        "The learner has never finished a round: is a worker running?"
        if age is None
        else f"The learner finished a round {age:.0f} s ago."
    )
    lines = [
        {
            "ok": alive,
            "text": learner if alive or age is None else f"{learner} It should every second: look at worker and beat.",
        },
        {"ok": found.backlog < 100_000, "text": f"{found.backlog:,} decisions wait to be written to the ledger."},
        {"ok": not found.quarantined, "text": f"{found.quarantined:,} events are in quarantine."},
    ]
    return {"ok": all(line["ok"] for line in lines), "lines": lines}

"""The admin's first page: what runs, whether the platform is well, and what happened last. Each
part only for who may see its rows."""

from typing import Any

import redis
import structlog
from django.conf import settings
from django.db.models import Prefetch
from django.http import HttpRequest

from noregret.experiments.models import Endpoint, Experiment
from noregret.learning.baseline_figures import glances
from noregret.learning.health import health
from noregret.learning.shown.shared import shared_results
from noregret.registry.models import ModelVersion
from noregret.rest import replica
from noregret.steering.failing import in_words
from noregret.trail.models import AuditEntry

from .figures import facts, progress, tells_evidence
from .pages import may_see

log = structlog.get_logger(__name__)

BACKLOG_ALARM = 100_000
SHOWN_EXPERIMENTS = 20
SHOWN_ENDPOINTS = 50
SHOWN_LAGGING = 10
SHOWN_ENTRIES = 10

_BEGUN = (Experiment.Status.RUNNING, Experiment.Status.PAUSED)


def add_overview(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """unfold's callback for the index page."""
    context["title"] = "Overview"
    context["content_title"] = "Overview"
    context["health"] = _health()
    context["see"] = {
        "experiments": may_see(request, "experiments", "experiment"),
        "endpoints": may_see(request, "experiments", "endpoint"),
        "audit": may_see(request, "trail", "auditentry"),
        "quarantine": may_see(request, "serving", "quarantinedevent"),
    }
    context["may"] = {
        model: request.user.has_perm(f"{label}.add_{model}")
        for label, model in (
            ("experiments", "experiment"),
            ("experiments", "endpoint"),
            ("registry", "modelversion"),
            ("access", "apikey"),
        )
    }
    context["has"] = {"models": ModelVersion.objects.exists(), "endpoints": Endpoint.objects.exists()}
    context["host"] = f"{request.scheme}://{request.get_host()}"
    if context["see"]["experiments"]:
        context["experiments"] = _experiments()
    if context["see"]["endpoints"]:
        begun = Experiment.objects.filter(status__in=_BEGUN).order_by("-started_at")
        endpoints = list(
            Endpoint.objects.select_related("champion")
            .prefetch_related(Prefetch("experiments", begun, to_attr="begun"))
            .order_by("name")[:SHOWN_ENDPOINTS]
        )
        shown = glances(endpoints)
        context["endpoints"] = [(endpoint, shown.get(endpoint.pk)) for endpoint in endpoints]
    if context["see"]["audit"]:
        context["audit"] = AuditEntry.objects.order_by("-pk")[:SHOWN_ENTRIES]
    return context


def _experiments() -> list[dict[str, Any]]:
    begun = Experiment.objects.filter(status__in=_BEGUN).select_related("endpoint", "promoted_arm")
    found = []
    for row in begun.order_by("-started_at")[:SHOWN_EXPERIMENTS]:
        try:
            shown = shared_results(row.pk).results
        except Exception as error:  # whatever is wrong with one experiment, the others are shown
            log.exception("results not shown", experiment=row.name)
            told = f"Its figures can't be told: {in_words(error)}."
            found.append({"row": row, "decisions": "–", "reason": told, "progress": None, "evidence": ""})
            continue
        found.append(
            {
                "row": row,
                "decisions": f"{shown.decisions:,}",
                "reason": facts(shown)["reason"],
                "progress": progress(shown.evidence) if tells_evidence(row) else None,
                "evidence": facts(shown).get("evidence", ""),
            }
        )
    return found


def _health() -> dict[str, Any]:
    """Sentences for a person, and whether each is good."""
    try:
        found = health()
    except redis.RedisError as error:
        said = f"Redis can't be reached ({error}). Predictions go on from the last snapshot; nothing is learned until it is back."
        return {"ok": False, "lines": [{"ok": False, "text": said}]}
    age = found.learner.age_seconds
    alive = age is not None and age <= settings.LEARNER_DEAD_SECONDS
    learner = (
        "The learner has never given a sign: is a worker running?"
        if age is None
        else f"The learner looked at every endpoint {age:,.0f} s ago."
    )
    if not alive and age is not None:
        learner += f" It should every {settings.LEARN_SECONDS:g} s: look at worker and beat."
    lagging = list(found.learner.lagging.items())
    more = len(lagging) - SHOWN_LAGGING
    lines = [
        {"ok": alive, "text": learner},
        *_replica(),
        *(
            {"ok": False, "text": f"{name} is behind by {lag.seconds:,.0f} s: {lag.why}."}
            for name, lag in lagging[:SHOWN_LAGGING]
        ),
        *([{"ok": False, "text": f"So {_counted(more, 'other is', 'others are')}."}] if more > 0 else []),
        {
            "ok": found.backlog < BACKLOG_ALARM,
            "text": _counted(found.backlog, "decision waits", "decisions wait") + " to be written to the ledger.",
        },
        {
            "ok": not found.quarantined,
            "text": _counted(found.quarantined, "event or row is", "events or rows are") + " in quarantine.",
            "quarantine": bool(found.quarantined),
        },
    ]
    return {"ok": all(line["ok"] for line in lines), "lines": lines}


def _replica() -> list[dict[str, Any]]:
    """Of what figures are read from, where settings name a replica."""
    found = replica.state()
    if found is None:
        return []
    if found.problem is not None:
        return [{"ok": False, "text": f"Figures are read from the primary, not from the replica: {found.problem}."}]
    return [{"ok": True, "text": f"The replica that figures are read from is {found.lag_seconds or 0.0:.1f} s behind."}]


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"

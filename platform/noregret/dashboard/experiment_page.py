"""The page of an experiment: its views. What they show is made in experiment_shown, what can be
done in experiment_actions."""

import csv
import hashlib
import time
from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotModified
from django.urls import URLPattern, path
from django.views.decorators.http import require_safe
from unfold.decorators import display

from noregret.experiments.models import Experiment
from noregret.learning.shown import forecast
from noregret.learning.shown.asked import Known
from noregret.learning.shown.shared import state_of
from noregret.rest.encoding import document, encoded

from .asked_figures import asked_of
from .experiment_actions import ExperimentActions
from .experiment_shown import parts, shown
from .figures import tells_evidence
from .guided_experiments import GuidedExperiments
from .pages import may_see
from .words import in_words

CLOCK_SECONDS = 10
"""What follows from the clock alone is told anew after so long where nothing else has changed."""


class ExperimentPages(GuidedExperiments, ExperimentActions):
    """List, page, figures and confirmed actions."""

    list_display = ("name", "endpoint", "strategy", "state", "outcome", "started_at", "ended_at")
    list_filter = ("status", "strategy")
    search_fields = ("name", "endpoint__name")
    list_select_related = ("endpoint",)

    @display(  # type: ignore[untyped-decorator]  # unfold ships no types
        description="status",
        ordering="status",
        label={"Running": "success", "Paused": "warning", "Completed": "info"},
    )
    def state(self, row: Experiment) -> str:
        return str(Experiment.Status(row.status).label)

    def get_urls(self) -> list[URLPattern]:
        def own(route: str, view: Any, name: str) -> URLPattern:
            wrapped: Callable[..., HttpResponse] = self.admin_site.admin_view(view)
            return path(f"<int:pk>/{route}", wrapped, name=name)

        return [
            own("figures.json", require_safe(self.figures_view), "experiment-figures"),
            own("forecast.json", require_safe(self.forecast_view), "experiment-forecast"),
            own("charts/<slug:chart>.csv", require_safe(self.csv_view), "experiment-csv"),
            own("do/<str:action>", self.action_view, "experiment-action"),
            own("edit", self.edit_view, "experiment-edit"),
            own("copy", self.copy_view, "experiment-copy"),
            *super().get_urls(),
        ]

    def _experiment(self, request: HttpRequest, pk: int | str) -> Experiment:
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = Experiment.objects.select_related("endpoint__champion", "promoted_arm")
        found = rows.filter(pk=pk).first() if str(pk).isdigit() else None
        if found is None:
            raise Http404
        return found

    def _shown(self, request: HttpRequest, experiment: Experiment) -> dict[str, Any]:
        sees_audit = may_see(request, "trail", "auditentry")
        may_change = self.may(request, "change")
        context = shown(
            experiment, may_change=may_change, sees_audit=sees_audit, policy=request.GET.get("evaluate", "")
        )
        context["may_edit"] = may_change and experiment.status == Experiment.Status.DRAFT
        context["may_copy"] = self.may(request, "add")
        return context

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        experiment = self._experiment(request, object_id)
        context = self._shown(request, experiment)
        context |= {
            "title": experiment.name,
            "content_title": experiment.name,
            "words": in_words(experiment, list(experiment.arms.all())),
            "charts_document": document(context["charts"]),
            "forecast": self._forecast(request, experiment),
        }
        return self.page(request, "noregret/experiment.html", context)

    def _forecast(self, request: HttpRequest, experiment: Experiment) -> dict[str, Any] | None:
        """The question when it might promote, and the answer where it was asked; None where its end
        is no matter of evidence."""
        begun = experiment.status in (Experiment.Status.RUNNING, Experiment.Status.PAUSED)
        if not begun or not tells_evidence(experiment):
            return None
        asked = request.GET.get("forecast") == "1"
        return {"said": forecast.of_experiment(experiment).said if asked else ""}

    def figures_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """What the page refreshes: its parts as HTML, its figures as text, its charts. 304 while
        nothing has changed."""
        experiment = self._experiment(request, pk)
        tag = _tag(request, experiment, asked_of(experiment, request.GET.get("evaluate", "")))
        if request.headers.get("If-None-Match") == tag:
            return HttpResponseNotModified(headers={"ETag": tag})
        context = self._shown(request, experiment)
        figures = context["figures"]
        told = {
            "status": figures.status,
            "results": figures.results,
            "cells": figures.cells,
            "facts": figures.facts,
            "parts": parts(context, request),
            "charts": context["charts"],
        }
        return HttpResponse(encoded(told), content_type="application/json", headers={"ETag": tag})

    def forecast_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """When it might promote, simulated where that was not done lately: the page asks for it
        once it stands."""
        experiment = self._experiment(request, pk)
        if self._forecast(request, experiment) is None:
            raise Http404
        return HttpResponse(encoded(forecast.of_experiment(experiment)), content_type="application/json")

    def csv_view(self, request: HttpRequest, pk: int, chart: str) -> HttpResponse:
        """What a chart draws: a row a time and arm, or a row a part of the traffic and arm."""
        experiment = self._experiment(request, pk)
        context = self._shown(request, experiment)
        drawn = [*context["charts"], *context.get("tables", ())]
        found = next((one for one in drawn if one.id == chart), None)
        if found is None:
            raise Http404
        answer = HttpResponse(content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = f'attachment; filename="{experiment.name}-{chart}.csv"'
        csv.writer(answer).writerows(found.csv())
        return answer

    def action_view(self, request: HttpRequest, pk: int, action: str) -> HttpResponse:
        """GET asks for confirmation; POST does it."""
        return self.do_view(request, self._experiment(request, pk), action)


def _tag(request: HttpRequest, experiment: Experiment, asked: dict[str, Known]) -> str:
    """The version of what a person is shown."""
    rights = sorted(request.user.get_all_permissions()) if not request.user.is_superuser else []
    clock = int(time.time() / CLOCK_SECONDS)
    seen = (experiment.pk, experiment.status, state_of(experiment.pk), request.user.pk, rights, clock)
    made = [None if known.told is None else known.told.at for known in asked.values()]
    return f'"{hashlib.sha256(repr((seen, made)).encode()).hexdigest()[:32]}"'

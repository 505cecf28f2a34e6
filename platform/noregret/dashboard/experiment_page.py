"""The page of an experiment: what it shows, what can be done there, and the confirmation before anything is."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_safe

from noregret.access.models import AuditEntry
from noregret.experiments.errors import ExperimentsError
from noregret.experiments.lifecycle import TRANSITIONS, Action, possible
from noregret.experiments.models import Arm, Experiment
from noregret.experiments.transitions import move

from .figures import figures
from .forms import ExperimentForm, ReasonForm
from .pages import ServiceAddAdmin, actor_of

CONSEQUENCES: dict[Action, str] = {
    "start": "Traffic of the endpoint {endpoint} will be routed among the arms of {name} from now on.",
    "pause": "All traffic of {endpoint} will go to its champion, {champion}, until the experiment is resumed. Rewards still count.",
    "resume": "Traffic of {endpoint} will be routed among the arms again.",
    "stop": "{name} ends. All traffic of {endpoint} goes to its champion, {champion}. This can't be undone.",
    "rollback": "{name} ends as rolled back. All traffic of {endpoint} goes to its champion, {champion}. This can't be undone.",
    "promote": "{model} becomes the champion of {endpoint} and gets all of its traffic; {name} ends. "
    "The endpoint can be rolled back to {champion}.",
}
COLUMNS = (
    ("decisions", "Decisions"),
    ("share", "Share"),
    ("now", "Share now"),
    ("rewards", "Rewards"),
    ("mean", "Mean reward"),
    ("interval", "95 % interval"),
    ("best", "P(best)"),
    ("loss", "Expected loss"),
    ("errors", "Errors"),
    ("p50", "p50 in ms"),
    ("p99", "p99 in ms"),
)


class ExperimentPages(ServiceAddAdmin[Experiment]):
    """List, page, figures and confirmed actions."""

    service_form = ExperimentForm
    add_help = "The experiment is made as a draft: nothing changes for clients until it is started."
    list_display = ("name", "endpoint", "strategy", "status", "outcome", "started_at", "ended_at")
    list_filter = ("status", "strategy")
    search_fields = ("name", "endpoint__name")
    list_select_related = ("endpoint",)

    def get_urls(self) -> list[URLPattern]:
        return [
            path(
                "<int:pk>/figures.json",
                self.admin_site.admin_view(require_safe(self.figures_view)),
                name="experiment-figures",
            ),
            path("<int:pk>/do/<str:action>", self.admin_site.admin_view(self.action_view), name="experiment-action"),
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

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        experiment = self._experiment(request, object_id)
        shown = figures(experiment)
        arms = list(experiment.arms.select_related("model").order_by("position"))
        allowed = possible(experiment.status) if self.may(request, "change") else []
        return self.page(
            request,
            "noregret/experiment.html",
            {
                "title": experiment.name,
                "experiment": experiment,
                "figures": shown,
                "rows": [(arm, [(key, shown["cells"][arm.name][key]) for key, _ in COLUMNS]) for arm in arms],
                "columns": COLUMNS,
                "actions": [action for action in allowed if action != "promote"],
                "promotable": [arm for arm in arms if arm.enabled] if "promote" in allowed else [],
                "audit": AuditEntry.objects.filter(experiment=experiment.name)[:10],
                "live": experiment.status == Experiment.Status.RUNNING,
            },
        )

    def figures_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        experiment = self._experiment(request, pk)
        return JsonResponse(figures(experiment) | {"status": experiment.status})

    def action_view(self, request: HttpRequest, pk: int, action: str) -> HttpResponse:
        """GET asks for confirmation; POST does it."""
        experiment = self._experiment(request, pk)
        if action not in TRANSITIONS:
            raise Http404
        if not self.may(request, "change"):
            raise PermissionDenied
        name: Action = action
        arm = self._arm(experiment, request.GET.get("arm", "")) if name == "promote" else None
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            try:
                move(experiment, name, actor=actor_of(request), reason=form.cleaned_data["reason"], arm=arm)
            except ExperimentsError as error:
                messages.error(request, f"Not done: {error}.")
            else:
                messages.success(request, f"{experiment.name} was {TRANSITIONS[name].past.replace('_', ' ')}.")
            return self.to_row(experiment)
        said = CONSEQUENCES[name].format(
            name=experiment.name,
            endpoint=experiment.endpoint.name,
            champion=experiment.endpoint.champion.model,
            model=arm.model.model if arm else "",
        )
        context = {
            "title": f"{name.capitalize()} {experiment.name}",
            "experiment": experiment,
            "question": said,
            "form": form,
            "button": f"{name.capitalize()} {arm.name if arm else ''}".strip(),
        }
        return self.page(request, "noregret/confirm.html", context)

    def _arm(self, experiment: Experiment, name: str) -> Arm:
        found = experiment.arms.select_related("model").filter(name=name).first()
        if found is None:
            raise Http404
        return found

"""The page of an experiment: what it shows, what can be done there, and the confirmation before
anything is."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_safe
from unfold.decorators import display

from bandits import policies
from noregret.experiments.errors import ExperimentsError
from noregret.experiments.lifecycle import TRANSITIONS, Action, possible
from noregret.experiments.models import Arm, Experiment
from noregret.experiments.policies import looks_at_requests
from noregret.learning.evidence import keeps_units
from noregret.learning.kept import rows_from
from noregret.learning.shown import forecast, segments
from noregret.learning.shown.evaluation import EVALUATED_DECISIONS, NotEvaluated, of_experiment
from noregret.learning.shown.standing import memory_of
from noregret.rest.encoding import document, encoded
from noregret.rollout.transitions import activate, advance, move
from noregret.rollout.warnings import warnings_of
from noregret.trail.models import AuditEntry

from .figures import (
    chart_rows,
    evaluation_texts,
    figures,
    labelled,
    segment_rows,
    shadow_rows,
    tells_evidence,
    troubles_of_learner,
)
from .forms import ExperimentForm, PromoteForm, ReasonForm
from .pages import ServiceAddAdmin, actor_of, may_see
from .words import in_words, sentence

CONSEQUENCES: dict[Action, str] = {
    "start": "Requests to {endpoint} will be routed among the arms of {name} from now on.",
    "pause": "All traffic of {endpoint} will go to its champion, {champion}, until the experiment is resumed. Rewards still count.",
    "resume": "Requests to {endpoint} will be routed among the arms again.",
    "stop": "{name} ends. All traffic of {endpoint} goes to its champion, {champion}. This can't be undone.",
    "rollback": "{name} ends as rolled back. All traffic of {endpoint} goes to its champion, {champion}. This can't be undone.",
    "promote": "The chosen arm's model becomes the champion of {endpoint} and gets all of its traffic; {name} ends. "
    "The endpoint can be rolled back to {champion}.",
}
# Steps within a running experiment: no transitions of its lifecycle.
STEPS: dict[str, Callable[..., Experiment]] = {"advance": advance, "activate": activate}
STEP_TEXTS = {
    "advance": (
        "Advance",
        "The canary {name} goes to its next step now, whether or not this one has baked.",
        "advanced",
    ),
    "activate": (
        "Activate",
        "From now on {name} serves what its policy chooses: it is no apprentice any more.",
        "activated",
    ),
}
LABELS: dict[Action, str] = {
    "start": "Start",
    "pause": "Pause",
    "resume": "Resume",
    "stop": "Stop",
    "promote": "Promote an arm",
    "rollback": "Roll back",
}
COLUMNS = (
    ("decisions", "Decisions"),
    ("share", "Share"),
    ("now", "Share now"),
    ("rewards", "Rewards"),
    ("mean", "Mean reward"),
    ("interval", "95 % interval"),
    ("watched", "95 % at any time"),
    ("best", "P(best)"),
    ("loss", "Expected loss"),
    ("errors", "Errors"),
    ("p50", "p50 in ms"),
    ("p99", "p99 in ms"),
)
_OF_ONE_ARM = ("share", "now", "best", "loss")
_COMPARING = ("best", "loss")


def columns_of(experiment: Experiment) -> list[tuple[str, str]]:
    """The columns that say something of this strategy's arms."""
    left_out: tuple[str, ...] = ()
    if experiment.strategy == Experiment.Strategy.SHADOW or experiment.apprentice:
        left_out = _OF_ONE_ARM  # the champion alone serves
    elif looks_at_requests(experiment):
        left_out = ("now", *_COMPARING)  # they depend on the request
    elif experiment.strategy == Experiment.Strategy.CANARY:
        left_out = ("loss",)
    return [(key, label) for key, label in COLUMNS if key not in left_out]


def charts_of(experiment: Experiment) -> list[str]:
    """The charts that say something of this strategy: of what serves nobody nothing is learned, and
    it has no share."""
    if experiment.strategy == Experiment.Strategy.SHADOW or experiment.apprentice:
        return ["mean"]
    return ["share", "mean"] if looks_at_requests(experiment) else ["share", "mean", "density"]


def gone_help(experiment: Experiment) -> str:
    """From when on there are rows, where days were dropped."""
    begins = rows_from(experiment)
    if begins is None:
        return ""
    return f" Decisions before {begins:%Y-%m-%d} were dropped from the ledger: the figures count them, what is read from rows begins there."


def arms_help(experiment: Experiment) -> str:
    """What to know of the table of arms."""
    if experiment.strategy == Experiment.Strategy.SHADOW or experiment.apprentice:
        return "The control alone serves: of the others there are predictions on copies, and no decision."
    said = (
        "Mean and intervals are of the requests that the arm served, and under drift over the times when it was served; "
        "those “at any time” stay right however often one looks at them."
    )
    if keeps_units(experiment):
        said += " They count units, not decisions: what one unit does hangs together."
    if looks_at_requests(experiment):
        return f"{said} Arms serve different requests here, so their means can't be compared: the segments below can."
    if experiment.strategy == Experiment.Strategy.CANARY:
        return f"{said} P(best) is shown and never acted on."
    memory = memory_of(experiment)
    by = (
        "P(best) and expected loss are by what the policy remembers, the means are of all that was seen. They"
        if memory is not None and memory.forgets
        else "P(best) and expected loss"
    )
    return f"{said} {by} are shown and never acted on: only the evidence promotes."


def _steps(experiment: Experiment, allowed: list[Action]) -> list[tuple[str, str]]:
    """The steps that the experiment allows now, as (action, label)."""
    steps = []
    running = experiment.status == Experiment.Status.RUNNING and "pause" in allowed
    if running and experiment.canary_ is not None and (experiment.canary_step or 0) + 1 < len(experiment.canary_.steps):
        steps.append("advance")
    if experiment.apprentice and allowed:
        steps.append("activate")
    return [(step, STEP_TEXTS[step][0]) for step in steps]


class ExperimentPages(ServiceAddAdmin[Experiment]):
    """List, page, figures and confirmed actions."""

    service_form = ExperimentForm
    add_help = "The experiment is created as a draft: nothing changes for clients until it is started."
    add_button = "Create draft"
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
        columns = columns_of(experiment)
        mirrored = experiment.strategy == Experiment.Strategy.SHADOW or experiment.apprentice
        served = [arm for arm in arms if arm.is_control or not mirrored]
        parts = segments.of_experiment(experiment)
        allowed = possible(experiment.status) if self.may(request, "change") else []
        return self.page(
            request,
            "noregret/experiment.html",
            {
                "title": experiment.name,
                "content_title": experiment.name,
                "experiment": experiment,
                "words": in_words(experiment, arms),
                "figures": shown,
                "figures_document": document(shown),
                "facts": labelled(shown.facts),
                "rows": [(arm, [(key, shown.cells[arm.name][key]) for key, _ in columns]) for arm in served],
                "columns": columns,
                "arms_help": arms_help(experiment) + gone_help(experiment),
                "over_time": chart_rows(shown),
                "arms": arms,
                "actions": [*_steps(experiment, allowed), *((action, LABELS[action]) for action in allowed)],
                "shadows": shadow_rows(shown.results),
                "sees_audit": may_see(request, "trail", "auditentry"),
                "audit": AuditEntry.objects.filter(experiment=experiment.name)[:10],  # asked for only where it is seen
                "live": experiment.status == Experiment.Status.RUNNING,
                "evaluation": self._evaluation(request, experiment),
                "charts": charts_of(experiment),
                "evaluable": not mirrored and experiment.status != Experiment.Status.DRAFT,
                "warnings": [
                    sentence(warning) for warning in (*warnings_of(experiment), *troubles_of_learner(shown.results))
                ],
                "segments": parts,
                "segment_rows": [] if parts is None else segment_rows(parts),
                "forecast": self._forecast(request, experiment),
            },
        )

    def _forecast(self, request: HttpRequest, experiment: Experiment) -> dict[str, Any] | None:
        """The question when it might promote, and the answer where it was asked; None where its end
        is no matter of evidence."""
        begun = experiment.status in (Experiment.Status.RUNNING, Experiment.Status.PAUSED)
        if not begun or not tells_evidence(experiment):
            return None
        asked = request.GET.get("forecast") == "1"
        return {"said": forecast.of_experiment(experiment).said if asked else ""}

    def _evaluation(self, request: HttpRequest, experiment: Experiment) -> dict[str, Any]:
        """The question what another policy would have earned, and the answer where one was asked
        for."""
        schema = bool(experiment.context_.fields)
        choices = [name for name in policies.names() if schema or name not in policies.contextual_names()]
        asked = request.GET.get("evaluate", "")
        shown: dict[str, Any] = {"choices": choices, "asked": asked, "rows": [], "said": ""}
        if asked not in choices:
            return shown
        try:
            found = of_experiment(experiment, asked, {}, limit=EVALUATED_DECISIONS)
        except NotEvaluated as error:
            return {**shown, "said": sentence(str(error))}
        return {**shown, **evaluation_texts(found)}

    def figures_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The page's figures as JSON, for its refresh."""
        shown = figures(self._experiment(request, pk))
        return HttpResponse(encoded(shown), content_type="application/json")

    def action_view(self, request: HttpRequest, pk: int, action: str) -> HttpResponse:
        """GET asks for confirmation; POST does it."""
        experiment = self._experiment(request, pk)
        if action in STEPS and self.may(request, "change"):
            return self._step_view(request, experiment, action)
        if action not in TRANSITIONS:
            raise PermissionDenied if action in STEPS else Http404
        if not self.may(request, "change"):
            raise PermissionDenied
        name: Action = action
        form = self._form(request, experiment, name)
        if request.method == "POST" and form.is_valid():
            self._do(request, experiment, name, form)
            return self.to_row(experiment)
        endpoint = experiment.endpoint
        said = CONSEQUENCES[name].format(name=experiment.name, endpoint=endpoint.name, champion=endpoint.champion.model)
        context = {
            "title": f"{LABELS[name]}: {experiment.name}",
            "question": said,
            "form": form,
            "button": "Promote" if name == "promote" else LABELS[name],
            "back": self.row_url(experiment),
        }
        return self.page(request, "noregret/confirm.html", context, status=400 if form.errors else 200)

    def _step_view(self, request: HttpRequest, experiment: Experiment, step: str) -> HttpResponse:
        form = ReasonForm(request.POST if request.method == "POST" else None)
        label, question, past = STEP_TEXTS[step]
        if request.method == "POST" and form.is_valid():
            try:
                STEPS[step](experiment, actor=actor_of(request), reason=form.cleaned_data["reason"])
            except ExperimentsError as error:
                messages.error(request, f"Not done: {error}.")
            else:
                messages.success(request, f"{experiment.name} was {past}.")
            return self.to_row(experiment)
        context = {
            "title": f"{label}: {experiment.name}",
            "question": question.format(name=experiment.name),
            "form": form,
            "button": label,
            "back": self.row_url(experiment),
        }
        return self.page(request, "noregret/confirm.html", context, status=400 if form.errors else 200)

    def _form(self, request: HttpRequest, experiment: Experiment, action: Action) -> ReasonForm:
        data = request.POST if request.method == "POST" else None
        if action != "promote":
            return ReasonForm(data)
        arms = experiment.arms.filter(enabled=True).select_related("model").order_by("position")
        form = PromoteForm(data, initial={"arm": request.GET.get("arm", "")})
        field = form.fields["arm"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", "Choose an arm"), *((arm.name, f"{arm.name} ({arm.model.model})") for arm in arms)]
        return form

    def _do(self, request: HttpRequest, experiment: Experiment, action: Action, form: ReasonForm) -> None:
        arm: Arm | None = None
        if action == "promote":
            arm = experiment.arms.select_related("model").get(name=form.cleaned_data["arm"])
        try:
            move(experiment, action, actor=actor_of(request), reason=form.cleaned_data["reason"], arm=arm)
        except ExperimentsError as error:
            messages.error(request, f"Not done: {error}.")
            return
        past = TRANSITIONS[action].past.replace("_", " ")
        messages.success(
            request,
            f"{experiment.name} was {past}."
            if arm is None
            else f"{arm.name} was promoted: {arm.model.model} is champion.",
        )

"""What can be done with an experiment: each action is asked for with its consequence, wants a
reason, and a second look where it goes against what is known."""

from collections.abc import Callable
from typing import Any

import msgspec
from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from noregret.experiments import document as documents
from noregret.experiments.errors import ExperimentsError, Invalid
from noregret.experiments.lifecycle import TRANSITIONS
from noregret.experiments.models import Arm, Experiment
from noregret.learning.shown.shared import shared_results
from noregret.rollout.arms import add_arm, set_enabled
from noregret.rollout.floors import change_floor
from noregret.rollout.setups import Setup
from noregret.rollout.transitions import activate, advance, move
from noregret.rollout.warnings import floors_take_much

from .decision import LABELS, against, consequence
from .document_inputs import JSONText, Number
from .expectations import refused_field
from .forms import ReasonForm
from .pages import ReadOnlyAdmin, actor_of
from .review import USUAL_LIFT, cautions_before_start
from .verdicts import Setting, setting_of
from .words import sentence

OF_ONE_ARM = ("promote", "disable", "enable")


class ActionForm(ReasonForm):
    """Which arm, where one is asked for; why; and the second look."""

    field_order = ("arm", "reason", "seen")
    seen = forms.BooleanField(required=False, label="I have seen this, and want it all the same")

    def __init__(self, data: Any, *, arms: list[Arm] | None, arm: str = "") -> None:
        super().__init__(data)
        self.fields["reason"].required = True
        self.fields["reason"].error_messages["required"] = "Say why: whoever reads the trail later was not there."
        if arms is not None:
            choices = [("", "Choose an arm"), *((one.name, f"{one.name} ({one.model.model})") for one in arms)]
            field = forms.ChoiceField(label="Arm", widget=UnfoldAdminSelectWidget(), choices=choices, initial=arm)
            self.fields["arm"] = field
            self.order_fields(self.field_order)


class AddForm(ReasonForm):
    """An arm more, and why."""

    field_order = ("name", "model", "payload", "reason")
    name = forms.CharField(widget=UnfoldAdminTextInputWidget(), max_length=63, help_text="As `v4`; for ever.")
    model = forms.CharField(widget=UnfoldAdminTextInputWidget(), max_length=255, help_text="As `digits@4`.")
    payload = JSONText(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="What a decision for it tells besides, as JSON; may be left empty.",
    )
    reason = forms.CharField(
        label="Reason, for the audit trail", max_length=2000, widget=UnfoldAdminTextareaWidget(attrs={"rows": 3})
    )


class FloorForm(ReasonForm):
    """The least share of every arm, and why."""

    field_order = ("floor", "reason")
    floor = Number(
        unit="share",
        required=False,
        min_value=0.0,
        max_value=1.0,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"}),
        help_text="The least share of every arm, as 0.02 or 2 %. Empty: 0.01, from eleven arms on a tenth of the "
        "traffic shared by all, also when arms are added.",
    )
    reason = forms.CharField(
        label="Reason, for the audit trail", max_length=2000, widget=UnfoldAdminTextareaWidget(attrs={"rows": 3})
    )


class ExperimentActions(ReadOnlyAdmin[Experiment]):
    """GET asks; POST does it."""

    def do_view(self, request: HttpRequest, experiment: Experiment, action: str) -> HttpResponse:
        """The confirmation of an action, and the action."""
        if not self.may(request, "change"):
            raise PermissionDenied
        if action not in LABELS:
            raise Http404
        if action in _CHANGES:
            return self._change(request, experiment, action)
        posted = request.method == "POST"
        arms = _choices(experiment, action)
        chosen = request.GET.get("arm", "")
        form = ActionForm(request.POST if posted else None, arms=arms, arm=chosen)
        setting = setting_of(experiment)
        valid = posted and form.is_valid()
        arm = form.cleaned_data.get("arm", "") if valid else chosen
        objections = _objections(experiment, action, arm, setting)
        if valid and not (objections and not form.cleaned_data["seen"]):
            self._do(request, experiment, action, arm, form.cleaned_data["reason"])
            return self.to_row(experiment)
        if valid:
            form.add_error("seen", "Look again at what speaks against it, and tick this to do it all the same.")
        if not objections:
            del form.fields["seen"]
        return self.page(
            request,
            "noregret/confirm.html",
            {
                "title": f"{LABELS[action]}: {experiment.name}",
                "question": _question(action, experiment, setting, arm),
                "objections": objections,
                "of_settings": action == "start",
                "form": form,
                "button": "Promote" if action == "promote" else LABELS[action],
                "back": self.row_url(experiment),
            },
            status=400 if set(form.errors) - {"seen"} else 200,  # a second look is a question, no error
        )

    def _change(self, request: HttpRequest, experiment: Experiment, action: str) -> HttpResponse:
        """An action that asks for more than an arm and a reason."""
        make_form, perform = _CHANGES[action]
        policy = experiment.policy_
        initial = {"floor": None if policy is None or policy.floor_scales else policy.floor}
        form = make_form(request.POST if request.method == "POST" else None, initial=initial)
        if request.method == "POST" and form.is_valid():
            try:
                messages.success(request, perform(experiment, form.cleaned_data, actor_of(request)))
            except msgspec.ValidationError as error:
                field, why = refused_field(documents.Arm, form.cleaned_data, error)
                form.add_error(field if field in form.fields else None, why)
            except Invalid as error:
                form.add_error(error.field if error.field in form.fields else None, error.message)
            except ExperimentsError as error:
                messages.error(request, f"Not done: {error}.")
                return self.to_row(experiment)
            else:
                return self.to_row(experiment)
        context = {
            "title": f"{LABELS[action]}: {experiment.name}",
            "question": consequence(action, experiment.name, setting_of(experiment)) + _as_it_is(experiment, action),
            "form": form,
            "button": LABELS[action],
            "back": self.row_url(experiment),
        }
        return self.page(request, "noregret/confirm.html", context, status=400 if form.errors else 200)

    def _do(self, request: HttpRequest, experiment: Experiment, action: str, arm: str, reason: str) -> None:
        try:
            message = _performed(experiment, action, arm, actor_of(request), reason)
        except ExperimentsError as error:
            messages.error(request, f"Not done: {error}.")
        else:
            messages.success(request, message)


def _objections(experiment: Experiment, action: str, arm: str, setting: Setting) -> list[str]:
    """What speaks against it, a sentence each: before a start its settings, then what is known."""
    if action == "start":
        arms = list(experiment.arms.select_related("model").order_by("position"))
        found = cautions_before_start(experiment, arms, USUAL_LIFT)
        return [sentence(caution.said) for caution in found if caution.grave]
    said = against(action, arm, shared_results(experiment.pk).results, setting)
    return [said] if said else []


def _as_it_is(experiment: Experiment, action: str) -> str:
    policy, arms = experiment.policy_, experiment.arms.count()
    if action != "floor" or policy is None:
        return ""
    follows = ", and follows the number of arms" if policy.floor_scales else ""
    return f" It is {policy.floor:.4g} now{follows}; {arms} arms have room for {1 / arms:.4g} each."


def _add(experiment: Experiment, given: dict[str, Any], actor: str) -> str:
    """Raises ExperimentsError, msgspec.ValidationError."""
    told = {name: given[name] for name in ("name", "model", "payload") if given[name] not in (None, "")}
    arm = add_arm(experiment, msgspec.convert(told, documents.Arm), actor=actor, reason=given["reason"])
    return f"{arm.name} was added."


def _change_floor(experiment: Experiment, given: dict[str, Any], actor: str) -> str:
    """Raises ExperimentsError."""
    changed = change_floor(experiment, given["floor"], actor=actor, reason=given["reason"])
    assert changed.policy_ is not None
    caution = floors_take_much(Setup(changed, list(changed.arms.filter(enabled=True))))
    return f"Every arm gets at least {100 * changed.policy_.floor:.4g}% from now on." + (
        f" {caution.said}" if caution else ""
    )


_CHANGES: dict[str, tuple[type[ReasonForm], Callable[[Experiment, dict[str, Any], str], str]]] = {
    "add": (AddForm, _add),
    "floor": (FloorForm, _change_floor),
}


def _question(action: str, experiment: Experiment, setting: Setting, arm: str) -> str:
    return consequence(action, experiment.name, setting, arm or "The chosen arm")


def _choices(experiment: Experiment, action: str) -> list[Arm] | None:
    """The arms that an action may be done to; None where it is done to none."""
    if action not in OF_ONE_ARM:
        return None
    arms = experiment.arms.select_related("model").order_by("position")
    return list(arms.filter(enabled=action != "enable"))


_STEPS: dict[str, tuple[Callable[..., Experiment], str]] = {
    "advance": (advance, "advanced"),
    "activate": (activate, "activated"),
}


def _performed(experiment: Experiment, action: str, name: str, actor: str, reason: str) -> str:
    """Do it; what was done, in a sentence. Raises ExperimentsError."""
    arm = experiment.arms.select_related("model", "experiment").get(name=name) if action in OF_ONE_ARM else None
    if action in _STEPS:
        step, past = _STEPS[action]
        step(experiment, actor=actor, reason=reason)
        return f"{experiment.name} was {past}."
    if arm is not None and action in ("disable", "enable"):
        set_enabled(arm, action == "enable", actor=actor, reason=reason)
        return f"{arm.name} was {'put back' if action == 'enable' else 'taken out'}."
    transition = next(name for name in TRANSITIONS if name == action)
    move(experiment, transition, actor=actor, reason=reason, arm=arm)
    if arm is not None:
        return f"{arm.name} was promoted: {arm.model.model} is champion."
    return f"{experiment.name} was {TRANSITIONS[transition].past.replace('_', ' ')}."

"""What can be done with an experiment: each action is asked for with its consequence, wants a
reason, and a second look where it goes against what is known."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from noregret.experiments import document as documents
from noregret.experiments.errors import Conflict, ExperimentsError, Invalid
from noregret.experiments.lifecycle import TRANSITIONS
from noregret.experiments.models import Arm, Endpoint, Experiment
from noregret.learning.shown.recommendation import ending_told
from noregret.learning.shown.shared import shared_results
from noregret.rollout.arms import add_arm, set_enabled
from noregret.rollout.floors import change_floor
from noregret.rollout.setups import Setup
from noregret.rollout.transitions import activate, advance, move
from noregret.rollout.warnings import floors_take_much
from noregret.trail.models import AuditEntry

from .decision import LABELS, against, consequence
from .document_inputs import JSONText, Number
from .expectations import refused_field
from .forms import ReasonField, ReasonForm
from .pages import ReadOnlyAdmin, actor_of
from .possible_actions import possible_actions, possible_arm_actions, state_of
from .review import USUAL_LIFT, cautions_before_start
from .verdicts import Setting, setting_of, told
from .words import sentence, warning_told

OF_ONE_ARM = ("promote", "disable", "enable")


class ActionForm(ReasonForm):
    """Which arm, where one is asked for; why; and the second look."""

    field_order = ("arm", "reason", "seen")
    seen = forms.BooleanField(required=False, label="I have seen this, and want it all the same")

    def __init__(self, data: Any, *, arms: list[Arm] | None, initial: dict[str, str]) -> None:
        super().__init__(data, initial=initial)
        self.fields["reason"].required = True
        self.fields["reason"].error_messages["required"] = "Say why: whoever reads the trail later was not there."
        if arms is not None:
            choices = [("", "Choose an arm"), *((one.name, f"{one.name} ({one.model.model})") for one in arms)]
            field = forms.ChoiceField(label="Arm", widget=UnfoldAdminSelectWidget(), choices=choices)
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
    reason = ReasonField()


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
    reason = ReasonField()


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
        every = list(experiment.arms.select_related("model").order_by("position"))
        chosen = request.GET.get("arm", "")
        now = state_of(experiment, every)
        stale = posted and request.POST.get("state", now) != now
        if not posted or stale:
            refusal = _refusal(experiment, every, action, chosen)
            if refusal:
                return self._refused(request, experiment, action, refusal, stale=stale)
        arms = [arm for arm in every if arm.enabled != (action == "enable")] if action in OF_ONE_ARM else None
        typed = {name: request.POST.get(name, "") for name in ("arm", "reason")} if stale else {"arm": chosen}
        form = ActionForm(request.POST if posted and not stale else None, arms=arms, initial=typed)
        setting = setting_of(experiment)
        valid = posted and not stale and form.is_valid()
        arm = form.cleaned_data.get("arm", "") if valid else typed["arm"]
        objections = _objections(experiment, every, action, arm, setting)
        if valid and not (objections and not form.cleaned_data["seen"]):
            self._do(request, experiment, action, arm, form.cleaned_data["reason"], now)
            return self.to_row(experiment)
        if valid:
            form.add_error("seen", "Look again at what speaks against it, and tick this to do it all the same.")
        if not objections:
            del form.fields["seen"]
        context = {
            "title": f"{LABELS[action]}: {experiment.name}",
            "question": _question(action, experiment, setting, arm),
            "objections": objections,
            "of_settings": action == "start",
            "button": "Promote" if action == "promote" else LABELS[action],
        }
        return self.confirmation(request, experiment, form, context, state=now, stale=stale)

    def _change(self, request: HttpRequest, experiment: Experiment, action: str) -> HttpResponse:
        """An action that asks for more than an arm and a reason."""
        now = state_of(experiment, list(experiment.arms.order_by("position")))
        stale = request.POST.get("state", now) != now
        refusal = "" if request.method == "POST" and not stale else _refusal(experiment, [], action, "")
        if refusal:
            return self._refused(request, experiment, action, refusal, stale=stale)
        make_form, perform = _CHANGES[action]
        policy = experiment.policy_
        initial = {"floor": None if policy is None or policy.floor_scales else policy.floor}
        if stale:
            typed = {name: request.POST.get(name, "") for name in make_form.base_fields if name != "floor"}
            form = make_form(initial=initial | typed)
        else:
            form = make_form(request.POST if request.method == "POST" else None, initial=initial)
        if not stale and request.method == "POST" and form.is_valid():
            try:
                with _unchanged(experiment, now):
                    said = perform(experiment, form.cleaned_data, actor_of(request))
                messages.success(request, said)
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
            "button": LABELS[action],
        }
        return self.confirmation(request, experiment, form, context, state=now, stale=stale)

    def _refused(
        self, request: HttpRequest, experiment: Experiment, action: str, refusal: str, *, stale: bool
    ) -> HttpResponse:
        """Why it can't be done now; `stale`: it was confirmed, on a page of before."""
        if not stale:
            messages.error(request, refusal)
            return self.to_row(experiment)
        why = _ended(experiment) if experiment.status == Experiment.Status.COMPLETED else refusal
        return self.too_late(request, experiment, f"{LABELS[action]}: {experiment.name}", why)

    def _do(self, request: HttpRequest, experiment: Experiment, action: str, arm: str, reason: str, state: str) -> None:
        try:
            with _unchanged(experiment, state):
                message = _performed(experiment, action, arm, actor_of(request), reason)
        except ExperimentsError as error:
            messages.error(request, f"Not done: {error}.")
        else:
            messages.success(request, message)


@contextmanager
def _unchanged(experiment: Experiment, state: str) -> Iterator[None]:
    """Within it nobody else moves the experiment. Raises Conflict where that is not in `state`."""
    with transaction.atomic():
        endpoint = Endpoint.objects.select_for_update().get(pk=experiment.endpoint_id)
        current = Experiment.objects.get(pk=experiment.pk)
        current.endpoint = endpoint
        if state_of(current, list(current.arms.order_by("position"))) != state:
            raise Conflict(f"{experiment.name} was changed a moment ago: look again")
        yield


def _objections(experiment: Experiment, arms: list[Arm], action: str, arm: str, setting: Setting) -> list[str]:
    """What speaks against it, a sentence each: before a start its settings, then what is known."""
    if action == "start":
        found = cautions_before_start(experiment, arms, USUAL_LIFT)
        return [warning_told(caution.said) for caution in found if caution.grave]
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
    said = consequence(action, experiment.name, setting, arm or "The chosen arm")
    canary = experiment.canary_
    if action != "advance" or canary is None or (experiment.canary_step or 0) + 1 >= len(canary.steps):
        return said
    here = experiment.canary_step or 0
    return (
        f"{said} It is at step {here + 1} of {len(canary.steps)}, {100 * canary.steps[here]:.4g}% of the units; "
        f"the next is {100 * canary.steps[here + 1]:.4g}%."
    )


def _refusal(experiment: Experiment, arms: list[Arm], action: str, chosen: str) -> str:
    """Why an action isn't asked for in this state, which an old page or a bookmark still leads to;
    empty where it is."""
    if action in ("disable", "enable"):
        can = [name for act, name in possible_arm_actions(experiment, arms) if act == action]
        is_possible = bool(can) and chosen in ("", *can)
        why = f"{chosen} is no arm for that now" if can else "there is no arm for that now"
    else:
        is_possible = action in possible_actions(experiment)
        ended = f": {experiment.get_outcome_display()}" if experiment.outcome else ""
        why = f"it is {experiment.get_status_display()}{ended}".lower()
        if experiment.status == Experiment.Status.RUNNING and action == "advance" and experiment.canary_ is not None:
            why = "it is at its last step"
        elif action == "activate" and not experiment.apprentice:
            why = "it is no apprentice"
    return "" if is_possible else f"{LABELS[action]}: {experiment.name} can't do that now, for {why}."


def _ended(experiment: Experiment) -> str:
    """When, how, by whom and why it ended."""
    entries = AuditEntry.objects.filter(experiment=experiment.name, action=f"experiment.{experiment.outcome}")
    arm = experiment.promoted_arm
    how = sentence(ending_told(experiment, entries.order_by("-pk").first()), [arm.name] if arm else ())
    at = "" if experiment.ended_at is None else f" {told.when(experiment.ended_at, timezone.now())}"
    return f"{experiment.name} ended{at}. {how}"


def _performed(experiment: Experiment, action: str, name: str, actor: str, reason: str) -> str:
    """Do it; what was done, in a sentence. Raises ExperimentsError."""
    arm = experiment.arms.select_related("model", "experiment").get(name=name) if action in OF_ONE_ARM else None
    if action == "advance":
        advance(experiment, actor=actor, reason=reason)
        return f"{experiment.name} was advanced."
    if action == "activate":
        activate(experiment, actor=actor, reason=reason)
        return f"{experiment.name} was activated."
    if arm is not None and action in ("disable", "enable"):
        set_enabled(arm, action == "enable", actor=actor, reason=reason)
        return f"{arm.name} was {'put back' if action == 'enable' else 'taken out'}."
    transition = next(name for name in TRANSITIONS if name == action)
    move(experiment, transition, actor=actor, reason=reason, arm=arm)
    if arm is not None:
        return f"{arm.name} was promoted: {arm.model.model} is champion."
    return f"{experiment.name} was {TRANSITIONS[transition].past.replace('_', ' ')}."

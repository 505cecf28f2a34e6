"""The guided form's pages: a step each, with an address each, so that a browser's back button leads
to the step before with what was typed there.

What is typed is kept with each step that is left (`sheets`), and checked where one goes on. Nothing
is made before the last step says so.
"""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.core.exceptions import NON_FIELD_ERRORS, PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from noregret.experiments import stored
from noregret.experiments.models import Endpoint, Experiment
from noregret.names import NAME_MAX_LENGTH
from noregret.planning.before_start import SPLIT, expected, policies_told
from noregret.rollout.creation import CONTROL
from noregret.rollout.drafts import document_of

from . import sheets
from .call_as_code import experiment_as_code
from .experiment_form import BY_NAME, STEPS, STRATEGIES, USUAL, ExperimentForm, step_of
from .left_steps import LIFT, Clash, held, leave, taken
from .pages import actor_of
from .review import USUAL_LIFT, cautions_before_start, review
from .sheets import Page, Sheet
from .typed_document import typed
from .unfinished import UnfinishedForms
from .words import reward_in_words

_ARM_NAME = re.compile(r"arms\[\d+\]\.name")
_ADD = "admin:experiments_experiment_add"
_GONE = "That form was sent or discarded, or it is older than a week"
LIFTS = {"0.02": "2 % better", "0.05": "5 % better", "0.1": "10 % better", "0.2": "20 % better", "0.5": "50 % better"}
_DONE = ("create", "start")


class LiftForm(forms.Form):
    """How much better a challenger is supposed to be."""

    def __init__(self, chosen: str) -> None:
        super().__init__()
        self.fields[LIFT] = forms.ChoiceField(
            label="If a challenger is",
            choices=list(LIFTS.items()),
            initial=chosen,
        )


class GuidedExperiments(UnfinishedForms):
    """Made, copied and changed: three ways into the same steps."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "add")

    def _experiment(self, request: HttpRequest, pk: int | str) -> Experiment:
        """The row, for whoever may see it. Raises Http404, PermissionDenied."""
        raise NotImplementedError

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """`?form=TOKEN&step=NAME`: a step of a form. Without a token a new one begins."""
        sheet = self._sheet(request)
        if sheet is not None:
            self._allow(request, sheet)
            return self._posted(request, sheet) if request.method == "POST" else self._step(request, sheet)
        if not self.has_add_permission(request):
            raise PermissionDenied
        token, user = request.GET.get("form", ""), request.user.pk or 0
        if request.method == "POST":
            return self._without_sheet(request) if token else self._posted(request, Sheet(user))
        if token and sheets.is_anothers(token, user):
            return self._anothers(request)
        if token:
            messages.info(request, f"{_GONE}: this is a new one.")
        endpoints = list(Endpoint.objects.values_list("name", flat=True)[:2])
        given = request.GET.get("endpoint") or (endpoints[0] if len(endpoints) == 1 else "")
        return self._begin(Sheet(user, {"endpoint": given} if given else {}))

    def _without_sheet(self, request: HttpRequest) -> HttpResponse:
        """What was typed on a page of a form that is gone begins a new one."""
        sheet = Sheet(request.user.pk or 0)
        step = request.POST.get("step", "")
        sheet.typed = taken(sheet, request.POST.dict(), step)
        if not sheet.typed or step not in BY_NAME:
            messages.info(request, f"{_GONE}.")
            return HttpResponseRedirect(self.list_url())
        sheet.saved, sheet.last_step = {step: ""}, step
        messages.warning(request, f"{_GONE}: this is a new one, with what you had typed in this step.")
        return _to(sheets.new_sheet(sheet), step)

    def _anothers(self, request: HttpRequest) -> HttpResponse:
        """Somebody was sent the address of a form."""
        context = {
            "title": "This form is another person\N{RIGHT SINGLE QUOTATION MARK}s",
            "told": "An unfinished form opens for the person who began it. Ask that person to create the draft: "
            "everybody who may change experiments can then change it, and copy it. Or begin a form of your own.",
            "links": [("Begin a form", reverse(_ADD)), ("All experiments", self.list_url())],
        }
        return self.page(request, "noregret/refused.html", context, status=403)

    def copy_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """A new form, with what another experiment is."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        copied = self._experiment(request, pk)
        filled = typed(document_of(copied)) | {"name": _free_name(copied.name)}
        filled |= _renamed(filled, copied.endpoint.champion.model)
        for moment in ("schedule.start_at", "schedule.end_at"):
            filled.pop(moment, None)  # its own times: they would start or end the copy
        return self._begin(Sheet(request.user.pk or 0, filled, saved=_all_steps()))

    def edit_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """A form with what a draft is, which changes it."""
        if not self.may(request, "change"):
            raise PermissionDenied
        draft = self._experiment(request, pk)
        if draft.status != Experiment.Status.DRAFT:
            messages.error(request, f"{draft.name} is {draft.status}: only a draft can be changed. Copy it.")
            return self.to_row(draft)
        return self._begin(
            Sheet(
                request.user.pk or 0,
                typed(document_of(draft)),
                draft=draft.pk,
                revision=draft.revision,
                saved=_all_steps(),
            )
        )

    def _begin(self, sheet: Sheet) -> HttpResponse:
        return _to(sheets.new_sheet(sheet), STEPS[0].name)

    def _sheet(self, request: HttpRequest) -> Sheet | None:
        return sheets.sheet_of(request.GET.get("form", ""), request.user.pk or 0)

    def _allow(self, request: HttpRequest, sheet: Sheet) -> None:
        """Raises PermissionDenied: a role may have been taken since."""
        if not self.may(request, "add" if sheet.draft is None else "change"):
            raise PermissionDenied

    def _form(self, sheet: Sheet) -> ExperimentForm:
        draft = None if sheet.draft is None else Experiment.objects.select_related("endpoint").get(pk=sheet.draft)
        return ExperimentForm(sheet.typed, draft, sheet.revision)

    def _posted(self, request: HttpRequest, sheet: Sheet) -> HttpResponse:
        """Keep what was typed; go where it was said, where nothing of the step left is wrong."""
        here = request.POST.get("step", "")
        to = request.POST.get("to", "create" if not here else "next")
        sent = request.POST.dict()
        if sheet.token:
            left = leave(sheet, sent, here, ends=to in _DONE)
            if left is None:
                return self._without_sheet(request)
            if isinstance(left, Clash):
                return self._page(request, left.taken, self._form(left.taken), here, status=409, clash=left)
            sheet = left
        else:
            sheet.typed = taken(sheet, sent, here)
            sheet.saved, sheet.last_step = ({here: ""}, here) if here in BY_NAME else (_all_steps(), "review")
        if to in _DONE:
            return self._done(request, sheet, to)
        if not sheet.token:
            sheet.token = sheets.new_sheet(sheet)
        if to != "next":
            return _to(sheet.token, to if to in BY_NAME else here)
        form = self._form(sheet)
        form.draft_rows()
        if here in form.wrong_steps():
            return self._page(request, sheet, form, here, status=400)
        names = [step.name for step in STEPS]
        return _to(sheet.token, names[min(names.index(here) + 1, len(names) - 1)] if here in names else names[0])

    def _done(self, request: HttpRequest, sheet: Sheet, to: str) -> HttpResponse:
        form = self._form(sheet)
        if self._wants_a_second_look(request, form, sheet):
            return self._page(request, sheet, self._form(sheet), "review", status=400, unseen=True)
        made = form.try_perform(actor_of(request)) if form.is_valid() else None
        if made is None:
            wrong = form.wrong_steps()
            at = wrong[0] if wrong else "review"
            return self._page(request, sheet, form, at, everything=True, status=400)
        if sheet.token:
            sheets.drop(sheet)
        messages.success(request, f"{made} was {'created' if sheet.draft is None else 'changed'}.")
        if to == "start" and self.may(request, "change"):
            return HttpResponseRedirect(reverse("admin:experiment-action", args=[made.pk, "start"]))
        return HttpResponseRedirect(self.row_url(made))

    def _wants_a_second_look(self, request: HttpRequest, form: ExperimentForm, sheet: Sheet) -> bool:
        """What starts by itself is asked about here; else it is asked about at the start."""
        if request.POST.get("step") != "review" or request.POST.get("seen"):
            return False
        draft = form.draft_rows()
        if draft is None or draft.experiment.schedule_.start_at is None:
            return False
        return any(caution.grave for caution in cautions_before_start(*draft, float(_lift(sheet))))

    def _typed_now(self, sheet: Sheet, clash: Clash | None) -> dict[str, str]:
        """What is kept: a page is drawn from that also where it shows something else."""
        kept = None if clash is None else sheets.sheet_of(sheet.token, sheet.user)
        return sheet.typed if kept is None else kept.typed

    def _step(self, request: HttpRequest, sheet: Sheet) -> HttpResponse:
        name = request.GET.get("step", "")
        name = name if name in BY_NAME else STEPS[0].name
        return self._page(request, sheet, self._form(sheet), name, tells="check" in request.GET)

    def _page(
        self,
        request: HttpRequest,
        sheet: Sheet,
        form: ExperimentForm,
        name: str,
        *,
        tells: bool = False,
        everything: bool = False,
        clash: Clash | None = None,
        unseen: bool = False,
        status: int = 200,
    ) -> HttpResponse:
        """A step. With a status of 400, or where it `tells`, with what is wrong in it, or with
        `everything` that is wrong. `clash`: it was saved elsewhere, and stands here as it was
        typed here."""
        if not sheet.token:
            sheet.token = sheets.new_sheet(sheet)
        context: dict[str, Any] = {}
        told = status == 400 or tells or name == "review"
        if name == "review":
            context = self._review(request, form, sheet)
        elif name == "careful":
            other = self._form(sheet)  # its errors are of the whole form
            context = self._expectation(other, sheet)
            form.notes = context.pop("notes")
        elif name == "reward":
            context["endpoints_reward"] = _endpoints_reward(form)
        elif name == "more":
            endpoint = _endpoint(form)
            context["endpoint_sticky"] = endpoint is not None and endpoint.sticky
        elif name == "arms":
            context["champion"] = _champion(form)
        if tells and name != "review":
            form.draft_rows()
        wrong = form.wrong_steps() if told else []
        errors = _errors(form, sheet.token, name, everything or name == "review") if told else []
        overall = [str(error) for error in form.errors.get(NON_FIELD_ERRORS, [])] if told else []
        if form.draft is not None and sheet.revision not in (None, form.draft.revision):
            overall.append(
                f"{form.draft} was changed since this form was opened, and is not changed by it any more. Cancel leads to "
                "what it is now, and Change there begins with that."
            )
        if not told:
            form.be_quiet()
        names = [step.name for step in STEPS]
        at = names.index(name)
        frame = {
            "title": _heading(form),
            "content_title": _heading(form),
            "form": form,
            "step": BY_NAME[name],
            "steps": [(i + 1, step, _state(step.name, sheet, name, wrong)) for i, step in enumerate(STEPS)],
            "page": Page.drawn(held(self._typed_now(sheet, clash), name)),
            "clash": clash,
            "unseen": unseen,
            "strategy": form.strategy,  # by itself: in a template form.strategy is the input
            "strategy_title": STRATEGIES.get(form.strategy, (form.strategy, ""))[0],
            "clashed": [] if clash is None else [(form.label_of(path), *both) for path, *both in clash.rows],
            "unfinished": [] if at or sheet.last_step else self.unfinished_of(request, sheet.token),
            "number": at + 1,
            "before": STEPS[at - 1] if at else None,
            "after": STEPS[at + 1] if at + 1 < len(STEPS) else None,
            "action": f"?{urlencode({'form': sheet.token, 'step': name})}",
            "parts": form.shown_step(name),
            "told": errors,
            "overall": overall,
            "refused": everything,
            "back": self.list_url() if form.draft is None else self.row_url(form.draft),
            "may_start": self.may(request, "change"),
        }
        return self.page(request, "noregret/guided.html", frame | context, status=status)

    def _review(self, request: HttpRequest, form: ExperimentForm, sheet: Sheet) -> dict[str, Any]:
        draft = form.draft_rows()
        if draft is None:
            return {"review": None, "codes": []}
        address = request.build_absolute_uri("/").rstrip("/")
        return {
            "review": review(form, draft, float(_lift(sheet))),
            "codes": experiment_as_code(address, form.body, change=form.draft is not None),
        }

    def _expectation(self, form: ExperimentForm, sheet: Sheet) -> dict[str, Any]:
        """How long it would take, as far as that can be told."""
        lift = _lift(sheet)
        draft = form.draft_rows()
        if draft is None:
            own = [
                f"{form.label_of(path)}: {message}"
                for _, path, message in form.shown_errors()
                if step_of(path, form.strategy) == "careful"
            ]
            before = "How long it would take is told here once the steps before are filled in."
            said = f"How long it would take is told here once this can be used: {'; '.join(own)}" if own else before
            return {"notes": {}, "assumed": said, "lift": None, "days": ""}
        row = draft.experiment
        told = expected(row, draft.arms, float(lift), policies_told(row, list(USUAL)))
        return {
            "notes": {name: f"Decides in {said}." if said[0].islower() else said for name, said in told.days.items()},
            "assumed": told.assumed + (" The days stand with each choice below." if len(told.days) > 1 else ""),
            "days": told.days.get(SPLIT, ""),
            "lift": LiftForm(lift)[LIFT] if told.days else None,
        }


def _all_steps() -> dict[str, str]:
    """Of a form that begins with something in each: none is waited for."""
    return {step.name: "" for step in STEPS}


def _to(token: str, step: str) -> HttpResponseRedirect:
    return HttpResponseRedirect(f"{reverse(_ADD)}?{urlencode({'form': token, 'step': step})}")


def _state(step: str, sheet: Sheet, here: str, wrong: Sequence[str]) -> str:
    """What the list of steps says of one."""
    if step not in wrong:
        return ""
    return "wrong" if step == here or step in sheet.saved else "open"


def _errors(form: ExperimentForm, token: str, here: str, everything: bool) -> list[tuple[str, str, str]]:
    """(address, what it is called, message) of what is wrong in this step, or in all."""
    found = []
    for anchor, path, message in form.shown_errors():
        step = step_of(path, form.strategy)
        if step == here:
            found.append((f"#{anchor}", form.label_of(path), message))
        elif everything:
            found.append(
                (f"?{urlencode({'form': token, 'step': step, 'check': 1})}#{anchor}", form.label_of(path), message)
            )
    return found


def _lift(sheet: Sheet) -> str:
    lift = sheet.typed.get(LIFT, "")
    return lift if lift in LIFTS else f"{USUAL_LIFT:g}"


def _heading(form: ExperimentForm) -> str:
    return "New experiment" if form.draft is None else f"Change {form.draft.name}"


def _renamed(filled: dict[str, str], champion: str) -> dict[str, str]:
    """An arm that was called the control and is not the champion's model any more: by that name it
    would be taken for it."""
    names = {value for name, value in filled.items() if _ARM_NAME.fullmatch(name)}
    free = next(name for name in ("former", *(f"former-{i}" for i in range(2, 200))) if name not in names)
    return {
        name: free
        for name, value in filled.items()
        if _ARM_NAME.fullmatch(name) and value == CONTROL and filled.get(name.replace(".name", ".model")) != champion
    }


def _free_name(name: str) -> str:
    """The first of name-2, name-3 and so on that nothing has."""
    stem, _, number = name.rpartition("-")
    if not (stem and number.isdecimal() and len(number) < 4):
        stem, number = name, "1"
    taken = set(Experiment.objects.filter(name__startswith=stem[:50]).values_list("name", flat=True))
    count = int(number) + 1
    while True:
        ending = f"-{count}"
        free = stem[: NAME_MAX_LENGTH - len(ending)] + ending
        if free not in taken:
            return free
        count += 1


def _endpoint(form: ExperimentForm) -> Endpoint | None:
    return Endpoint.objects.select_related("champion").filter(name=form.data.get("endpoint") or "").first()


def _champion(form: ExperimentForm) -> str:
    endpoint = _endpoint(form)
    return "" if endpoint is None else endpoint.champion.model


def _endpoints_reward(form: ExperimentForm) -> dict[str, str]:
    """The name of the endpoint and its reward in words, where it has one."""
    endpoint = _endpoint(form)
    if endpoint is None:
        return {}
    said = "" if endpoint.reward is None else reward_in_words(stored.reward(endpoint.reward))
    return {"endpoint": endpoint.name, "said": said}

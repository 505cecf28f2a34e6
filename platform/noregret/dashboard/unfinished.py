"""A person's own unfinished forms: listed where experiments are, and discarded."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from msgspec import Struct

from noregret.experiments.models import Experiment

from . import sheets
from .experiment_form import BY_NAME, STRATEGIES
from .pages import ReadOnlyAdmin
from .sheets import Sheet


class Unfinished(Struct, frozen=True):
    """A form as the list tells it. `what`: its name and kind; `step`: the last that was left."""

    what: str
    strategy: str
    endpoint: str
    step: str
    changed_at: datetime | None
    go_on: str
    discard: str


class UnfinishedForms(ReadOnlyAdmin[Experiment]):
    """Before the list of experiments, and before a new form is begun."""

    list_before_template = "noregret/unfinished.html"

    def get_urls(self) -> list[URLPattern]:
        view: Callable[..., HttpResponse] = self.admin_site.admin_view(self.discard_view)
        return [path("discard", view, name="experiment-discard"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        extra = {"unfinished": self.unfinished_of(request)} | (extra_context or {})
        found: HttpResponse = super().changelist_view(request, extra)
        return found

    def unfinished_of(self, request: HttpRequest, but: str = "") -> list[Unfinished]:
        """Those that the person may go on with; not the form `but`."""
        may = {True: self.may(request, "add"), False: self.may(request, "change")}
        if not any(may.values()):
            return []
        found = [
            sheet
            for sheet in sheets.unfinished(request.user.pk or 0)
            if sheet.token != but and may[sheet.draft is None]
        ]
        return [_told(sheet) for sheet in found]

    def discard_view(self, request: HttpRequest) -> HttpResponse:
        """`?form=TOKEN`. GET asks; POST does it."""
        sheet = sheets.sheet_of(request.GET.get("form", ""), request.user.pk or 0)
        if sheet is None:
            raise Http404
        told = _told(sheet)
        if request.method == "POST":
            sheets.drop(sheet)
            messages.success(request, f"The unfinished form of {told.what} was discarded.")
            return HttpResponseRedirect(self.list_url())
        context = {
            "title": f"Discard the unfinished form of {told.what}",
            "question": "What was typed into it is gone then, and can't be had back. No experiment is changed by that.",
            "form": forms.Form(),
            "button": "Discard",
            "back": told.go_on,
        }
        return self.page(request, "noregret/confirm.html", context)


def _told(sheet: Sheet) -> Unfinished:
    typed = sheet.typed
    name = typed.get("name") or "an experiment without a name"
    at = sheet.last_step if sheet.last_step in BY_NAME else "strategy"
    return Unfinished(
        what=name if sheet.draft is None else f"{name}, a change of the draft",
        strategy=STRATEGIES.get(typed.get("strategy", ""), ("no strategy yet", ""))[0],
        endpoint=typed.get("endpoint") or "no endpoint yet",
        step=BY_NAME[at].title,
        changed_at=sheet.changed_at,
        go_on=f"{reverse('admin:experiments_experiment_add')}?{urlencode({'form': sheet.token, 'step': at})}",
        discard=f"{reverse('admin:experiment-discard')}?{urlencode({'form': sheet.token})}",
    )

"""What can be done to a row from its page: each asks for confirmation and a reason, and calls one
service."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path

from noregret.experiments.errors import Conflict, ExperimentsError, FileLost, Invalid

from .forms import ReasonForm
from .pages import ReadOnlyAdmin, actor_of


def _always(row: Any) -> bool:
    return True


def _nothing(row: Any) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class RowAction:
    """One action. `question` says beforehand what will happen, `perform` does it and says what
    happened. `state` tells what of the row the question and the form follow from: who confirms an
    action means it of the state that was shown."""

    name: str
    label: str
    question: Callable[[Any], str]
    perform: Callable[[Any, dict[str, Any], str], str]  # row, the form's data, actor; may raise ExperimentsError
    form: type[ReasonForm] = ReasonForm
    offered: Callable[[Any], bool] = _always
    state: Callable[[Any], str] = _nothing


class ActionsAdmin(ReadOnlyAdmin[Any]):
    """A read-only admin whose rows have actions. GET asks; only POST does."""

    row_actions: tuple[RowAction, ...] = ()
    change_form_template = "noregret/row.html"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.action_view)
        name = f"{self.model._meta.model_name}-action"
        return [path("<int:pk>/do/<str:action>", view, name=name), *super().get_urls()]

    def action_view(self, request: HttpRequest, pk: int, action: str) -> HttpResponse:
        row = self.get_queryset(request).filter(pk=pk).first()
        found = next((each for each in self.row_actions if each.name == action), None)
        if row is None or found is None:
            raise Http404
        if not self.may(request, "change"):
            raise PermissionDenied
        posted = request.method == "POST"
        state, initial = found.state(row), found.form.initial_of(row)
        stale = posted and request.POST.get("state", state) != state
        if stale and not found.offered(row):
            return self.too_late(
                request, row, f"{found.label}: {row}", f"{row} has changed, and does not allow it now."
            )
        if stale:  # what it was filled in with may be what has changed: of what was typed the reason stands again
            form = found.form(initial=initial | {"reason": request.POST.get("reason", "")})
        else:
            form = found.form(request.POST if posted else None, initial=initial)
        objections: list[str] = []
        if not stale and posted and form.is_valid():
            try:
                messages.success(request, self._performed(request, found, row, form.cleaned_data))
                return self.to_row(row)
            except Invalid as error:
                form.add_error(error.field if error.field in form.fields else None, error.message)
            except ExperimentsError as error:
                if not isinstance(error, FileLost) or "seen" not in form.fields:
                    messages.error(request, f"Not done: {error}.")
                    return self.to_row(row)
                objections = [f"{error}.", "Web processes that still have a copy would serve it, others answer 503."]
                form.add_error("seen", "Look again at what speaks against it, and tick this to do it all the same.")
        if not objections:
            form.fields.pop("seen", None)
        context = {
            "title": f"{found.label}: {row}",
            "question": found.question(row),
            "button": found.label,
            "objections": objections,
        }
        return self.confirmation(request, row, form, context, state=state, stale=stale)

    def _performed(self, request: HttpRequest, action: RowAction, row: Any, data: dict[str, Any]) -> str:
        """What was done. Raises ExperimentsError."""
        if action.state is _nothing:
            return action.perform(row, data, actor_of(request))
        with transaction.atomic():  # nobody changes it between the look and the act
            locked = type(row)._default_manager.select_for_update().get(pk=row.pk)
            if action.state(locked) != action.state(row):
                raise Conflict(f"{row} was changed a moment ago: look again")
            return action.perform(locked, data, actor_of(request))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        may = row is not None and self.may(request, "change")
        offered = [action for action in self.row_actions if may and action.offered(row)]
        extra = {"row_actions": offered, "row": row}
        found: HttpResponse = super().change_view(request, object_id, form_url, extra | (extra_context or {}))
        return found

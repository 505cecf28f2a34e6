"""Admin pages that read, and change things only through services: what every model admin of
Noregret is built on."""

import json
from typing import Any, Generic, TypeVar, cast
from uuid import uuid4

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import flatten
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html

from noregret.access.keys import KeyInvalid
from noregret.experiments.errors import ExperimentsError, Invalid
from noregret.registry.errors import DefinitionInvalid, RegistryError

from .narrowed import NarrowedLists

M = TypeVar("M", bound=Model)


def actor_of(request: HttpRequest) -> str:
    """The name of a logged-in person in the audit trail."""
    return str(request.user.get_username())


def may_see(request: HttpRequest, label: str, model: str) -> bool:
    """Django's rule for a model's pages: who may change rows may see them."""
    return any(request.user.has_perm(f"{label}.{action}_{model}") for action in ("view", "change"))


def shown_json(value: Any) -> str:
    """As indented text: the theme's own way writes colours into the page, which the policy of
    contents refuses."""
    return (
        "-"
        if value is None
        else format_html('<pre class="nr-json">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False))
    )


_CHANGED = "Nothing was done: it has changed since this page was opened. Here it is as it stands now: look again."


class ReadOnlyAdmin(NarrowedLists, Generic[M]):
    """Shows, and never saves: rows change through services, which audit and publish."""

    def has_delete_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """By what is shown alone: a list that is narrowed by a hidden field tells that field, a
        letter at a time."""
        filters = [part for part in self.get_list_filter(request) if isinstance(part, str)]
        shown = {"id", "pk", *self.get_list_display(request), *filters, *flatten(self.get_fields(request))}
        return lookup.partition("__")[0] in shown and bool(super().lookup_allowed(lookup, value, request))

    def may(self, request: HttpRequest, action: str) -> bool:
        """Has the person Django's permission `add` or `change` on these rows?"""
        meta = self.model._meta
        return bool(request.user.has_perm(f"{meta.app_label}.{action}_{meta.model_name}"))

    def page(self, request: HttpRequest, template: str, context: dict[str, Any], status: int = 200) -> HttpResponse:
        """A page within the admin's frame."""
        frame = self.admin_site.each_context(request) | {"model_admin": self}
        return TemplateResponse(request, template, frame | context, status=status)

    def confirmation(
        self, request: HttpRequest, row: Model, form: forms.Form, context: dict[str, Any], *, state: str, stale: bool
    ) -> HttpResponse:
        """The page that asks once more. `state`: what its question follows from; `stale`: it was
        sent from a page that showed another."""
        shown = {"form": form, "state": state, "stale": _CHANGED if stale else "", "back": self.row_url(row)}
        # A second look is a question, no error.
        status = 409 if stale else 400 if set(form.errors) - {"seen"} else 200
        return self.page(request, "noregret/confirm.html", context | shown, status=status)

    def too_late(self, request: HttpRequest, row: Model, title: str, told: str) -> HttpResponse:
        """What a page is answered that was opened before the row came to allow its action no more:
        no form, for none could succeed."""
        links = [(f"To the {self.model._meta.verbose_name}", self.row_url(row))]
        context = {"title": title, "told": f"Nothing was done. {told}", "links": links}
        return self.page(request, "noregret/refused.html", context, status=409)

    def row_url(self, row: Model) -> str:
        meta = self.model._meta
        return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk])

    def to_row(self, row: Model) -> HttpResponseRedirect:
        return HttpResponseRedirect(self.row_url(row))

    def list_url(self) -> str:
        meta = self.model._meta
        return reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist")


class ServiceForm(forms.Form):
    """A form whose `perform` calls one service; the service's refusals become the form's errors."""

    body_template = "noregret/fields.html"

    def perform(self, actor: str) -> Model:
        raise NotImplementedError

    def try_perform(self, actor: str) -> Model | None:
        """What the service made; None when it refused, and then the form says why."""
        try:
            return self.perform(actor)
        except (Invalid, DefinitionInvalid, KeyInvalid) as error:
            self._refused(error.field, error.message)
        except (ExperimentsError, RegistryError) as error:
            self.add_error(None, str(error))
        return None

    def _refused(self, path: str, message: str) -> None:
        """Put an error where its field is."""
        field = path if path in self.fields else None
        self.add_error(field, message if field else f"{path}: {message}")


class ServiceAddAdmin(ReadOnlyAdmin[M]):
    """A read-only admin whose rows are made by a form that calls a service."""

    service_form: type[ServiceForm]
    add_help = ""
    add_button = "Create"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "add")

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        posted = request.method == "POST"
        form = self.service_form(request.POST, request.FILES) if posted else self.service_form()
        if posted and form.is_valid():
            made = form.try_perform(actor_of(request))
            if made is not None:
                return self.made(request, form, cast(M, made))
        context = {
            "title": f"Add {self.model._meta.verbose_name}",
            "form": form,
            "help": self.add_help,
            "button": self.add_button,
            "back": self.list_url(),
            "once": uuid4().hex,
        }
        return self.page(request, "noregret/form.html", context, status=400 if form.errors else 200)

    def made(self, request: HttpRequest, form: ServiceForm, row: M) -> HttpResponse:
        """What answers once the row is there."""
        messages.success(request, f"{row} was created.")
        return self.to_row(row)

"""Admin pages that read, and change things only through services: what every model admin of Noregret is built on."""

from typing import Any, Generic, TypeVar, cast

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.admin import ModelAdmin

from noregret.access.keys import KeyInvalid
from noregret.experiments.errors import ExperimentsError, Invalid
from noregret.registry.errors import DefinitionInvalid, RegistryError

M = TypeVar("M", bound=Model)


def actor_of(request: HttpRequest) -> str:
    """The name of a logged-in person in the audit trail."""
    return str(request.user.get_username())


class ReadOnlyAdmin(ModelAdmin, Generic[M]):  # type: ignore[misc]  # unfold ships no types
    """Shows, and never saves: rows change through services, which audit and publish."""

    def has_delete_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def may(self, request: HttpRequest, action: str) -> bool:
        """Has the person Django's permission `add` or `change` on these rows?"""
        meta = self.model._meta
        return bool(request.user.has_perm(f"{meta.app_label}.{action}_{meta.model_name}"))

    def page(self, request: HttpRequest, template: str, context: dict[str, Any], status: int = 200) -> HttpResponse:
        """A page within the admin's frame."""
        frame = self.admin_site.each_context(request)
        return TemplateResponse(request, template, frame | {"opts": self.model._meta} | context, status=status)

    def to_row(self, row: Model) -> HttpResponseRedirect:
        meta = self.model._meta
        return HttpResponseRedirect(reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk]))

    def to_list(self) -> HttpResponseRedirect:
        meta = self.model._meta
        return HttpResponseRedirect(reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist"))


class ServiceForm(forms.Form):
    """A form whose `perform` calls one service; the service's refusals become the form's errors."""

    def perform(self, actor: str) -> Model:
        raise NotImplementedError

    def try_perform(self, actor: str) -> Model | None:
        """What the service made; None when it refused, and then the form says why."""
        try:
            return self.perform(actor)
        except (Invalid, DefinitionInvalid, KeyInvalid) as error:
            top = error.field.partition(".")[0].partition("[")[0]
            self.add_error(
                error.field if error.field in self.fields else top if top in self.fields else None, error.message
            )
        except (ExperimentsError, RegistryError) as error:
            self.add_error(None, str(error))
        return None


class ServiceAddAdmin(ReadOnlyAdmin[M]):
    """A read-only admin whose rows are made by a form that calls a service."""

    service_form: type[ServiceForm]
    add_help = ""

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
                self.made(request, form, cast(M, made))
                return self.to_row(made)
        context = {"title": f"Add {self.model._meta.verbose_name}", "form": form, "help": self.add_help}
        return self.page(request, "noregret/form.html", context, status=400 if form.errors else 200)

    def made(self, request: HttpRequest, form: ServiceForm, row: M) -> None:
        messages.success(request, f"{row} was made.")

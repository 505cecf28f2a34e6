"""What the admin holds. Everything is registered here, in the order of the sidebar."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin, TabularInline
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from noregret.access.keys import revoke_key
from noregret.access.models import ApiKey, AuditEntry
from noregret.experiments.endpoints import rollback_endpoint
from noregret.experiments.errors import ExperimentsError
from noregret.experiments.models import ChampionChange, Endpoint, Experiment
from noregret.registry.models import ModelVersion
from serving.models import QuarantinedEvent

from .experiment_page import ExperimentPages
from .forms import EndpointForm, KeyForm, ModelForm, ReasonForm
from .pages import ReadOnlyAdmin, ServiceAddAdmin, ServiceForm, actor_of

admin.site.register(Experiment, ExperimentPages)

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]  # unfold ships no types; Django's is no generic
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc]  # as above
    pass


@admin.register(ModelVersion)
class ModelVersionAdmin(ServiceAddAdmin[ModelVersion]):
    service_form = ModelForm
    add_help = (
        "A version never changes once it is registered. Models are read by a confined process; pickles are refused."
    )
    list_display = ("model", "framework", "runtime", "size", "created_by", "created_at")
    list_filter = ("framework", "runtime")
    search_fields = ("name", "version", "sha256")
    fields = (
        ("name", "version"),
        ("framework", "runtime"),
        "signature",
        "compile_note",
        "callable",
        "payload",
        "sha256",
        "compiled_sha256",
        ("size", "created_by", "created_at"),
    )
    readonly_fields = ("created_at",)


class ConfirmedAction(ReadOnlyAdmin[Any]):
    """A read-only admin with one action that asks for confirmation first."""

    action_name = ""
    action_label = ""
    action_template = "noregret/row.html"

    def get_urls(self) -> list[URLPattern]:
        meta = self.model._meta
        view = self.admin_site.admin_view(self.action_view)
        name = f"{meta.model_name}-{self.action_name}"
        return [path(f"<int:pk>/do/{self.action_name}", view, name=name), *super().get_urls()]

    def question(self, row: Any) -> str:
        raise NotImplementedError

    def perform(self, row: Any, actor: str, reason: str) -> str:
        raise NotImplementedError

    def offers(self, row: Any) -> bool:
        return True

    def action_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        row = self.get_queryset(request).filter(pk=pk).first()
        if row is None:
            raise Http404
        if not self.may(request, "change"):
            raise PermissionDenied
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            try:
                messages.success(request, self.perform(row, actor_of(request), form.cleaned_data["reason"]))
            except ExperimentsError as error:
                messages.error(request, f"Not done: {error}.")
            return self.to_row(row)
        context = {
            "title": f"{self.action_label} {row}",
            "question": self.question(row),
            "form": form,
            "button": self.action_label,
        }
        return self.page(request, "noregret/confirm.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        offered = row is not None and self.may(request, "change") and self.offers(row)
        extra = {"action_name": self.action_name, "action_label": self.action_label, "offered": offered, "row": row}
        found: HttpResponse = super().change_view(request, object_id, form_url, extra | (extra_context or {}))
        return found

    change_form_template = "noregret/row.html"


class ChampionInline(TabularInline):  # type: ignore[misc]  # as above
    model = ChampionChange
    fk_name = "endpoint"
    fields = ("champion", "previous", "experiment", "actor", "reason", "at")
    readonly_fields = fields
    extra = 0
    can_delete = False
    verbose_name_plural = "champions, newest first"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Endpoint)
class EndpointAdmin(ConfirmedAction, ServiceAddAdmin[Endpoint]):
    service_form = EndpointForm
    action_name = "rollback"
    action_label = "Roll back"
    list_display = ("name", "champion", "deadline_ms", "policy_version", "created_at")
    search_fields = ("name",)
    list_select_related = ("champion",)
    fields = (("name", "champion"), ("deadline_ms", "policy_version"), "created_at")
    readonly_fields = ("policy_version", "created_at")
    inlines = (ChampionInline,)

    def question(self, row: Endpoint) -> str:
        return f"The champion before {row.champion.model} becomes champion of {row.name} again and gets all of its traffic."

    def perform(self, row: Endpoint, actor: str, reason: str) -> str:
        return f"The champion is {rollback_endpoint(row, reason=reason, actor=actor).champion.model} again."


@admin.register(ApiKey)
class ApiKeyAdmin(ConfirmedAction, ServiceAddAdmin[ApiKey]):
    service_form = KeyForm
    add_help = "The key is shown once, right after it was made. Only its SHA-256 is kept."
    action_name = "revoke"
    action_label = "Revoke"
    list_display = ("name", "prefix", "scopes", "endpoints", "expires_at", "revoked_at", "created_by", "created_at")
    search_fields = ("name", "prefix")
    fields = ("name", "prefix", "scopes", "endpoints", "created_by", "created_at", "expires_at", "revoked_at")
    readonly_fields = ("created_at",)

    def made(self, request: HttpRequest, form: ServiceForm, row: ApiKey) -> None:
        assert isinstance(form, KeyForm)
        messages.success(request, f"The key of {row.name}, shown this once: {form.text}")

    def offers(self, row: ApiKey) -> bool:
        return row.revoked_at is None

    def question(self, row: ApiKey) -> str:
        return f"Calls with the key {row.prefix}… of {row.name} will be refused from now on. This can't be undone."

    def perform(self, row: ApiKey, actor: str, reason: str) -> str:
        revoke_key(row, actor=actor, reason=reason)
        return f"The key of {row.name} was revoked."


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin[AuditEntry]):
    list_display = ("at", "actor", "action", "endpoint", "experiment", "model", "reason")
    list_filter = ("action",)
    search_fields = ("actor", "endpoint", "experiment", "model", "reason")
    fields = ("at", "actor", "action", "endpoint", "experiment", "model", "reason", "details")
    readonly_fields = ("at",)


@admin.register(QuarantinedEvent)
class QuarantinedEventAdmin(ReadOnlyAdmin[QuarantinedEvent]):
    list_display = ("at", "stream", "entry_id", "problem")
    search_fields = ("stream", "problem")
    fields = ("at", "stream", "entry_id", "problem")
    readonly_fields = ("at",)

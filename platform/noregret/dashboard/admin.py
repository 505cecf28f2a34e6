"""What the admin holds. Everything is registered here, in the order of the sidebar."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from noregret.access.models import ApiKey
from noregret.experiments.models import Endpoint, Experiment
from noregret.mlflow.models import AliasMove, ImportedVersion
from noregret.notify.models import Delivery, Webhook
from noregret.registry.models import ModelVersion
from noregret.trail.models import AuditEntry
from serving.models import QuarantinedEvent

from .endpoint_page import EndpointAdmin
from .experiment_page import ExperimentPages
from .key_page import ApiKeyAdmin
from .model_page import ModelVersionAdmin
from .narrowed import NarrowedLists
from .pages import ReadOnlyAdmin, may_see, shown_json
from .quarantine_page import QuarantinedEventAdmin
from .trail_page import AuditEntryAdmin

admin.site.register(Experiment, ExperimentPages)
admin.site.register(ModelVersion, ModelVersionAdmin)
admin.site.register(Endpoint, EndpointAdmin)
admin.site.register(ApiKey, ApiKeyAdmin)
admin.site.register(AuditEntry, AuditEntryAdmin)
admin.site.register(QuarantinedEvent, QuarantinedEventAdmin)

admin.site.unregister(User)
admin.site.unregister(Group)


def _is_within_reach(request: HttpRequest, user: User | None) -> bool:
    """Nobody changes those who may do more: a new password would be a way to become one."""
    return user is None or not user.is_superuser or request.user.is_superuser


@admin.register(User)
class UserAdmin(NarrowedLists, DjangoUserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]  # unfold ships no types; Django's is no generic
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    filter_horizontal = ()  # Django's script for it makes what assistive technology can't read

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        """An administrator gives roles; only who may do everything makes others so."""
        own = () if request.user.is_superuser else ("is_superuser", "user_permissions")
        return (*super().get_readonly_fields(request, obj), *own)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return bool(super().has_change_permission(request, obj)) and _is_within_reach(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return bool(super().has_delete_permission(request, obj)) and _is_within_reach(request, obj)


@admin.register(Group)
class GroupAdmin(NarrowedLists, DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc]  # as above
    filter_horizontal = ()  # as above


class AliasMoveInline(TabularInline):  # type: ignore[misc]  # as above
    model = AliasMove
    fields = ("alias", "endpoint", "state", "attempts", "due_at", "done_at", "problem")
    readonly_fields = fields
    extra = 0
    can_delete = False
    hide_title = True
    verbose_name_plural = "moves of its alias, newest first"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Part of the import's page: who may see that may see where its alias went."""
        return may_see(request, "mlflow", "importedversion")


@admin.register(ImportedVersion)
class ImportedVersionAdmin(ReadOnlyAdmin[ImportedVersion]):
    """Made by `manage.py import-mlflow` and over the API."""

    list_display = ("model", "mlflow_name", "mlflow_version", "alias", "created_by", "created_at")
    search_fields = ("name", "version", "mlflow_name", "run_id")
    fields = (
        ("name", "version"),
        ("mlflow_name", "mlflow_version"),
        "run_id",
        "shown_metrics",
        "sha256",
        "url",
        ("created_by", "created_at"),
    )
    readonly_fields = ("created_at", "shown_metrics")
    inlines = (AliasMoveInline,)

    @admin.display(description="metrics")
    def shown_metrics(self, row: ImportedVersion) -> str:
        return shown_json(row.metrics)

    @admin.display(description="alias")
    def alias(self, row: ImportedVersion) -> str:
        """What became of the last move of it."""
        move = row.moves.order_by("-pk").first()
        return "-" if move is None else f"{move.alias}: {move.get_state_display().lower()}"


@admin.register(Webhook)
class WebhookAdmin(ReadOnlyAdmin[Webhook]):
    """Made and removed over the API, which tells the secret once."""

    list_display = ("name", "url", "active", "created_by", "created_at")
    fields = ("name", "url", "events", "endpoints", "active", "created_by", "created_at")


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin[Delivery]):
    """What was told, what waits, and what was given up."""

    list_display = ("event", "webhook", "state", "attempts", "due_at", "problem")
    list_filter = ("state", "event")
    readonly_fields = ("shown_body",)

    @admin.display(description="body")
    def shown_body(self, row: Delivery) -> str:
        return shown_json(row.body)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """What was told is what the audit trail holds: for those who may read that."""
        told = ("shown_body",) if may_see(request, "trail", "auditentry") else ()
        return ("event", "webhook", "state", "attempts", "created_at", "due_at", "done_at", "problem", *told)

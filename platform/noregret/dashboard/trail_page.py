"""The audit trail: who did what, when and why."""

from noregret.trail.models import AuditEntry

from .pages import ReadOnlyAdmin


class AuditEntryAdmin(ReadOnlyAdmin[AuditEntry]):
    list_display = ("at", "actor", "action", "endpoint", "experiment", "model", "reason")
    list_filter = ("action",)
    search_fields = ("actor", "endpoint", "experiment", "model", "reason")
    fields = ("at", "actor", "action", "endpoint", "experiment", "model", "reason", "details")
    readonly_fields = ("at",)

"""The audit trail: who did what, when and why; narrowed, and as a table to take away."""

import csv
import json
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_safe

from noregret.trail.models import AuditEntry

from .pages import ReadOnlyAdmin, shown_json
from .seen_entries import entries_for

NEWEST = 2000
"""Entries whose values a filter offers: a look at all of them would grow with history."""
CSV_MOST = 20_000
_PIECE = 2000
_COLUMNS = ("at", "actor", "action", "endpoint", "experiment", "model", "reason", "details")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class _OfTheNewest(admin.SimpleListFilter):
    """Offers the values of a column that occur in the newest entries."""

    column: ClassVar[str]

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        newest = entries_for(request).values_list(self.column, flat=True)[:NEWEST]
        values = {value for value in newest if value} | {self.value() or ""} - {""}
        return [(value, value) for value in sorted(values)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        return queryset.filter(**{self.column: self.value()}) if self.value() else queryset


class _Action(_OfTheNewest):
    title = parameter_name = column = "action"


class _Actor(_OfTheNewest):
    title = parameter_name = column = "actor"


class _Endpoint(_OfTheNewest):
    title = parameter_name = column = "endpoint"


class _Experiment(_OfTheNewest):
    title = parameter_name = column = "experiment"


class AuditEntryAdmin(ReadOnlyAdmin[AuditEntry]):
    list_display = ("at", "actor", "action", "endpoint", "experiment", "model", "reason")
    list_filter = (_Action, _Actor, _Endpoint, _Experiment, "at")
    search_fields = ("actor", "endpoint", "experiment", "model", "reason")
    fields = ("at", "actor", "action", "endpoint", "experiment", "model", "reason", "shown_details")
    readonly_fields = ("at", "shown_details")
    list_before_template = "noregret/audit_csv.html"

    @admin.display(description="details")
    def shown_details(self, row: AuditEntry) -> str:
        return shown_json(row.details)

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEntry]:
        return entries_for(request)

    def get_urls(self) -> list[URLPattern]:
        taken_away = self.admin_site.admin_view(require_safe(self.csv_view))
        return [path("audit.csv", taken_away, name="audit-csv"), *super().get_urls()]

    def csv_view(self, request: HttpRequest) -> HttpResponse:
        """The entries that the list shows with the same filters, the newest CSV_MOST of them."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = self.get_changelist_instance(request).get_queryset(request).order_by("-pk")
        answer = HttpResponse(content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = 'attachment; filename="audit.csv"'
        table = csv.writer(answer)
        table.writerow(_COLUMNS)
        for entry in _in_pieces(rows):
            told = [entry.at.isoformat(), *(getattr(entry, name) for name in _COLUMNS[1:-1])]
            details = json.dumps(entry.details, ensure_ascii=False) if entry.details else ""
            table.writerow([_harmless(text) for text in (*told, details)])
        return answer


def _in_pieces(rows: QuerySet[AuditEntry]) -> Iterator[AuditEntry]:
    """Some at a time: each statement is a short one."""
    last, left = None, CSV_MOST
    while left > 0:
        piece = list((rows if last is None else rows.filter(pk__lt=last))[: min(_PIECE, left)])
        yield from piece
        if len(piece) < _PIECE:
            return
        last, left = piece[-1].pk, left - len(piece)


def _harmless(text: str) -> str:
    """A spreadsheet takes such a cell for a formula: people write reasons, and so do callers."""
    return f"'{text}" if text.startswith(_FORMULA) else text

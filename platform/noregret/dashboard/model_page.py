"""The page of a model version."""

from django.contrib import admin

from noregret.registry.models import ModelVersion

from .forms import ModelForm
from .pages import ServiceAddAdmin
from .words import time_told


class ModelVersionAdmin(ServiceAddAdmin[ModelVersion]):
    service_form = ModelForm
    add_button = "Register"
    add_help = (
        "A version never changes once it is registered. Models are read by a confined process; pickles are refused."
    )
    list_display = ("model", "framework", "shown_runtime", "size", "created_by", "created_at")
    list_filter = ("framework", "runtime")
    search_fields = ("name", "version", "sha256")
    fields = (
        ("name", "version"),
        ("framework", "shown_runtime"),
        "signature",
        "compile_note",
        "cost",
        "callable",
        "payload",
        "sha256",
        "compiled_sha256",
        ("size", "created_by", "created_at"),
    )
    readonly_fields = ("created_at", "shown_runtime", "cost")

    @admin.display(description="served by", ordering="runtime")
    def shown_runtime(self, row: ModelVersion) -> str:
        return row.served_by

    @admin.display(description="time of a call")
    def cost(self, row: ModelVersion) -> str:
        """As measured when it was registered."""
        if row.call_seconds is None:
            return "not measured"
        rows = "" if row.row_seconds is None else f", and {time_told(row.row_seconds)} for each row"
        return f"{time_told(row.call_seconds)}{rows}"

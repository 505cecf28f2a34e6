"""The page of a model version, and its file."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_safe

from noregret.registry.artifact_storage import artifact_store
from noregret.registry.models import ModelVersion
from serving.artifacts import ArtifactMissing

from .forms import ModelForm
from .model_facts import facts_of
from .pages import ServiceAddAdmin, shown_json
from .words import time_told


class ModelVersionAdmin(ServiceAddAdmin[ModelVersion]):
    service_form = ModelForm
    add_button = "Register"
    add_help = (
        "A version never changes once it is registered. Models are read by a confined process; pickles are refused."
    )
    list_display = ("shown_model", "framework", "shown_runtime", "size", "created_by", "created_at")
    list_filter = ("framework", "runtime")
    search_fields = ("name", "version", "sha256")
    fields = (
        ("name", "version"),
        ("framework", "shown_runtime"),
        "shown_signature",
        "compile_note",
        "cost",
        "callable",
        "shown_payload",
        "sha256",
        "compiled_sha256",
        ("size", "created_by", "created_at"),
    )
    readonly_fields = ("created_at", "shown_runtime", "cost", "shown_signature", "shown_payload")

    change_form_after_template = "noregret/model_facts.html"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_safe(self.artifact_view))
        return [path("<int:pk>/artifact", view, name="model-artifact"), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        seen = row is not None and self.has_view_permission(request, row)
        facts = facts_of(request, row) if seen else {}
        answer: HttpResponse = super().change_view(
            request, object_id, form_url, {"facts": facts} | (extra_context or {})
        )
        return answer

    def artifact_view(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        """The file as it was registered."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = ModelVersion.objects.filter(pk=pk).exclude(sha256="").first()
        if row is None:
            raise Http404
        try:
            file = artifact_store().opened(row.sha256)
        except (ArtifactMissing, OSError) as error:
            context = {
                "title": "The file is not there",
                "told": f"{row.model} can\N{RIGHT SINGLE QUOTATION MARK}t be downloaded: {error}.",
                "links": [("Back to the version", reverse("admin:registry_modelversion_change", args=[row.pk]))],
            }
            return self.page(request, "noregret/refused.html", context, status=404)
        ending = "onnx" if row.framework == "onnx" else "skops"
        return FileResponse(
            file,
            as_attachment=True,
            filename=f"{row.name}-{row.version}.{ending}",
            content_type="application/octet-stream",
        )

    @admin.display(description="model", ordering="name")
    def shown_model(self, row: ModelVersion) -> str:
        return row.model  # an admin has an attribute of that name

    @admin.display(description="served by", ordering="runtime")
    def shown_runtime(self, row: ModelVersion) -> str:
        return row.served_by

    @admin.display(description="signature")
    def shown_signature(self, row: ModelVersion) -> str:
        return shown_json(row.signature)

    @admin.display(description="payload")
    def shown_payload(self, row: ModelVersion) -> str:
        return shown_json(row.payload)

    @admin.display(description="time of a call")
    def cost(self, row: ModelVersion) -> str:
        """As measured when it was registered."""
        if row.call_seconds is None:
            return "not measured"
        rows = "" if row.row_seconds is None else f", and {time_told(row.row_seconds)} for each row"
        return f"{time_told(row.call_seconds)}{rows}"

"""The audit trail over HTTP."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from noregret.rest.pagination import page
from noregret.rest.views import ManageView
from serving import problems

from .models import AuditEntry


def render(row: AuditEntry) -> dict[str, Any]:
    return {
        "id": row.pk,
        "at": row.at.isoformat().replace("+00:00", "Z"),
        "actor": row.actor,
        "action": row.action,
        "endpoint": row.endpoint or None,
        "experiment": row.experiment or None,
        "model": row.model or None,
        "reason": row.reason or None,
        "details": row.details,
    }


class AuditView(ManageView):
    """GET /api/v1/audit"""

    def get(self, request: Request) -> Response:
        rows = AuditEntry.objects.all()
        if self.caller.endpoints is not None:
            rows = rows.filter(endpoint__in=self.caller.endpoints)
        for parameter in ("experiment", "endpoint"):
            wanted = request.query_params.get(parameter)
            if wanted is not None:
                if len(wanted) > 63 or "\x00" in wanted:
                    raise problems.invalid_fields([{"field": parameter, "message": "not a name"}])
                rows = rows.filter(**{parameter: wanted})
        return Response(page(request, rows, render, parameters={"experiment", "endpoint"}))

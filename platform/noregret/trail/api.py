"""The audit trail over HTTP."""

from typing import Any

import msgspec
from rest_framework.request import Request

from noregret.names import NAME_MAX_LENGTH
from noregret.rest.calls import call
from noregret.rest.pagination import PAGING, Page, page
from noregret.rest.views import ManageView
from serving import problems
from serving.api.calls import Parameter
from serving.times import Time

from . import models


class AuditEntry(msgspec.Struct, frozen=True):
    """One change: by whom, when and why."""

    id: int
    at: Time
    actor: str
    action: str
    endpoint: str | None
    experiment: str | None
    model: str | None
    reason: str | None
    details: dict[str, Any]


def shown(row: models.AuditEntry) -> AuditEntry:
    return AuditEntry(
        id=row.pk,
        at=row.at,
        actor=row.actor,
        action=row.action,
        endpoint=row.endpoint or None,
        experiment=row.experiment or None,
        model=row.model or None,
        reason=row.reason or None,
        details=row.details,
    )


class AuditView(ManageView):
    """GET /api/v1/audit"""

    names = (
        Parameter("experiment", str, "Of this experiment alone."),
        Parameter("endpoint", str, "Of this endpoint alone."),
    )

    @call("Who did what, when, why", parameters=(*PAGING, *names))
    def get(self, request: Request) -> Page[AuditEntry]:
        rows = models.AuditEntry.objects.all()
        if self.caller.endpoints is not None:
            rows = rows.filter(endpoint__in=self.caller.endpoints)
        for parameter in self.names:
            wanted = request.query_params.get(parameter.name)
            if wanted is not None:
                if len(wanted) > NAME_MAX_LENGTH:
                    raise problems.invalid_fields([{"field": parameter.name, "message": "not a name"}])
                rows = rows.filter(**{parameter.name: wanted})
        return page(request, rows, shown)

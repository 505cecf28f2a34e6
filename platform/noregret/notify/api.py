"""Webhooks over HTTP."""

from typing import Annotated, Any

import msgspec
from django.db.models import QuerySet
from msgspec import Meta
from rest_framework.request import Request
from rest_framework.response import Response

from noregret.names import Name
from noregret.rest.caller import Caller
from noregret.rest.pagination import page
from noregret.rest.parsers import typed
from noregret.rest.views import ManageView
from serving import problems

from .models import Webhook
from .webhooks import create_webhook, delete_webhook

Event = Annotated[str, Meta(pattern=r"^(\*|[a-z_]+\.[a-z_]+)\Z", max_length=64)]


class WebhookRequest(msgspec.Struct, forbid_unknown_fields=True):
    """An address to be told of events: actions of the audit trail, `*` for all."""

    name: Name
    url: Annotated[str, Meta(max_length=2000)]
    events: Annotated[list[Event], Meta(min_length=1, max_length=50)] = msgspec.field(default_factory=lambda: ["*"])


def render(row: Webhook) -> dict[str, Any]:
    return {
        "id": row.pk,
        "name": row.name,
        "url": row.url,
        "events": row.events,
        "endpoints": row.endpoints,
        "active": row.active,
        "waiting": row.deliveries.filter(state="waiting").count(),
        "failed": row.deliveries.filter(state="failed").count(),
    }


def seen(caller: Caller) -> "QuerySet[Webhook]":
    """The webhooks that a caller may see: a key for some endpoints sees those that are limited to these."""
    rows = Webhook.objects.all()
    return rows if caller.endpoints is None else rows.filter(endpoints__contained_by=sorted(caller.endpoints))


class WebhooksView(ManageView):
    """GET and POST /api/v1/webhooks"""

    def get(self, request: Request) -> Response:
        return Response(page(request, seen(self.caller), render))

    def post(self, request: Request) -> Response:
        form = typed(request, WebhookRequest)
        limited = self.caller.endpoints
        made = create_webhook(
            name=form.name,
            url=form.url,
            events=form.events,
            endpoints=None if limited is None else sorted(limited),
            actor=self.caller.name,
        )
        return Response({**render(made), "secret": made.secret}, status=201)


class WebhookView(ManageView):
    """GET and DELETE /api/v1/webhooks/{name}"""

    def _one(self, name: str) -> Webhook:
        found: Webhook | None = seen(self.caller).filter(name=name).first()
        if found is None:
            raise problems.not_found(f"there is no webhook {name[:80]}")
        return found

    def get(self, request: Request, name: str) -> Response:
        return Response(render(self._one(name)))

    def delete(self, request: Request, name: str) -> Response:
        delete_webhook(self._one(name), actor=self.caller.name)
        return Response(status=204)

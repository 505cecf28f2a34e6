"""Webhooks over HTTP."""

from typing import Annotated, Any

import msgspec
from django.db.models import QuerySet
from msgspec import Meta
from rest_framework.request import Request

from noregret.names import Name
from noregret.rest.caller import Caller
from noregret.rest.calls import call
from noregret.rest.pagination import PAGING, Page, page
from noregret.rest.views import ManageView
from serving import problems

from . import models
from .webhooks import create_webhook, delete_webhook

Event = Annotated[str, Meta(pattern=r"^(\*|[a-z_]+\.[a-z_]+)\Z", max_length=64)]


class WebhookRequest(msgspec.Struct, forbid_unknown_fields=True):
    """An address to be told of events: actions of the audit trail, `*` for all."""

    name: Name
    url: Annotated[str, Meta(max_length=2000)]
    events: Annotated[list[Event], Meta(min_length=1, max_length=50)] = msgspec.field(default_factory=lambda: ["*"])


class Webhook(msgspec.Struct, frozen=True):
    """An address that is told of events, with how many messages wait for it and how many were given
    up."""

    id: int
    name: str
    url: str
    events: list[str]
    endpoints: list[str] | None
    active: bool
    waiting: int
    failed: int


class NewWebhook(Webhook, frozen=True):
    """With its secret, which is told once: it signs X-Noregret-Signature."""

    secret: str


def shown(row: models.Webhook) -> Webhook:
    return Webhook(**_fields(row))


def _fields(row: models.Webhook) -> dict[str, Any]:
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


def seen(caller: Caller) -> "QuerySet[models.Webhook]":
    """The webhooks that a caller may see: a key for some endpoints sees those that are limited to
    these."""
    rows = models.Webhook.objects.all()
    return rows if caller.endpoints is None else rows.filter(endpoints__contained_by=sorted(caller.endpoints))


class WebhooksView(ManageView):
    """GET and POST /api/v1/webhooks"""

    @call("List webhooks", parameters=PAGING, name="webhooks_list")
    def get(self, request: Request) -> Page[Webhook]:
        return page(request, seen(self.caller), shown)

    @call("Make a webhook; its secret is told once", status=201, problems=(409,))
    def post(self, request: Request, body: WebhookRequest) -> NewWebhook:
        limited = self.caller.endpoints
        row = create_webhook(
            name=body.name,
            url=body.url,
            events=body.events,
            endpoints=None if limited is None else sorted(limited),
            actor=self.caller.name,
        )
        return NewWebhook(**_fields(row), secret=row.secret)


class WebhookView(ManageView):
    """GET and DELETE /api/v1/webhooks/{name}"""

    def _one(self, name: str) -> models.Webhook:
        row: models.Webhook | None = seen(self.caller).filter(name=name).first()
        if row is None:
            raise problems.not_found(f"there is no webhook {name[:80]}")
        return row

    @call("A webhook", problems=(404,))
    def get(self, request: Request, name: str) -> Webhook:
        return shown(self._one(name))

    @call("Remove a webhook", status=204, problems=(404,))
    def delete(self, request: Request, name: str) -> None:
        delete_webhook(self._one(name), actor=self.caller.name)

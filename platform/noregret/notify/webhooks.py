"""Makes and removes webhooks."""

import secrets

from django.conf import settings
from django.db import IntegrityError, transaction

from noregret.trail import audit
from serving.outbound.addresses import AddressRefused, check

from .errors import WebhookInvalid, WebhookNameTaken
from .models import Webhook

RESOLVE_SECONDS = 2.0


def create_webhook(*, name: str, url: str, events: list[str], endpoints: list[str] | None, actor: str) -> Webhook:
    """Raises WebhookInvalid, WebhookNameTaken. The secret is told once, by whoever made it."""
    try:
        check(url, allow_private=settings.WEBHOOK_PRIVATE, seconds=RESOLVE_SECONDS)
    except (AddressRefused, ValueError) as error:
        raise WebhookInvalid("url", str(error)) from error
    try:
        with transaction.atomic():
            made = Webhook.objects.create(
                name=name,
                url=url,
                secret=secrets.token_urlsafe(32),
                events=events,
                endpoints=endpoints,
                created_by=actor,
            )
            audit.record(actor=actor, action="webhook.created", details={"name": name, "url": url, "events": events})
    except IntegrityError as error:
        raise WebhookNameTaken(f"there is a webhook {name} already") from error
    return made


def delete_webhook(webhook: Webhook, *, actor: str) -> None:
    """With everything that waits to be sent to it."""
    with transaction.atomic():
        webhook.delete()
        audit.record(actor=actor, action="webhook.deleted", details={"name": webhook.name})

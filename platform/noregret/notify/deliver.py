"""Sends what waits in the outbox: at least once, signed, with a deadline, retried with growing
pauses and not for ever (noregret.trail.sending). A receiver that gets a message twice knows it by
its `id`.
"""

import asyncio
import hashlib
import hmac
import json
import time

import httpx
import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.utils import timezone

from noregret.trail.sending import AT_ONCE, ATTEMPTS, ROUND_SECONDS, claim, outcome
from serving.outbound.addresses import AddressRefused, resolve

from .models import Delivery, Webhook

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 5.0
"""For one message in all, from resolving the name to the answer: a receiver that drips bytes has no
more than another."""
_GONE = 410  # the one answer that says: never again


class NotDelivered(Exception):
    """It did not arrive this time; `final`: nor will it another time."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """The value of X-Noregret-Signature: HMAC-SHA256 over `timestamp.body`."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


def deliver_due() -> int:
    """Try what is due; how many arrived. A receiver that failed has its next turn in the next
    round: others' messages come first."""
    until = time.monotonic() + ROUND_SECONDS
    arrived = 0
    failed: set[int | None] = set()  # webhooks, None for e-mail
    due = Delivery.objects.filter(state=Delivery.State.WAITING).select_related("webhook").order_by("due_at")
    for _ in range(AT_ONCE):
        others = due.exclude(webhook__in=failed - {None})
        if None in failed:
            others = others.exclude(webhook__isnull=True)
        delivery = others.filter(due_at__lte=timezone.now()).first()
        if delivery is None or time.monotonic() > until:
            break
        waiting = Delivery.objects.filter(state=Delivery.State.WAITING)
        if claim(waiting, delivery, timezone.now()):
            if _try(delivery):
                arrived += 1
            else:
                failed.add(delivery.webhook_id)
    return arrived


def _try(delivery: Delivery) -> bool:
    attempts = delivery.attempts + 1
    rows = Delivery.objects.filter(pk=delivery.pk)
    try:
        if delivery.webhook is None:
            _mail(delivery)
        else:
            _post(delivery, delivery.webhook)
    except Exception as error:
        if not isinstance(
            error, NotDelivered
        ):  # one message that nobody foresaw must not keep all others from being sent
            log.exception("delivery failed", delivery=delivery.pk)
            error = NotDelivered(f"{type(error).__name__}: {error}")
        final = error.final or attempts >= ATTEMPTS
        rows.update(
            state=Delivery.State.FAILED if final else Delivery.State.WAITING,
            **outcome(attempts, str(error), timezone.now(), is_over=final),
        )
        log.warning("not delivered", delivery=delivery.pk, attempts=attempts, final=final, error=str(error))
        return False
    rows.update(state=Delivery.State.DELIVERED, **outcome(attempts, "", timezone.now(), is_over=True))
    return True


def _post(delivery: Delivery, webhook: Webhook) -> None:
    body = json.dumps(delivery.body, separators=(",", ":"), sort_keys=True).encode()
    timestamp = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "noregret",
        "X-Noregret-Event": delivery.event,
        "X-Noregret-Delivery": str(delivery.body["id"]),
        "X-Noregret-Signature": signature(webhook.secret, timestamp, body),
    }
    try:
        status = asyncio.run(_status(webhook.url, body, headers))
    except AddressRefused as error:
        raise NotDelivered(f"AddressRefused: {error}") from error
    except TimeoutError as error:
        raise NotDelivered(f"it took longer than {TIMEOUT_SECONDS:g} s") from error
    except httpx.InvalidURL as error:
        raise NotDelivered(f"InvalidURL: {error}", final=True) from error
    except (httpx.HTTPError, OSError, UnicodeError) as error:
        raise NotDelivered(f"{type(error).__name__}: {error}") from error
    if not 200 <= status < 300:
        raise NotDelivered(f"it answered {status}", final=status == _GONE)


async def _status(url: str, body: bytes, headers: dict[str, str]) -> int:
    """What a receiver answers, within TIMEOUT_SECONDS. Its body is not read: nobody looks at it,
    and it may have no end."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        target = await asyncio.to_thread(resolve, url, allow_private=settings.WEBHOOK_PRIVATE)
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False) as client,
            client.stream(
                "POST",
                target.url,
                content=body,
                headers={"Host": target.host} | headers,
                extensions={"sni_hostname": target.hostname},
            ) as answer,
        ):
            return answer.status_code


def _mail(delivery: Delivery) -> None:
    body = delivery.body
    lines = [
        f"{name}: {body[name]}"
        for name in ("experiment", "endpoint", "model", "reason", "actor", "at")
        if body.get(name)
    ]
    message = EmailMessage(
        subject=f"[noregret] {delivery.event}: {body.get('experiment') or body.get('endpoint') or ''}".strip(),
        body="\n".join([*lines, "", json.dumps(body.get("details", {}), indent=2, sort_keys=True)]),
        from_email=settings.DEFAULT_FROM_EMAIL,
        to=list(settings.ALERT_EMAILS),
    )
    try:
        message.send()
    except OSError as error:  # smtplib's exceptions are OSErrors
        raise NotDelivered(f"{type(error).__name__}: {error}") from error

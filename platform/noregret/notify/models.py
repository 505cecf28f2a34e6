"""Who is told of what happens, and what waits to be told."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from noregret.names import NAME_MAX_LENGTH, validate_name
from noregret.trail.sending import Outgoing


class Webhook(models.Model):
    """An address that is told of events, in requests that it can verify."""

    name = models.CharField(max_length=NAME_MAX_LENGTH, unique=True, validators=[validate_name])
    url = models.URLField("URL", max_length=2000)
    # Signs what is sent. It has to be known here, so it is kept as it is.
    secret = models.CharField(max_length=64)
    events = ArrayField(models.CharField(max_length=64), help_text="Actions of the audit trail; `*` for all.")
    endpoints = ArrayField(models.CharField(max_length=NAME_MAX_LENGTH), null=True, blank=True)
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=150)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Delivery(Outgoing):
    """One message that is to reach one receiver: written with the change that it tells of, sent
    later."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        DELIVERED = "delivered", "Delivered"
        FAILED = "failed", "Failed"

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, null=True, related_name="deliveries")
    # Where there is no webhook: by e-mail to the operators' addresses.
    event = models.CharField(max_length=64)
    body = models.JSONField()
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)

    class Meta:
        ordering = ("-id",)
        verbose_name_plural = "deliveries"
        indexes = [models.Index(fields=["due_at"], condition=models.Q(state="waiting"), name="delivery_due")]

    def __str__(self) -> str:
        return f"{self.event} to {self.webhook_id or 'e-mail'}"

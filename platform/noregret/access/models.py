"""Who may call, and who did what: API keys and the audit trail."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from noregret.names import NAME_MAX_LENGTH, validate_name


class ApiKey(models.Model):
    """A key of the HTTP API. Only its SHA-256 is kept: the key itself has 256 random bits, so a salt adds nothing."""

    name = models.CharField(max_length=NAME_MAX_LENGTH, validators=[validate_name])
    prefix = models.CharField(max_length=16, help_text="The key's first characters, to recognise it by.")
    digest = models.CharField(max_length=64, unique=True)
    scopes = ArrayField(models.CharField(max_length=16))
    endpoints = ArrayField(
        models.CharField(max_length=NAME_MAX_LENGTH), null=True, blank=True, help_text="Empty: every endpoint."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=150, blank=True, default="")
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class AuditEntry(models.Model):
    """One change, by whom and why. Written in the transaction of the change itself; never altered."""

    at = models.DateTimeField(auto_now_add=True)
    actor = models.CharField(max_length=150, help_text="A user, `key:NAME`, or the part of the platform that acted.")
    action = models.CharField(max_length=64, help_text="Noun and past participle, as `experiment.started`.")
    endpoint = models.CharField(max_length=NAME_MAX_LENGTH, blank=True, default="")
    experiment = models.CharField(max_length=NAME_MAX_LENGTH, blank=True, default="")
    model = models.CharField(max_length=2 * NAME_MAX_LENGTH + 1, blank=True, default="")
    reason = models.TextField(blank=True, default="")
    details = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ("-id",)
        verbose_name_plural = "audit entries"
        indexes = [models.Index(fields=["experiment", "-id"]), models.Index(fields=["endpoint", "-id"])]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor} {self.action}"

"""Who may call: API keys."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from noregret.names import NAME_MAX_LENGTH, validate_name


class ApiKey(models.Model):
    """A key of the HTTP API. Only its SHA-256 is kept: the key itself has 256 random bits, so a
    salt adds nothing."""

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
    # As of the last housekeeping; what is newer is in Redis (noregret.access.uses).
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

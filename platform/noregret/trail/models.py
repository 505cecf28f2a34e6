"""What happened: the audit trail."""

from django.db import models

from noregret.names import NAME_MAX_LENGTH


class AuditEntry(models.Model):
    """One change, by whom and why. Written in the transaction of the change itself; never
    altered."""

    at = models.DateTimeField(auto_now_add=True)
    actor = models.CharField(max_length=150, help_text="A user, `key:NAME`, or the part of the platform that acted.")
    action = models.CharField(max_length=64, help_text="Noun and past participle, as `experiment.started`.")
    endpoint = models.CharField(max_length=NAME_MAX_LENGTH, blank=True, default="")
    experiment = models.CharField(max_length=NAME_MAX_LENGTH, blank=True, default="")
    model = models.CharField(max_length=2 * NAME_MAX_LENGTH + 1, blank=True, default="")
    reason = models.TextField(blank=True, default="")
    details = models.JSONField(default=dict, blank=True)

    class Meta:
        db_table = "access_auditentry"  # where the entries are: they were made when the trail belonged to access
        ordering = ("-id",)
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(fields=["experiment", "-id"], name="access_audi_experim_f4eda5_idx"),
            models.Index(fields=["endpoint", "-id"], name="access_audi_endpoin_00887d_idx"),
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor} {self.action}"

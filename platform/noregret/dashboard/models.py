"""What is typed into the guided form, between its steps."""

from django.conf import settings
from django.db import models
from django.utils import timezone


class UnfinishedForm(models.Model):
    """A form that somebody began. `typed`: JSON, by the names of inputs. `draft`: the experiment
    that it changes, as it was at `revision`; null: it makes one. `saved`: by each step that was
    left, which page saved it. `last_step` is empty where none was left."""

    token = models.CharField(primary_key=True, max_length=32)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    typed = models.TextField(default="{}")  # jsonb takes no NUL, and whatever was typed is told
    draft = models.BigIntegerField(null=True)
    revision = models.IntegerField(null=True)
    saved = models.JSONField(default=dict)
    last_step = models.CharField(max_length=20, blank=True)
    changed_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        default_permissions = ()  # a form is its person's, and nobody else's

    def __str__(self) -> str:
        return f"form left at {self.last_step or 'its beginning'}"

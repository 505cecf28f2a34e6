"""Model versions: immutable, registered artefacts or addresses; and the jobs by which artefacts
become versions."""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models

from noregret.names import NAME_MAX_LENGTH, validate_name
from serving.runtimes import linear

from .frameworks import framework_choices, runtime_choices


class ModelVersion(models.Model):
    """`name@version`. Nothing of it changes once it is registered: another artefact is another
    version."""

    name = models.CharField(max_length=NAME_MAX_LENGTH, validators=[validate_name])
    version = models.CharField(max_length=NAME_MAX_LENGTH, validators=[validate_name])
    framework = models.CharField(max_length=16, choices=framework_choices)
    runtime = models.CharField(max_length=16, choices=runtime_choices)
    sha256 = models.CharField("SHA-256", max_length=64, blank=True, default="")
    size = models.PositiveBigIntegerField("size in bytes", default=0)
    compiled_sha256 = models.CharField("SHA-256 as compiled", max_length=64, blank=True, default="")
    compile_note = models.TextField(blank=True, default="")
    callable = models.CharField(max_length=255, blank=True, default="")
    payload = models.JSONField(null=True, blank=True)
    # What else of its definition a framework needs. An earlier version of the program writes rows
    # without it.
    options = models.JSONField(default=dict, db_default=models.Value({}, models.JSONField()), blank=True)
    signature = models.JSONField(default=dict)
    # What a call takes and what each row adds, as measured at registration; null where nobody has
    # measured.
    call_seconds = models.FloatField(null=True, blank=True)
    row_seconds = models.FloatField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    endpoints = ArrayField(
        models.CharField(max_length=NAME_MAX_LENGTH),
        null=True,
        blank=True,
        help_text="Of the key that registered it; empty: every endpoint.",
    )
    created_by = models.CharField(max_length=150, blank=True, default="")

    class Meta:
        ordering = ("-id",)
        constraints = [models.UniqueConstraint(fields=["name", "version"], name="model_version_unique")]

    def __str__(self) -> str:
        return self.model

    @property
    def model(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def compiled(self) -> bool:
        return bool(self.compiled_sha256)

    @property
    def served_by(self) -> str:
        """What evaluates it, as people read it: a graph that is sums alone needs no runtime."""
        is_sums = self.compiled and linear.LABEL in self.compile_note
        return linear.LABEL.capitalize() if is_sums else self.get_runtime_display()


class StoredFile(models.Model):
    """A file that was put from here into the store that all machines reach, and may be removed from
    there by us."""

    sha256 = models.CharField("SHA-256", max_length=64, primary_key=True)
    stored_at = models.DateTimeField()  # last, however whole it was there already

    class Meta:
        indexes = [models.Index(fields=["stored_at"], name="stored_file_stored_at")]

    def __str__(self) -> str:
        return self.sha256


class RegistrationJob(models.Model):
    """A registration whose artefact is inspected, mostly by a worker, and what came of it."""

    class Status(models.TextChoices):
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    request_digest = models.CharField(max_length=64)  # of all that was asked for, and by whom
    status = models.CharField(max_length=16, choices=Status, default=Status.RUNNING)
    definition = models.JSONField()  # but for the artefact
    sha256 = models.CharField("SHA-256", max_length=64)  # of the artefact, which the store holds
    created_by = models.CharField(max_length=150, blank=True, default="")
    endpoints = ArrayField(models.CharField(max_length=NAME_MAX_LENGTH), null=True, blank=True)  # the limit of the key
    attempts = models.PositiveSmallIntegerField(default=0)
    claimed_until = models.DateTimeField(null=True, blank=True)  # whoever inspects it has it until then
    sent_at = models.DateTimeField(null=True, blank=True)  # a worker was last told of it
    model = models.ForeignKey(ModelVersion, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    is_new = models.BooleanField(default=False)  # did this job register the version?
    refusal = models.JSONField(null=True, blank=True)  # {"kind", "message", "field"}: an error of the registry
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["request_digest"], condition=models.Q(status="running"), name="registration_job_running_once"
            )
        ]
        indexes = [models.Index(fields=["created_at"], name="registration_job_created")]

    def __str__(self) -> str:
        return f"{self.definition['name']}@{self.definition['version']}: {self.status}"

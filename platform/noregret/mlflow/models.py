"""Which versions came from MLflow, and what is to be told to it."""

from django.db import models

from noregret.names import NAME_MAX_LENGTH
from noregret.trail.sending import Outgoing

MLFLOW_NAME_LENGTH = 255


class ImportedVersion(models.Model):
    """Where a model version came from. Without a foreign key: it is written while the artefact may
    still be inspected. `sha256` and `url` say of what: a version of the same name that holds
    something else came from elsewhere."""

    name = models.CharField(max_length=NAME_MAX_LENGTH)
    version = models.CharField(max_length=NAME_MAX_LENGTH)
    sha256 = models.CharField("SHA-256", max_length=64, blank=True, default="")  # of the artefact
    url = models.CharField("URL", max_length=2000, blank=True, default="")  # of a remote model
    mlflow_name = models.CharField("MLflow name", max_length=MLFLOW_NAME_LENGTH)
    mlflow_version = models.CharField("MLflow version", max_length=32)
    run_id = models.CharField("run ID", max_length=64, blank=True, default="")
    metrics = models.JSONField(default=dict)  # of the run, when it was imported
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=150)

    class Meta:
        ordering = ("-id",)
        constraints = [models.UniqueConstraint(fields=["name", "version"], name="mlflow_imported_once")]

    def __str__(self) -> str:
        return f"{self.model} from {self.mlflow_name} {self.mlflow_version}"

    @property
    def model(self) -> str:
        return f"{self.name}@{self.version}"


class AliasMove(Outgoing):
    """An alias that is to point at a version in MLflow: written with the change of champion, sent
    later."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        MOVED = "moved", "Moved"
        OVERTAKEN = "overtaken", "Overtaken"  # by a later change of the same alias
        FAILED = "failed", "Failed"

    imported = models.ForeignKey(ImportedVersion, on_delete=models.CASCADE, related_name="moves")
    alias = models.CharField(max_length=MLFLOW_NAME_LENGTH)
    endpoint = models.CharField(max_length=NAME_MAX_LENGTH)
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)

    class Meta:
        ordering = ("-id",)
        indexes = [models.Index(fields=["due_at"], condition=models.Q(state="waiting"), name="mlflow_move_due")]

    def __str__(self) -> str:
        return f"{self.alias} to {self.imported_id}: {self.state}"

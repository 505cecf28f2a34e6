"""The ledger: decisions and rewards, the only truth that posteriors are computed from.

Both tables are partitioned by day of the decision (migration 0001), so that old days are dropped
whole. No foreign keys leave them: rows are written by COPY from events that name experiments and
arms by number, and a row must never be lost because something it names was deleted.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Decision(models.Model):
    """One choice of an arm for a request."""

    pk = models.CompositePrimaryKey("decided_at", "id")
    id = models.UUIDField()
    decided_at = models.DateTimeField()
    experiment_id = models.BigIntegerField()
    arm_id = models.BigIntegerField()
    # Every arm's probability at the time, by arm position; the chosen arm's is `propensity`.
    propensities = ArrayField(models.FloatField())
    propensity = models.FloatField()
    policy_version = models.BigIntegerField()
    unit = models.CharField(max_length=256, null=True)
    context = models.JSONField(null=True)
    request_id = models.CharField(max_length=256, null=True)
    latency_ms = models.FloatField()
    # Why the champion answered in the arm's place; such a decision is not learned from.
    fallback_reason = models.CharField(max_length=64, null=True)
    # The control served because the unit is held out of the bandit, so that the bandit's own
    # benefit is measured.
    holdout = models.BooleanField(default=False, db_default=False)
    # What an apprentice's policy would have served.
    proposed_arm_id = models.BigIntegerField(null=True)
    # Arms, by id, that the request was not for: it says something of the others alone. None where
    # it was for all.
    excluded = ArrayField(models.BigIntegerField(), null=True)
    # When it was activated, where it had to be.
    activated_at = models.DateTimeField(null=True)
    # When a device says that it decided; None: it was decided here. `decided_at` is when it came.
    edge_decided_at = models.DateTimeField(null=True)
    # One independent trial of the experiment: not held out, the first of its unit where units keep
    # their arm, and in the ledger before its bucket was closed. Only trials enter evidence and the
    # sample ratio.
    trial = models.BooleanField(default=True, db_default=True)
    # In the ledger before the failures of its time were compared with the control's; one that is
    # not enters no such comparison.
    timely = models.BooleanField(default=True, db_default=True)

    class Meta:
        indexes = [
            models.Index(fields=["experiment_id", "decided_at"], name="decision_by_experiment"),
            models.Index(fields=["experiment_id", "unit", "decided_at"], name="decision_by_unit"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class FirstVisit(models.Model):
    """A unit's first decision in an experiment whose units keep their arm: the one that counts for
    it."""

    pk = models.CompositePrimaryKey("experiment_id", "unit")
    experiment_id = models.BigIntegerField()
    unit = models.CharField(max_length=256)
    decision_id = models.UUIDField()

    def __str__(self) -> str:
        return f"{self.unit} in experiment {self.experiment_id}"


class Reward(models.Model):
    """Feedback on a decision: at most one a (decision, metric). Its arm and time come from the
    signed decision id."""

    pk = models.CompositePrimaryKey("decided_at", "decision_id", "metric")
    decision_id = models.UUIDField()
    decided_at = models.DateTimeField()
    metric = models.CharField(max_length=63)
    experiment_id = models.BigIntegerField()
    arm_id = models.BigIntegerField()
    value = models.FloatField()
    occurred_at = models.DateTimeField(null=True)
    recorded_at = models.DateTimeField()
    # Came after the attribution window: kept, never learned.
    late = models.BooleanField(default=False)
    # Given by the platform when the window closed without feedback.
    defaulted = models.BooleanField(default=False)
    # What came after all for a defaulted decision: kept, never learned.
    late_value = models.FloatField(null=True)
    # In the arm's statistics. Rows are claimed by this mark; an `id > watermark` would lose late
    # commits. Rows of metrics other than the experiment's reward are born folded: those that
    # something watches are claimed by `summed`.
    folded = models.BooleanField(default=False)
    # In the experiment's evidence: the decision was matured, and its bucket was closed with it
    # inside.
    matured = models.BooleanField(default=False)
    # In the sums of whatever watches its metric, a guardrail or the scores of a shadow: claimed as
    # by `folded`.
    summed = models.BooleanField(default=False, db_default=False)

    class Meta:
        indexes = [
            models.Index(
                fields=["experiment_id", "decided_at"],
                condition=models.Q(folded=False, late=False),
                name="reward_to_fold",
            ),
            models.Index(
                fields=["experiment_id", "metric", "decided_at"],
                condition=models.Q(summed=False),
                name="reward_to_sum",
            ),
            models.Index(fields=["experiment_id", "metric", "decided_at"], name="reward_by_experiment"),
        ]

    def __str__(self) -> str:
        return f"{self.metric} of {self.decision_id}"


class ShadowPrediction(models.Model):
    """What a challenger of a shadow experiment said of a request, beside what the champion
    answered."""

    pk = models.CompositePrimaryKey("decided_at", "decision_id", "arm_id")
    decision_id = models.UUIDField()
    decided_at = models.DateTimeField()
    experiment_id = models.BigIntegerField()
    arm_id = models.BigIntegerField()
    latency_ms = models.FloatField()
    champion_latency_ms = models.FloatField()
    error = models.CharField(max_length=64, null=True)
    agrees = models.BooleanField(null=True)
    # Mean absolute difference of numeric predictions.
    difference = models.FloatField(null=True)
    predicted = models.JSONField(null=True)
    champion_predicted = models.JSONField()

    class Meta:
        indexes = [
            models.Index(fields=["experiment_id", "arm_id", "decided_at"], name="shadow_by_arm"),
            models.Index(
                fields=["experiment_id", "arm_id", "decided_at"],
                condition=models.Q(agrees=False),
                name="shadow_disagreeing",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.arm_id} on {self.decision_id}"


class WaitingDecision(models.Model):
    """A decision of which nothing is learned until it is activated, and its activation, whichever
    comes first (serving.ledger.activations)."""

    id = models.UUIDField(primary_key=True)  # sorted by the time of the decision
    experiment_id = models.BigIntegerField()
    # It may be activated until then: its attribution window.
    open_until = models.DateTimeField()
    # As it came from the stream; None until it did, and once it is among the decisions.
    event = models.BinaryField(null=True)
    endpoint_id = models.BigIntegerField(null=True)
    unit = models.CharField(max_length=256, null=True)
    activated_at = models.DateTimeField(null=True)
    # Among the decisions, and counted like any other.
    taken = models.BooleanField(default=False, db_default=False)

    class Meta:
        indexes = [
            models.Index(fields=["experiment_id", "id"], name="waiting_by_experiment"),
            models.Index(
                fields=["endpoint_id"],
                condition=models.Q(activated_at__isnull=False, event__isnull=False, taken=False),
                name="waiting_to_take",
            ),
            models.Index(fields=["open_until"], name="waiting_by_end"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class EdgeDecision(models.Model):
    """A decision that was made on a device, by the id that the device gave it: so that it is taken
    once, and its rewards find it (serving.ledger.edge_decisions)."""

    id = models.UUIDField(primary_key=True)
    endpoint_id = models.BigIntegerField()
    # As in the ledger; of one that is left out of evidence a number beside its experiment's.
    experiment_id = models.BigIntegerField()
    arm_id = models.BigIntegerField()
    ledger_id = models.UUIDField()
    decided_us = models.BigIntegerField()
    learnable = models.BooleanField()
    # Of what it says: who repeats it says the same.
    digest = models.BinaryField()
    # Nothing is taken of its bundle after that, so that nobody can repeat it.
    kept_until = models.DateTimeField()
    # Until it is among the decisions.
    event = models.BinaryField(null=True)
    unit = models.CharField(max_length=256, null=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["endpoint_id", "ledger_id"],
                condition=models.Q(event__isnull=False),
                name="edge_decision_to_take",
            ),
            models.Index(fields=["kept_until"], name="edge_decision_by_end"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class QuarantinedEvent(models.Model):
    """An event that could not be read. It is kept here so that it blocks no other, and shown in the
    admin."""

    at = models.DateTimeField(auto_now_add=True)
    stream = models.CharField(max_length=128)
    entry_id = models.CharField(max_length=64)
    problem = models.TextField()
    body = models.BinaryField()

    class Meta:
        ordering = ("-id",)
        constraints = [models.UniqueConstraint(fields=["stream", "entry_id"], name="quarantined_event_unique")]

    def __str__(self) -> str:
        return f"{self.stream} {self.entry_id}"


class LedgerHorizon(models.Model):
    """From when on the ledger has rows: one row, or none while no day was dropped
    (serving.ledger.horizon)."""

    begins_at = models.DateTimeField(null=True)
    # How often a unit was taken out of the rows.
    rewritten = models.PositiveBigIntegerField(default=0, db_default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_ledger_horizon")]

    def __str__(self) -> str:
        return f"from {self.begins_at}"


class ForgottenUnit(models.Model):
    """A unit that was forgotten, by a keyed digest: what of it is still on its way into the ledger
    comes in without its name."""

    digest = models.BinaryField(primary_key=True)
    forgotten_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"forgotten at {self.forgotten_at}"

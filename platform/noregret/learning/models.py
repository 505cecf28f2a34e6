"""What has been learned: sums over the ledger, each of which `rebuild` can compute again."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import QuerySet

from noregret.experiments.models import Arm, Baseline, Experiment

from .packed import PackedField


class ArmStatistics(models.Model):
    """The sufficient statistics of an arm over the whole experiment."""

    arm = models.OneToOneField(Arm, on_delete=models.CASCADE, primary_key=True, related_name="statistics")
    decisions = models.PositiveBigIntegerField(default=0)
    failures = models.PositiveBigIntegerField(default=0, help_text="Decisions that the arm could not serve.")
    rewards = models.PositiveBigIntegerField(default=0)
    mean = models.FloatField(default=0.0)
    m2 = models.FloatField(default=0.0, help_text="Sum of squared deviations from the mean.")
    # Of its decisions, those that were answered by what was kept of an earlier call.
    cached = models.PositiveBigIntegerField(default=0, db_default=0)
    # Counts of latencies by logarithmic bucket (serving.ledger.latency), trailing zeros cut; of
    # decisions for which no call was made here there is none.
    latencies = ArrayField(models.BigIntegerField(), default=list)
    # Counts of matured feedback by delay, in sixtieths of the attribution window (bandits.delay).
    delays = ArrayField(models.BigIntegerField(), default=list, db_default=[])

    @property
    def calls(self) -> int:
        """Decisions that were not answered from the cache: how often a call fails is told of these
        alone."""
        return self.decisions - self.cached

    class Meta:
        verbose_name_plural = "arm statistics"

    def __str__(self) -> str:
        return f"statistics of arm {self.arm_id}"


class ArmInterval(models.Model):
    """An arm's decisions and rewards by decision time, for charts of share and mean over time."""

    arm = models.ForeignKey(Arm, on_delete=models.CASCADE, related_name="intervals")
    start = models.DateTimeField()
    decisions = models.PositiveBigIntegerField(default=0)
    failures = models.PositiveBigIntegerField(
        default=0, db_default=0, help_text="Decisions that the arm could not serve."
    )
    rewards = models.PositiveBigIntegerField(default=0)
    reward_total = models.FloatField(default=0.0)
    reward_m2 = models.FloatField(default=0.0, db_default=0.0, help_text="Sum of squared deviations from the mean.")
    # How long it is: ten seconds, and more with age (noregret.learning.coarsening).
    seconds = models.PositiveIntegerField(default=10, db_default=10)

    class Meta:
        ordering = ("start",)
        constraints = [models.UniqueConstraint(fields=["arm", "start"], name="arm_interval_unique")]

    def __str__(self) -> str:
        return f"arm {self.arm_id} from {self.start:%H:%M:%S}"


class StandingPoint(models.Model):
    """How an experiment stood at one time (noregret.learning.standing_history)."""

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="standing")
    at = models.DateTimeField()
    matured = models.PositiveBigIntegerField()
    shares = models.JSONField(default=dict, help_text="By the name of an arm.")
    evidence = models.JSONField(default=dict, help_text="By the name of an arm.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["experiment", "at"], name="standing_point_unique")]

    def __str__(self) -> str:
        return f"experiment {self.experiment_id} at {self.at:%Y-%m-%d %H:%M:%S}"


class ActivationCount(models.Model):
    """How many decisions of an experiment or a baseline, by its number in the ledger, waited to be
    activated, and how many were."""

    experiment_id = models.BigIntegerField(primary_key=True)
    waited = models.PositiveBigIntegerField(default=0)
    activated = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.activated} of {self.waited} activated"


class ExperimentEvidence(models.Model):
    """The e-process of an experiment over its matured decisions, in order of decision time."""

    experiment = models.OneToOneField(Experiment, on_delete=models.CASCADE, primary_key=True, related_name="evidence")
    # Buckets of decision time before this instant are closed: their decisions are in, and no later
    # one enters them.
    closed_until = models.DateTimeField(null=True)
    # Failures beside the control's are counted up to here: a decision that comes later still is not
    # `timely` (learning.watched.watching).
    sealed_until = models.DateTimeField(null=True)
    # Before which instants intervals are so many seconds long or longer, by these seconds
    # (noregret.learning.coarsening).
    coarse_until = models.JSONField(default=dict, db_default={})
    # Is everything that an earlier version left, or a new guardrail found, in the sums? Until then
    # rounds go on, after the end too.
    gone_through = models.BooleanField(default=False, db_default=False)
    matured = models.PositiveBigIntegerField(default=0)
    state = PackedField(help_text="bandits.inference.evidence.Evidence.to_dict()")
    answers = PackedField(help_text="The same of how often arms are answered, where silence means nothing.")
    split = PackedField(help_text="bandits.inference.sample_ratio.SampleRatio.to_dict(), of all trials.")
    # By which rules the sums were made (evidence.RULES); the learner makes them anew where they are
    # old.
    rules = models.PositiveSmallIntegerField(default=0, db_default=0)
    # Has something been learned that is not published? And when was it last, after how many
    # decisions (publishing).
    unpublished = models.BooleanField(default=False, db_default=False)
    published_at = models.DateTimeField(null=True)
    published_decisions = models.PositiveBigIntegerField(default=0, db_default=0)
    # How many decisions of devices are kept beside its own (serving.ledger.edge_decisions).
    beside = models.PositiveBigIntegerField(default=0, db_default=0)
    # What a contextual policy's models know of the closed buckets (noregret.learning.contextual).
    learned = PackedField(help_text="By the policy's family: sums, or Gaussians.")

    # Every reward of a decision before this instant is folded (fold.unfolded_since); null while
    # that is not known.
    folded_until = models.DateTimeField(null=True)
    # While a rebuild computes, the learner notes what it adds (noregret.learning.meanwhile): for
    # which rebuild, and since when.
    noted_for = models.UUIDField(null=True)
    noted_since = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "experiment evidence"

    def __str__(self) -> str:
        return f"evidence of experiment {self.experiment_id}"


class Lease(models.Model):
    """Whose turn it is (noregret.learning.locks). Free once it has expired; the token grows each
    time that it is taken."""

    name = models.CharField(primary_key=True, max_length=64)
    token = models.BigIntegerField()
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


SUMS = ("state", "answers", "split", "learned")
"""The columns of ExperimentEvidence that grow with the arms: read by who needs them, and not each
second."""


def without_sums(experiments: QuerySet[Experiment]) -> QuerySet[Experiment]:
    """Experiments with their evidence's row, and what is large of it left unread."""
    return experiments.select_related("evidence").defer(*(f"evidence__{column}" for column in SUMS))


class Addition(models.Model):
    """What one transaction of the learner added to a kept sum while a rebuild was computing."""

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="+")
    sum = models.CharField(max_length=32)
    document = models.JSONField()

    def __str__(self) -> str:
        return f"{self.sum} of experiment {self.experiment_id}"


class RebuildPart(models.Model):
    """A part of a rebuild that is under way, and its piece (noregret.learning.workers)."""

    token = models.UUIDField(help_text="Of the rebuild.")
    place = models.PositiveIntegerField()
    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="+")
    snapshot = models.CharField(max_length=64, help_text="As pg_export_snapshot named it.")
    part = models.BinaryField(help_text="noregret.learning.parts.AnyPart as JSON")
    attempts = models.PositiveIntegerField(default=0)
    taken_until = models.DateTimeField(null=True)
    problem = models.TextField(default="", blank=True)
    piece = models.BinaryField(null=True)
    made_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["token", "place"], name="rebuild_part_unique")]

    def __str__(self) -> str:
        return f"part {self.place} of {self.token}"


class LedgerBase(models.Model):
    """The kept sums of an experiment over all decisions before an instant. A rebuild goes on from
    here and reads no row before it."""

    experiment = models.OneToOneField(Experiment, on_delete=models.CASCADE, primary_key=True, related_name="base")
    until = models.DateTimeField()
    sums = models.JSONField(default=dict, help_text="A document by the name of each kept sum (noregret.learning.kept).")

    def __str__(self) -> str:
        return f"experiment {self.experiment_id} until {self.until:%Y-%m-%d}"


class LedgerSums(models.Model):
    """Sums over an experiment's ledger that its results are told from (noregret.learning.sums).
    Without a row they are not made yet.

    Written under the lock of the experiment's evidence.
    """

    experiment = models.OneToOneField(
        Experiment, on_delete=models.CASCADE, primary_key=True, related_name="ledger_sums"
    )
    state = models.JSONField(default=dict, help_text="noregret.learning.sums.Sums.to_dict()")
    base = models.JSONField(default=dict, help_text="The same of days that the ledger no longer has.")
    # Nothing enters any more, and the rows of units are gone.
    final = models.BooleanField(default=False)

    class Meta:
        verbose_name_plural = "ledger sums"

    def __str__(self) -> str:
        return f"sums over the ledger of experiment {self.experiment_id}"


class _OfUnit(models.Model):
    """What a unit earned in one part of an experiment's outcomes: an arm, by its id, or a side of
    the holdout.

    `total` is of outcomes taken from the part's level; `weight` and `weighted` sum the weights by
    logged probabilities, and outcomes times them.
    """

    pk = models.CompositePrimaryKey("experiment_id", "part", "unit")
    experiment_id = models.BigIntegerField()
    part = models.BigIntegerField()
    unit = models.CharField(max_length=256)
    count = models.FloatField()
    total = models.FloatField()
    weight = models.FloatField()
    weighted = models.FloatField()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.unit} in experiment {self.experiment_id}"


class UnitOutcomes(_OfUnit):
    """Of every outcome that entered."""

    class Meta:
        verbose_name_plural = "outcomes of units"


class UnitBase(_OfUnit):
    """Of days that the ledger no longer has: from here a rebuild goes on."""


class WatchedMetric(models.Model):
    """How far the sums of a guardrail have come (learning.watched.watching), and those that compare
    an arm with the control."""

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="watched")
    key = models.CharField(max_length=300, help_text="noregret.learning.watched.watches.Watch.key")
    # Values of decisions before this instant are in the sums; those after it are added later, in
    # pieces.
    summed_until = models.DateTimeField(null=True)
    compared_until = models.DateTimeField(null=True)
    compared = models.JSONField(default=dict, help_text="bandits.inference.strata by arm id")
    base = models.JSONField(default=dict, help_text="noregret.learning.kept_watches.Summed of days that were dropped")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["experiment", "key"], name="watched_metric_unique")]

    def __str__(self) -> str:
        return f"{self.key} of experiment {self.experiment_id}"


class WatchedValues(models.Model):
    """A metric's values for one arm, and what the bets on their mean have won
    (bandits.inference.betting)."""

    watched = models.ForeignKey(WatchedMetric, on_delete=models.CASCADE, related_name="values_by_arm")
    arm = models.ForeignKey(Arm, on_delete=models.CASCADE, related_name="+")
    count = models.PositiveBigIntegerField(default=0)
    mean = models.FloatField(default=0.0)
    lowest = models.FloatField(default=0.0)
    highest = models.FloatField(default=0.0)
    above = ArrayField(models.FloatField(), default=list, help_text="That the mean is more than the guardrail's max.")
    below = ArrayField(models.FloatField(), default=list, help_text="That it is less than its min.")

    class Meta:
        verbose_name_plural = "watched values"
        constraints = [models.UniqueConstraint(fields=["watched", "arm"], name="watched_values_unique")]

    def __str__(self) -> str:
        return f"arm {self.arm_id}: {self.count} values"


class ShadowStatistics(models.Model):
    """A challenger's predictions on copies beside the champion's
    (noregret.learning.shadow_sums)."""

    arm = models.OneToOneField(Arm, on_delete=models.CASCADE, primary_key=True, related_name="shadow_statistics")
    # Predictions on decisions before this instant, and their outcomes, are in the sums; those after
    # it are added later, in pieces.
    summed_until = models.DateTimeField(null=True)
    sums = models.JSONField(default=dict, help_text="noregret.learning.shadow_sums.ShadowSums")
    base = models.JSONField(default=dict, help_text="The same of days that were dropped.")

    class Meta:
        verbose_name_plural = "shadow statistics"

    def __str__(self) -> str:
        return f"shadow statistics of arm {self.arm_id}"


class BaselineInterval(models.Model):
    """What a baseline's champion did in the hour from `start`; or, `merged`, in all hours before
    `start`.

    Written under the lock of the baseline's row (noregret.learning.baselines).
    """

    baseline = models.ForeignKey(Baseline, on_delete=models.CASCADE, related_name="intervals")
    start = models.DateTimeField()
    merged = models.BooleanField(default=False)
    decisions = models.PositiveBigIntegerField(default=0)
    failures = models.PositiveBigIntegerField(default=0)
    cached = models.PositiveBigIntegerField(default=0, db_default=0)
    latencies = ArrayField(models.BigIntegerField(), default=list)
    rewards = models.PositiveBigIntegerField(default=0)
    reward_total = models.FloatField(default=0.0)
    reward_m2 = models.FloatField(default=0.0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["baseline", "merged", "start"], name="baseline_interval_unique"),
            models.UniqueConstraint(
                fields=["baseline"], condition=models.Q(merged=True), name="one_merged_interval_per_baseline"
            ),
        ]

    def __str__(self) -> str:
        return f"baseline {self.baseline_id} from {self.start:%Y-%m-%d %H:%M}"

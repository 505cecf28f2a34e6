"""Endpoints, the history of their champions, experiments and their arms."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from noregret.names import NAME_MAX_LENGTH, validate_name
from noregret.registry.models import ModelVersion

from . import lifecycle, stored


class Endpoint(models.Model):
    """The stable name that clients call; it always has a champion."""

    name = models.CharField(max_length=NAME_MAX_LENGTH, unique=True, validators=[validate_name])
    champion = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+")
    deadline_ms = models.PositiveIntegerField(
        "deadline in ms", default=300, validators=[MinValueValidator(1), MaxValueValidator(60_000)]
    )
    sticky = models.BooleanField(default=False)
    # The share of decisions that is recorded while no experiment runs, and what feedback on them
    # is: None where nobody said.
    record = models.FloatField(default=1.0, db_default=1.0, validators=[MinValueValidator(0.0), MaxValueValidator(1.0)])
    reward = models.JSONField(null=True, blank=True)
    # What web processes keep of its models' answers (experiments.caching); None: nothing.
    cache = models.JSONField(null=True, blank=True)
    # How requests at the same time are computed together (experiments.batches); None: each by
    # itself.
    batch = models.JSONField(null=True, blank=True)
    # Grows by one with every published snapshot: answers and decisions carry it as
    # `policy_version`.
    policy_version = models.PositiveBigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class ChampionChange(models.Model):
    """One model version's accession as champion of an endpoint, and the evidence for it."""

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="champion_changes")
    champion = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+")
    previous = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+", null=True)
    experiment = models.ForeignKey("Experiment", on_delete=models.SET_NULL, null=True, related_name="+")
    actor = models.CharField(max_length=150)
    reason = models.TextField(blank=True, default="")
    evidence = models.JSONField(default=dict, blank=True)
    # A rollback names the change that it undid, so that a second rollback goes one further back.
    undoes = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.endpoint_id}: {self.champion_id} at {self.at:%Y-%m-%d %H:%M:%S}"


class Baseline(models.Model):
    """What one champion does while no experiment runs: from when on it is recorded, and what
    feedback on it is.

    Its number is taken from the numbers of experiments, so that a row of the ledger names one or
    the other. There is one open baseline an endpoint; a new champion, another reward or another
    share begins the next.
    """

    id = models.BigIntegerField(primary_key=True)
    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="baselines")
    champion = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+")
    record = models.FloatField()
    reward = models.JSONField(null=True)
    begun_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(
                fields=["endpoint"], condition=models.Q(ended_at__isnull=True), name="one_open_baseline_per_endpoint"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.champion_id} on {self.endpoint_id} since {self.begun_at:%Y-%m-%d %H:%M:%S}"


class Experiment(models.Model):
    """One rollout on an endpoint. What it does is set when it starts; later only its status
    moves. A draft can be changed (rollout.drafts)."""

    class Strategy(models.TextChoices):
        SHADOW = "shadow", "Shadow"
        CANARY = "canary", "Canary"
        AB = "ab", "A/B"
        BANDIT = "bandit", "Bandit"

    Status = lifecycle.Status
    Outcome = lifecycle.Outcome

    name = models.CharField(max_length=NAME_MAX_LENGTH, unique=True, validators=[validate_name])
    endpoint = models.ForeignKey(Endpoint, on_delete=models.PROTECT, related_name="experiments")
    strategy = models.CharField(max_length=16, choices=Strategy)
    status = models.CharField(max_length=16, choices=Status, default=Status.DRAFT)
    outcome = models.CharField(max_length=16, choices=Outcome, null=True, blank=True)
    promoted_arm = models.ForeignKey("Arm", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    # The parts of an experiment's document, complete with their defaults, in the form of
    # experiments.document. They are read by the names with a line after them, below, as values.
    policy = models.JSONField(null=True, blank=True)
    reward = models.JSONField(default=dict)
    promotion = models.JSONField(null=True, blank=True)
    context = models.JSONField(null=True, blank=True)
    canary = models.JSONField(null=True, blank=True)
    shadow = models.JSONField(null=True, blank=True)
    guardrails = models.JSONField(default=list, db_default=[], blank=True)
    schedule = models.JSONField(null=True, blank=True)
    sticky = models.BooleanField(default=False, db_default=False)
    holdout = models.FloatField(default=0.0, db_default=0.0)
    # The policy chooses, and its choice is recorded; the control serves.
    apprentice = models.BooleanField(default=False, db_default=False)
    # What devices decided counts like what was decided here. False: it is kept beside it, and
    # teaches nothing.
    edge_evidence = models.BooleanField(default=True, db_default=True)
    # Those among them whose request excluded arms, too.
    edge_exclusions = models.BooleanField(default=False, db_default=False)
    # A canary's step, from 0, and since when it bakes.
    canary_step = models.PositiveSmallIntegerField(null=True, blank=True)
    canary_since = models.DateTimeField(null=True, blank=True)
    # What was recommended to people where the experiment does not act by itself: told once.
    asked = models.CharField(max_length=160, default="", db_default="", blank=True)
    # Grows by one with each change of the draft: who saw another one changes and starts nothing.
    revision = models.PositiveIntegerField(default=0, db_default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    policy_ = stored.Decoded("policy", stored.policy)
    reward_ = stored.Decoded("reward", stored.reward)
    promotion_ = stored.Decoded("promotion", stored.promotion)
    context_ = stored.Decoded("context", stored.context)
    canary_ = stored.Decoded("canary", stored.canary)
    shadow_ = stored.Decoded("shadow", stored.shadow)
    guardrails_ = stored.Decoded("guardrails", stored.guardrails)
    schedule_ = stored.Decoded("schedule", stored.schedule)

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(
                fields=["endpoint"],
                condition=models.Q(status="running"),
                name="one_running_experiment_per_endpoint",
            ),
            models.CheckConstraint(
                condition=models.Q(status="completed", outcome__isnull=False, ended_at__isnull=False)
                | (~models.Q(status="completed") & models.Q(outcome__isnull=True, ended_at__isnull=True)),
                name="experiment_outcome_when_completed",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Arm(models.Model):
    """A model version's seat in an experiment. Its position is its index in every vector of the
    experiment."""

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="arms")
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=NAME_MAX_LENGTH, validators=[validate_name])
    model = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+")
    weight = models.FloatField(null=True, blank=True)
    payload = models.JSONField(null=True, blank=True)
    cost = models.FloatField(default=0.0, db_default=0.0)
    is_control = models.BooleanField(default=False)
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ("experiment", "position")
        constraints = [
            models.UniqueConstraint(fields=["experiment", "name"], name="arm_name_unique"),
            models.UniqueConstraint(fields=["experiment", "position"], name="arm_position_unique"),
            models.UniqueConstraint(
                fields=["experiment"], condition=models.Q(is_control=True), name="one_control_per_experiment"
            ),
        ]

    def __str__(self) -> str:
        return self.name

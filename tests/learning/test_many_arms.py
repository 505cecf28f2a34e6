"""A hundred arms: what is known of them is compact, is written as rarely as it may be, and no lock
is held while they are weighed."""

import json
import threading
import zlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import F
from noregret.experiments.models import Endpoint, Experiment
from noregret.learning import closing, mature, packed
from noregret.learning.models import ArmStatistics, ExperimentEvidence
from noregret.learning.rebuild import rebuild
from noregret.redis_client import client, keys
from noregret.rollout.publish import build, publish_endpoint
from noregret.steering import pending
from noregret.steering.round import learn

from bandits.arm_models import ArmModels
from bandits.inference import evidence
from bandits.inference.evidence import Bucket
from bandits.inference.sample_ratio import SampleRatio
from bandits.policies import make_contextual
from bandits.reward import RewardModel
from serving.snapshot import decode_endpoint
from tests.conftest import endpoint_of, start_experiment, static_model
from tests.learning.past_traffic import begin_earlier, fill

Start = Callable[..., Experiment]
ARMS = 100


def hundred(**changes: Any) -> Experiment:
    """A running bandit with a hundred arms."""
    for i in range(ARMS):
        static_model("page", f"v{i}")
    endpoint_of("pages", "page@v0")
    body: dict[str, Any] = {
        "name": "e",
        "endpoint": "pages",
        "strategy": "bandit",
        "arms": [{"name": f"a{i}", "model": f"page@v{i}"} for i in range(ARMS)],
    }
    return start_experiment(body | changes)


def evidence_of(rule: str, indifference: float) -> dict[str, Any]:
    """Ten buckets of a thousand decisions among a hundred arms."""
    rng = np.random.default_rng(0)
    found = evidence.empty(rule, ARMS, indifference)
    for bucket in range(10):
        shares = 0.5 * rng.dirichlet(np.ones(ARMS)) + 0.5 / ARMS
        arm = rng.choice(ARMS, p=shares, size=1000)
        outcome = (rng.random(1000) < 0.1 + 0.002 * arm).astype(np.float64)
        if rule == "design":
            outcome = rng.random(1000)
        found = found.observe(Bucket(arm, outcome, np.tile(shares, (1000, 1)), np.full(1000, bucket)))
    return found.to_dict()


def models_of(policy: str, features: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    models = ArmModels(make_contextual(policy), RewardModel("binary"), ARMS, features)
    models.learn(rng.integers(0, ARMS, 5000), rng.random((5000, features)), (rng.random(5000) < 0.3).astype(np.float64))
    return models.to_dict()


def split_of() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(ARMS), 5000)
    return SampleRatio.zeros(ARMS).observe(rng.integers(0, ARMS, 5000), shares).to_dict()


@pytest.mark.parametrize(
    ("made", "most"),
    [
        (lambda: evidence_of("conditional", 0.0), 0.8),
        (lambda: evidence_of("conditional", 0.01), 0.8),
        (lambda: evidence_of("design", 0.0), 0.8),
        (lambda: evidence_of("weighted", 0.0), 0.8),
        (lambda: models_of("lin-ucb", 20), 0.4),
        (lambda: models_of("logistic-thompson", 20), 0.4),
        (split_of, 0.45),
    ],
)
def test_sums_of_a_hundred_arms__packed__are_the_same_numbers_in_less_room(
    made: Callable[[], dict[str, Any]], most: float
) -> None:
    document = made()
    body = packed.pack(document)
    assert packed.unpack(body) == document
    assert len(body) < most * len(json.dumps(document))


@pytest.mark.parametrize("body", [b"", b"x", b"{", zlib.compress(b"\xc1")])
def test_packed__what_is_neither__is_told(body: bytes) -> None:
    with pytest.raises(ValueError, match="packed document"):
        packed.unpack(body)


def test_migration__rows_of_before_are_read__and_rows_of_now_are_given_back(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 1})
    begin_earlier(experiment)
    fill(experiment, {"a": (20, 10), "b": (10, 20)})
    learn(experiment.endpoint_id)
    held = ExperimentEvidence.objects.get()
    documents = (held.state, held.answers, held.split, held.learned)
    assert held.state["matured"]["count"] == [30.0, 30.0]
    call_command("migrate", "learning", "0004", verbosity=0)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT state, answers, split, learned FROM learning_experimentevidence")
            assert tuple(json.loads(text) for text in cursor.fetchone()) == documents
    finally:
        call_command("migrate", verbosity=0)
    held = ExperimentEvidence.objects.get()
    assert (held.state, held.answers, held.split, held.learned) == documents  # as JSON, until it is written anew
    fill(experiment, {"a": (2, 1), "b": (1, 2)})
    learn(experiment.endpoint_id)
    assert rebuild(experiment, write=False) == []


def test_evidence__bucket_without_a_row__writes_no_sums(two_arms: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 1})
    begin_earlier(experiment)
    fill(experiment, {"a": (20, 10), "b": (10, 20)})
    learn(experiment.endpoint_id)
    written: list[dict[str, Any]] = []
    packing = packed.pack
    monkeypatch.setattr(packed, "pack", lambda document: written.append(document) or packing(document))
    later = mature.clock.now() + timedelta(seconds=60)
    monkeypatch.setattr(mature.clock, "now", lambda: later)
    closed = ExperimentEvidence.objects.get().closed_until
    learn(experiment.endpoint_id)
    assert ExperimentEvidence.objects.get().closed_until > closed  # type: ignore[operator]
    assert written == []


def test_evidence__hundred_arms__is_written_every_ten_seconds__and_at_once_at_the_end(
    platform: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = hundred(reward={"kind": "binary", "window_seconds": 1})
    begin_earlier(experiment, 60)
    learn(experiment.endpoint_id)
    held = ExperimentEvidence.objects.get()
    first = held.closed_until
    assert first is not None
    beginning = mature.clock.now()

    def closed_after(seconds: float) -> float:
        monkeypatch.setattr(mature.clock, "now", lambda: beginning + timedelta(seconds=seconds))
        found = pending.find()
        learn(experiment.endpoint_id)
        until = ExperimentEvidence.objects.get().closed_until
        assert until is not None
        # A round is asked for when it closes something, and then only; and what rests is no lag.
        assert found.learn == ([experiment.endpoint_id] if until > first else [])
        assert found.lagging == {}
        return (until - first).total_seconds()

    assert closed_after(5.0) == 0.0
    assert closed_after(12.0) in (11.0, 12.0, 13.0)
    Experiment.objects.filter(pk=experiment.pk).update(
        status="completed", outcome="stopped", ended_at=beginning + timedelta(seconds=12)
    )
    experiment.refresh_from_db()
    assert closing.least_step(experiment, ARMS) == timedelta(seconds=1)


@pytest.mark.parametrize(
    ("window", "arms", "seconds"), [(1, 2, 1), (60, 30, 1), (60, 100, 10), (1000, 180, 50 / 1.5), (3600, 100, 60)]
)
def test_step__is_of_whole_buckets(window: int, arms: int, seconds: float) -> None:
    experiment = Experiment(reward={"window_seconds": window})
    assert closing.least_step(experiment, arms).total_seconds() == pytest.approx(seconds, abs=1e-4)


def test_snapshot__while_it_is_built__the_endpoint_can_be_changed__and_the_later_version_stays(
    platform: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred arms take their time to be weighed: whoever changes the endpoint meanwhile does not
    wait, and is not undone."""
    from noregret.rollout import publish

    experiment = hundred()
    before = Endpoint.objects.get().policy_version
    begun, changed = threading.Event(), threading.Event()
    weigh = publish.propensities

    def slowly(*args: Any) -> Any:
        if threading.current_thread() is builder:
            begun.set()
            assert changed.wait(10.0)
        return weigh(*args)

    def publish_and_close() -> None:
        try:
            publish_endpoint(experiment.endpoint_id)
        finally:
            connection.close()

    monkeypatch.setattr(publish, "propensities", slowly)
    builder = threading.Thread(target=publish_and_close)
    with transaction.atomic():
        Endpoint.objects.update(policy_version=F("policy_version") + 1)
    builder.start()
    assert begun.wait(10.0)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '2s'")
        endpoint = Endpoint.objects.select_for_update().get()  # raises where the builder holds it
        Endpoint.objects.filter(pk=endpoint.pk).update(deadline_ms=123)
        publish.publish_endpoint_on_commit(endpoint.pk)
    changed.set()
    builder.join()
    held = decode_endpoint(client().hget(keys().snapshot("pages"), "body"))  # type: ignore[arg-type]
    assert (held.version, held.deadline_ms) == (before + 2, 123)
    assert pending.find().publish == []


def test_snapshot__what_is_learned_while_it_is_built__is_in_none_of_it_or_in_all(
    two_arms: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One state of the database, though no lock is held: not one arm's rewards of before and the
    other's of after."""
    from noregret.rollout import publish

    experiment = two_arms()
    fill(experiment, {"a": (5, 5), "b": (5, 5)})
    learn(experiment.endpoint_id)
    known = publish.known_to_policy

    def and_meanwhile(*args: Any) -> Any:
        found = known(*args)
        thread = threading.Thread(target=_learn_more)
        thread.start()
        thread.join()
        return found

    def _learn_more() -> None:
        try:
            with transaction.atomic():
                ArmStatistics.objects.update(rewards=F("rewards") + 100)
                Endpoint.objects.update(policy_version=F("policy_version") + 1)
        finally:
            connection.close()

    version = Endpoint.objects.get().policy_version
    monkeypatch.setattr(publish, "known_to_policy", and_meanwhile)
    made = build(experiment.endpoint_id)
    assert made.version == version
    assert [arm.count for arm in made.experiment.arms] == [10.0, 10.0]  # type: ignore[union-attr]


def test_snapshot__within_a_transaction__is_refused(two_arms: Start) -> None:
    experiment = two_arms()
    with transaction.atomic(), pytest.raises(RuntimeError, match="after the transaction"):
        build(experiment.endpoint_id)

"""Shadow challengers: they see copies, nobody sees them, and what they say is held against the
champion and the truth."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from noregret.experiments.models import Experiment
from noregret.learning import shadow_sums, shadows
from noregret.learning.models import ExperimentEvidence, ShadowStatistics
from noregret.learning.rebuild import rebuild
from noregret.learning.shadow_sums import LARGEST
from noregret.redis_client import client, keys
from noregret.registry.frameworks import PythonDefinition
from noregret.registry.frameworks.given_columns import GivenColumn
from noregret.registry.register import register_model
from noregret.rollout.transitions import move
from noregret.steering import pending
from noregret.steering.round import learn

from serving.models import Decision, Reward, ShadowPrediction
from serving.process import process
from serving.shadowing import QUEUE, VERSION, Shadower, ShadowEvent
from tests.conftest import Api, endpoint_of, python_model, start_experiment, static_model
from tests.learning.told import compared, results

pytestmark = pytest.mark.django_db(transaction=True)

PREDICT = "/api/v1/endpoints/pages/predict"


def shadow(*challengers: str, **changes: Any) -> Experiment:
    endpoint_of("pages", python_model("m", "champion", "sums"))
    arms = [
        {"name": function.replace("_", "-"), "model": python_model("m", function.replace("_", "-"), function)}
        for function in challengers
    ]
    return start_experiment({"name": "e", "endpoint": "pages", "strategy": "shadow", "arms": arms, **changes})


def copied(n: int) -> None:
    """Wait until so many copies have reached the stream."""
    for _ in range(200):
        if client().xlen(keys().shadows("pages")) >= n:
            return
        time.sleep(0.02)
    raise AssertionError(f"{client().xlen(keys().shadows('pages'))} of {n} copies came")


def test_shadow__challengers__are_compared_and_never_answered(alice: Api) -> None:
    experiment = shadow("nearly_sums", "raises")
    answers = [alice.post(PREDICT, {"inputs": [[float(i), 0.0]], "unit": f"u{i}"}).body for i in range(40)]
    assert {answer["arm"] for answer in answers} == {"control"}
    assert {answer["model"] for answer in answers} == {"m@champion"}
    assert [answer["outputs"]["predict"][0] for answer in answers] == [float(i) for i in range(40)]
    assert all(answer["propensity"] == 1.0 for answer in answers)
    for i, answer in enumerate(answers):
        said = alice.post("/api/v1/feedback", {"decision_id": answer["decision_id"], "metric": "outcome", "value": i})
        assert said.status == 202
    copied(40)
    assert shadows.mirror(experiment) == 80
    assert client().xlen(keys().shadows("pages")) == 0
    learn(experiment.endpoint_id)
    assert Decision.objects.count() == 40
    shown = {arm["name"]: arm for arm in results(experiment)["arms"]}
    nearly = shown["nearly-sums"]
    assert nearly["agreement"] == 0.5
    assert nearly["mean_absolute_difference"] == pytest.approx(0.125)
    assert nearly["decisions"] == 0
    details = nearly["shadow"]
    assert (details["predictions"], details["errors"]) == (40, 0)
    assert sum(row["count"] for row in details["histogram"]) == 40
    assert details["histogram"][0]["count"] == details["histogram"][-1]["count"] == 20
    assert len(details["examples"]) == 10
    assert details["examples"][0]["predicted"][0] == details["examples"][0]["champion"][0] + 0.25
    assert details["outcomes"] == {
        "count": 40,
        "accuracy": 0.5,
        "champion_accuracy": 1.0,
        "mean_absolute_error": pytest.approx(0.125),
        "champion_mean_absolute_error": 0.0,
    }
    failing = shown["raises"]["shadow"]
    assert (failing["error_rate"], failing["agreement"]) == (1.0, None)
    assert shown["control"]["agreement"] is None
    over_http = alice.get("/api/v1/experiments/e/results").body
    assert [arm["agreement"] for arm in over_http["arms"]] == [None, 0.5, None]
    assert "promote by hand" in over_http["recommendation"]["reason"]
    promoted = alice.post("/api/v1/experiments/e/promote", {"arm": "nearly-sums"})
    assert (promoted.status, promoted["outcome"]) == (200, "promoted")


def test_apprentice__its_choices__are_scored_on_what_was_true(alice: Api) -> None:
    """The champion is off where sums are odd, the challenger is right: an apprentice that chooses
    it half of the time is half as wrong."""
    endpoint_of("pages", python_model("m", "champion", "nearly_sums"))
    arms = [{"name": "new", "model": python_model("m", "new", "sums")}]
    experiment = start_experiment(
        {
            "name": "e",
            "endpoint": "pages",
            "strategy": "bandit",
            "arms": arms,
            "policy": {"name": "uniform"},
            "apprentice": True,
        }
    )
    answers = [alice.post(PREDICT, {"inputs": [[float(i)]], "unit": f"u{i}"}).body for i in range(60)]
    assert {answer["model"] for answer in answers} == {"m@champion"}
    for i, answer in enumerate(answers):
        alice.post("/api/v1/feedback", {"decision_id": answer["decision_id"], "metric": "outcome", "value": i})
    copied(60)
    assert shadows.rounds() == 60
    learn(experiment.endpoint_id)
    chosen = dict(Decision.objects.values_list("id", "proposed_arm_id"))
    shown = results(experiment)["apprentice"]
    assert shown["outcomes"]["count"] == len(chosen) == 60
    assert shown["outcomes"]["control_accuracy"] == 0.5
    assert 0.6 < shown["outcomes"]["accuracy"] < 0.9
    assert shown["shares"]["new"] == pytest.approx(0.5, abs=0.26)


def test_shadow__sample__is_the_share_that_is_copied(alice: Api) -> None:
    shadow("nearly_sums", shadow={"sample": 0.3})
    for i in range(300):
        alice.post(PREDICT, {"inputs": [[float(i)]]})
    copied(60)
    time.sleep(0.3)
    assert abs(client().xlen(keys().shadows("pages")) - 90) <= 4 * (300 * 0.3 * 0.7) ** 0.5


def test_shadow__mirrored_twice__is_kept_once(alice: Api) -> None:
    experiment = shadow("nearly_sums")
    alice.post(PREDICT, {"inputs": [[1.0]]})
    copied(1)
    stream = keys().shadows("pages")
    entries: Any = client().xrange(stream)
    shadows.mirror(experiment)
    client().xadd(stream, entries[0][1])
    client().xadd(stream, {"d": b"damaged"})
    shadows.mirror(experiment)
    assert ShadowPrediction.objects.count() == 1
    assert client().xlen(stream) == 0


def test_shadow__challenger_that_leaks__ends_the_round_for_its_process_to_be_replaced(
    alice: Api, settings: Any
) -> None:
    import psutil

    experiment = shadow("leaks")
    for i in range(6):
        alice.post(PREDICT, {"inputs": [[float(i)]]})
    copied(6)
    settings.SHADOW_MEMORY_BYTES = psutil.Process().memory_info().rss + 75 * 2**20
    assert shadows.mirror(experiment) == 2  # the second call passed the limit
    assert client().xlen(keys().shadows("pages")) == 4
    from tests import callables

    callables._KEPT.clear()


def test_shadow__labels_that_are_texts__agree_or_not(alice: Api) -> None:
    assert shadows.difference(["a"], ["a"]) is None
    assert shadows.difference([1, 2], [1]) is None
    assert shadows.difference([1, 2], [1, 4]) == 1.0


def test_shadow__predictions_that_no_difference_holds__are_bounded_and_agreement_is_counted(alice: Api) -> None:
    assert shadows.difference([1e308], [-1e308]) == shadows.difference([1e308] * 3, [-1e308] * 3) == LARGEST
    assert shadows.difference([1e308, 0.0], [-1e308, 0.0]) == LARGEST / 2
    assert shadows.difference([10**400], [1.0]) is None
    experiment = shadow("far_off")
    for i in range(10):
        alice.post(PREDICT, {"inputs": [[float(i % 2)]]})
    copied(10)
    assert shadows.mirror(experiment) == 10
    learn(experiment.endpoint_id)
    shown = alice.get("/api/v1/experiments/e/results")
    assert shown.status == 200
    far = next(arm for arm in shown["arms"] if arm["name"] == "far-off")
    assert (far["agreement"], far["mean_absolute_difference"]) == (0.5, pytest.approx(5e307))
    assert [each["count"] for each in far["shadow"]["histogram"]] == [5, *[0] * 18, 5]
    assert rebuild(experiment, write=False) == []


def test_shadow__outcomes_before_and_after_their_predictions__are_scored_once(alice: Api) -> None:
    experiment = shadow("nearly_sums")
    answers = [alice.post(PREDICT, {"inputs": [[float(i)]]}).body for i in range(8)]

    def tell(which: slice) -> None:
        for i, answer in list(enumerate(answers))[which]:
            body = {"decision_id": answer["decision_id"], "metric": "outcome", "value": i}
            assert alice.post("/api/v1/feedback", body).status == 202

    copied(8)
    tell(slice(0, 4))
    learn(experiment.endpoint_id)
    shadows.mirror(experiment)
    tell(slice(4, 8))
    learn(experiment.endpoint_id)
    learn(experiment.endpoint_id)
    shown = next(each for each in compared(experiment).values())
    assert (shown["outcomes"]["count"], shown["outcomes"]["accuracy"]) == (8, 0.5)
    assert rebuild(experiment, write=False) == []


def test_shadow__label_that_comes_long_after_the_end__is_scored(alice: Api) -> None:
    experiment = shadow("nearly_sums", reward={"kind": "binary", "window_seconds": 1})
    answer = alice.post(PREDICT, {"inputs": [[2.0]]}).body
    copied(1)
    shadows.mirror(experiment)
    learn(experiment.endpoint_id)
    move(experiment, "stop", actor="tests")
    ended = timezone.now() - timedelta(days=2)
    Experiment.objects.filter(pk=experiment.pk).update(ended_at=ended)
    ExperimentEvidence.objects.filter(experiment=experiment).update(closed_until=timezone.now())
    assert experiment.endpoint_id not in pending.find().learn
    time.sleep(1.1)
    told = alice.post("/api/v1/feedback", {"decision_id": answer["decision_id"], "metric": "outcome", "value": 2})
    assert told["status"] == "late"
    assert experiment.endpoint_id in pending.find().learn
    learn(experiment.endpoint_id)
    assert next(iter(compared(experiment).values()))["outcomes"]["count"] == 1
    assert experiment.endpoint_id not in pending.find().learn


def test_shadow__predictions_of_an_earlier_version__are_gone_through_once_and_shown_when_they_are(
    alice: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = shadow("nearly_sums")
    answers = [alice.post(PREDICT, {"inputs": [[float(i)]]}).body for i in range(30)]
    for i, answer in enumerate(answers):
        alice.post("/api/v1/feedback", {"decision_id": answer["decision_id"], "metric": "outcome", "value": i})
    copied(30)
    shadows.mirror(experiment)
    learn(experiment.endpoint_id)
    before = compared(experiment)
    ShadowStatistics.objects.all().delete()  # as before there were any
    assert compared(experiment) == {}
    monkeypatch.setattr(shadow_sums, "PIECE", 10)
    monkeypatch.setattr(shadow_sums, "ROUND_SECONDS", 0.0)
    learn(experiment.endpoint_id)
    assert compared(experiment) == {}
    for _ in range(4):
        learn(experiment.endpoint_id)
    (was,), (now,) = before.values(), compared(experiment).values()
    assert now["outcomes"] == pytest.approx(was["outcomes"])
    assert now["mean_absolute_difference"] == pytest.approx(was["mean_absolute_difference"])
    for figure in ("predictions", "agreement", "latency_ms", "histogram", "examples"):
        assert now[figure] == was[figure]
    assert rebuild(experiment, write=False) == []


def test_rebuild__sums_of_a_shadow__are_checked_and_made_anew(alice: Api) -> None:
    experiment = shadow("nearly_sums")
    for i in range(10):
        alice.post(PREDICT, {"inputs": [[float(i)]]})
    copied(10)
    shadows.mirror(experiment)
    learn(experiment.endpoint_id)
    before = compared(experiment)
    row = ShadowStatistics.objects.get(arm__is_control=False)
    ShadowStatistics.objects.filter(pk=row.pk).update(sums=row.sums | {"agreed": 9})
    assert rebuild(experiment, write=True) == [
        "nearly-sums: what its predictions on copies sum up to differs from the ledger's"
    ]
    assert compared(experiment) == before


def test_shadower__queue_that_is_full__drops_and_does_not_wait() -> None:
    """Nobody sends: who waited for room would wait for ever."""
    event = ShadowEvent(VERSION, b"x" * 16, 1, [[1.0]], [1], 1.0)
    one = Shadower(client(), keys())
    one._thread = object()  # type: ignore[assignment]  # nobody sends
    assert all(one.offer("pages", event) for _ in range(QUEUE))
    assert not any(one.offer("pages", event) for _ in range(1000))
    assert len(one._waiting) == QUEUE


def test_shadow__decide_without_inputs__has_nothing_to_copy(alice: Api) -> None:
    static_model("x", "1")
    shadow("nearly_sums")
    alice.post("/api/v1/endpoints/pages/decide", {})
    process().shadower._send()
    assert client().xlen(keys().shadows("pages")) == 0
    assert Reward.objects.count() == 0


def test_shadow__rows_of_columns__are_the_challengers_as_they_came(alice: Api) -> None:
    columns = [GivenColumn("word", "string"), GivenColumn("times", "integer", nullable=True)]
    for version in ("champion", "same"):
        definition = PythonDefinition(name="m", version=version, callable="tests.callables.lengths", columns=columns)
        register_model(definition, actor="test")
    endpoint_of("pages", "m@champion")
    arms = [{"name": "same", "model": "m@same"}, {"name": "other", "model": python_model("m", "other", "zeros")}]
    experiment = start_experiment({"name": "e", "endpoint": "pages", "strategy": "shadow", "arms": arms})
    for times in (None, 2, 2**53):
        answer = alice.post(PREDICT, {"inputs": [["é日本", times], {"word": "", "times": 1}]})
        assert answer["learnable"], answer.content
    copied(3)
    assert shadows.mirror(experiment) == 6
    ids = {arm.name: arm.pk for arm in experiment.arms.all()}
    kept = sorted(ShadowPrediction.objects.values_list("arm_id", "agrees", "error"), key=str)
    assert kept == sorted([(ids["same"], True, None)] * 3 + [(ids["other"], False, None)] * 3, key=str)

"""Single deployments are recorded: their decisions take feedback, and make the champion's
baseline."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F
from noregret.experiments.models import Baseline, Endpoint, Experiment
from noregret.learning import baselines, clock
from noregret.learning.baseline_figures import figures, glances
from noregret.learning.models import BaselineInterval
from noregret.rollout.baselines import give_baseline, without_baseline
from noregret.rollout.endpoints import update_endpoint
from noregret.rollout.publish import publish_endpoint
from noregret.steering import pending
from noregret.steering.round import learn
from noregret.steering.tasks import tick
from noregret.trail.models import AuditEntry

from serving.models import Decision, QuarantinedEvent, Reward
from serving.process import process
from tests.conftest import ACTOR, Api, endpoint_of, start_experiment, static_model

BINARY = {"metric": "click", "kind": "binary", "window_seconds": 60}


def make(alice: Api, **fields: Any) -> None:
    made = alice.post("/api/v1/endpoints", {"name": "pages", "champion": static_model("page", "a"), **fields})
    assert made.status == 201, made.body


def decide(alice: Api, count: int) -> list[dict[str, Any]]:
    return [alice.post("/api/v1/endpoints/pages/decide", {"unit": f"u{i}"}).body for i in range(count)]


def listed(alice: Api) -> list[dict[str, Any]]:
    answer = alice.get("/api/v1/endpoints/pages/baselines")
    assert answer.status == 200, answer.body
    items: list[dict[str, Any]] = answer["items"]
    return items


def test_single__its_decisions__are_learnable_and_make_the_baseline(platform: None, alice: Api) -> None:
    make(alice, reward=BINARY)
    made = decide(alice, 4)
    assert {(one["strategy"], one["experiment"], one["arm"], one["learnable"]) for one in made} == {
        ("single", None, None, True)
    }
    for one, value in zip(made[:3], (1, 0, True), strict=True):
        assert alice.post("/api/v1/feedback", {"decision_id": one["decision_id"], "value": value}).status == 202
    endpoint = Endpoint.objects.get()
    assert learn(endpoint.pk)
    shown = listed(alice)[0]
    assert (shown["champion"], shown["decisions"], shown["rewards"], shown["error_rate"]) == ("page@a", 4, 3, 0.0)
    assert shown["mean"] == pytest.approx(2 / 3)
    assert shown["interval"][0] < 2 / 3 < shown["interval"][1]
    assert shown["latency_ms"]["p50"] > 0
    assert set(Decision.objects.values_list("experiment_id", flat=True)) == {Baseline.objects.get().pk}
    learn(endpoint.pk)  # and again: each once
    assert listed(alice)[0]["rewards"] == 3
    assert pending.find().lagging == {}


def test_single__with_a_default__silence_counts_once_windows_are_over(platform: None, alice: Api) -> None:
    make(alice, reward=BINARY | {"default": 0})
    first = decide(alice, 5)[0]
    alice.post("/api/v1/feedback", {"decision_id": first["decision_id"], "value": 1})
    endpoint = Endpoint.objects.get()
    learn(endpoint.pk)
    open_yet = figures(Baseline.objects.get())
    assert (open_yet.rewards, open_yet.mean) == (1, None)
    BaselineInterval.objects.update(start=baselines.hour_of(clock.now()) - timedelta(hours=3))
    assert figures(Baseline.objects.get()).mean == pytest.approx(1 / 5)


def test_single__record_share__is_kept_and_traffic_is_told_whole(platform: None, alice: Api) -> None:
    make(alice, record=0.5)
    made = decide(alice, 200)
    learned = sum(one["learnable"] for one in made)
    assert 65 <= learned <= 135  # five standard errors
    refused = next(one for one in made if not one["learnable"])
    assert alice.post("/api/v1/feedback", {"decision_id": refused["decision_id"], "value": 1}).status == 409
    learn(Endpoint.objects.get().pk)
    assert Decision.objects.count() == learned
    Baseline.objects.update(begun_at=clock.now() - timedelta(minutes=30))
    told = figures(Baseline.objects.get())
    assert told.decisions_per_day == pytest.approx(learned / 0.5 * 48, rel=0.01)


def test_single__record_zero__leaves_nothing(platform: None, alice: Api) -> None:
    make(alice, record=0)
    assert not any(one["learnable"] for one in decide(alice, 3))
    learn(Endpoint.objects.get().pk)
    assert (Decision.objects.count(), listed(alice)[0]["decisions_per_day"]) == (0, None)


def test_single__without_a_reward__takes_any_number(platform: None, alice: Api) -> None:
    make(alice)
    made = decide(alice, 3)
    for one, value in zip(made, (12.5, True, -3), strict=True):
        assert alice.post("/api/v1/feedback", {"decision_id": one["decision_id"], "value": value}).status == 202
    learn(Endpoint.objects.get().pk)
    assert listed(alice)[0]["mean"] == pytest.approx(10.5 / 3)


def test_single__feedback_that_its_reward_refuses__is_a_400(platform: None, alice: Api) -> None:
    make(alice, reward=BINARY)
    (one,) = decide(alice, 1)
    assert alice.post("/api/v1/feedback", {"decision_id": one["decision_id"], "value": 0.5}).status == 400
    wrong = alice("PATCH", "/api/v1/endpoints/pages", {"reward": BINARY | {"minimum": 3}})
    assert (wrong.status, wrong["errors"][0]["field"]) == (400, "reward.minimum")


def test_baseline__a_new_champion_or_reward__begins_the_next(platform: None, alice: Api) -> None:
    make(alice)
    old = decide(alice, 1)[0]
    static_model("page", "b")
    assert alice("PATCH", "/api/v1/endpoints/pages", {"champion": "page@b"}).status == 200
    assert alice("PATCH", "/api/v1/endpoints/pages", {"deadline_ms": 200}).status == 200  # is no other baseline
    assert alice("PATCH", "/api/v1/endpoints/pages", {"reward": BINARY}).status == 200
    # What the first one's decisions earn is still the first one's.
    assert alice.post("/api/v1/feedback", {"decision_id": old["decision_id"], "value": 7}).status == 202
    learn(Endpoint.objects.get().pk)
    shown = listed(alice)
    assert [(one["champion"], one["metric"], one["until"] is None) for one in shown] == [
        ("page@b", "click", True),
        ("page@b", "reward", False),
        ("page@a", "reward", False),
    ]
    assert (shown[2]["mean"], shown[0]["mean"]) == (7.0, None)


def test_baseline__while_an_experiment_runs__rests(platform: None, alice: Api) -> None:
    make(alice, reward=BINARY)
    decide(alice, 2)
    static_model("page", "b")
    made = alice.post(
        "/api/v1/experiments",
        {"name": "e", "endpoint": "pages", "strategy": "ab", "arms": [{"name": "b", "model": "page@b"}]},
    )
    assert made["reward"]["metric"] == "click"  # its endpoint's
    assert alice.post("/api/v1/experiments/e/start", {}).status == 200
    within = decide(alice, 3)
    assert {one["experiment"] for one in within} == {"e"}
    assert alice.post("/api/v1/experiments/e/pause", {}).status == 200
    assert {one["strategy"] for one in decide(alice, 1)} == {"single"}
    learn(Endpoint.objects.get().pk)
    assert listed(alice)[0]["decisions"] == 3
    assert alice.get("/api/v1/experiments/e/results")["decisions"] == 3
    assert alice.post("/api/v1/experiments/e/promote", {"arm": "b"}).status == 200
    assert [one["champion"] for one in listed(alice)] == ["page@b", "page@a"]


def test_baseline__of_an_endpoint_of_before__is_given(platform: None, alice: Api) -> None:
    endpoint = endpoint_of("pages", static_model("page", "a"))
    Baseline.objects.all().delete()
    Endpoint.objects.update(policy_version=F("policy_version") + 1)
    publish_endpoint(endpoint.pk)
    process().store.refresh(1.0)
    assert not decide(alice, 1)[0]["learnable"]  # the snapshot of before knows no baseline
    assert list(without_baseline()) == [endpoint]
    tick()
    assert not give_baseline(endpoint.pk)
    process().store.refresh(2.0)
    assert decide(alice, 1)[0]["learnable"]


def test_baseline__rebuilt__equals_the_ledger_and_mends_it(platform: None, alice: Api, capsys: Any) -> None:
    make(alice, reward={"metric": "sale", "kind": "continuous"})
    for one, value in zip(decide(alice, 20), range(1_000_000_000, 1_000_000_020), strict=False):
        alice.post("/api/v1/feedback", {"decision_id": one["decision_id"], "value": value + 0.25})
    learn(Endpoint.objects.get().pk)
    baseline = Baseline.objects.select_related("endpoint").get()
    assert baselines.rebuild(baseline, write=False) == []
    BaselineInterval.objects.update(decisions=7)
    with pytest.raises(SystemExit):
        call_command("rebuild", check=True)
    assert "7 decisions" in capsys.readouterr().out
    call_command("rebuild")
    assert figures(baseline).decisions == 20
    assert baselines.rebuild(baseline, write=False) == []


def test_baseline__hours_long_over__are_merged_and_say_the_same(platform: None, alice: Api) -> None:
    make(alice, reward=BINARY | {"default": 0})
    for one in decide(alice, 6)[:2]:
        alice.post("/api/v1/feedback", {"decision_id": one["decision_id"], "value": 1})
    learn(Endpoint.objects.get().pk)
    hour = baselines.hour_of(clock.now())
    BaselineInterval.objects.update(start=hour - timedelta(days=40))
    before = figures(Baseline.objects.get())
    assert before.mean == pytest.approx(2 / 6)
    assert baselines.merge_old_hours() == 1
    assert baselines.merge_old_hours() == 0
    assert figures(Baseline.objects.get()) == before
    assert BaselineInterval.objects.get().merged


def test_baseline__a_reward_written_by_hand_that_fits_no_sum__is_set_aside(platform: None, alice: Api) -> None:
    make(alice, reward=BINARY)
    first, second = decide(alice, 2)
    for one in (first, second):
        alice.post("/api/v1/feedback", {"decision_id": one["decision_id"], "value": 1})
    with connection.cursor() as cursor:
        cursor.execute("UPDATE serving_reward SET value = 'NaN' WHERE ctid = (SELECT ctid FROM serving_reward LIMIT 1)")
    learn(Endpoint.objects.get().pk)
    assert listed(alice)[0]["rewards"] == 1
    assert QuarantinedEvent.objects.get().stream.startswith("rewards of the baseline")
    assert baselines.rebuild(Baseline.objects.select_related("endpoint").get(), write=False) == []


def test_baseline__champion_that_fails__is_told(platform: None, alice: Api) -> None:
    make(alice)
    failed = [alice.post("/api/v1/endpoints/pages/predict", {"inputs": [[1.0]]}) for _ in range(3)]
    assert {one.status for one in failed} <= {200, 500, 502, 503}
    learn(Endpoint.objects.get().pk)
    shown = listed(alice)[0]
    assert shown["decisions"] == 3
    assert shown["error_rate"] == (0.0 if failed[0].status == 200 else 1.0)


def test_endpoint__changed_by_two_at_once__has_one_open_baseline(platform: None) -> None:
    endpoint = endpoint_of("pages", static_model("page", "a"))
    static_model("page", "b")
    for champion in ("page@b", "page@a", "page@b"):
        update_endpoint(endpoint, champion=champion, deadline_ms=None, reason="", actor=ACTOR)
    assert Baseline.objects.filter(ended_at__isnull=True).count() == 1
    assert Baseline.objects.count() == 4


def test_experiment__with_a_reward_of_its_own__keeps_it(platform: None) -> None:
    static_model("page", "b")
    endpoint = endpoint_of("pages", static_model("page", "a"))
    Endpoint.objects.filter(pk=endpoint.pk).update(reward=BINARY)
    started: Experiment = start_experiment(
        {
            "name": "e",
            "endpoint": "pages",
            "strategy": "ab",
            "arms": [{"name": "b", "model": "page@b"}],
            "reward": {"metric": "own"},
        }
    )
    assert started.reward["metric"] == "own"
    assert Reward.objects.count() == 0


def learned_pages(alice: Api, values: list[int], **fields: Any) -> None:
    make(alice, reward=BINARY, **fields)
    for one, value in zip(decide(alice, len(values)), values, strict=True):
        alice.post("/api/v1/feedback", {"decision_id": one["decision_id"], "value": value})
    learn(Endpoint.objects.get().pk)
    Baseline.objects.update(begun_at=clock.now() - timedelta(minutes=30))


def test_plan__of_an_endpoint__takes_traffic_and_mean_from_its_champion(
    platform: None, alice: Api, capsys: Any
) -> None:
    learned_pages(alice, [1, 0, 1, 0, 0])
    call_command("plan", endpoint="pages", lift=[0.5], policies=["uniform"], runs=4, days=10, json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["per_day"] == pytest.approx(5 * 48, rel=0.01)
    for wrong, said in (
        ({"endpoint": "nowhere", "lift": [0.1]}, "no endpoint"),
        ({"lift": [0.1]}, "--endpoint"),
        ({"endpoint": "pages"}, "--lift"),
        ({"arms": [0.1, 0.2]}, "--traffic"),
    ):
        with pytest.raises(CommandError, match=said):
            call_command("plan", runs=2, **wrong)


def test_plan__what_waits_in_the_stream__is_no_evidence_of_silence(platform: None, alice: Api, capsys: Any) -> None:
    make(alice, reward=BINARY)
    Baseline.objects.update(begun_at=clock.now() - timedelta(minutes=30))
    with pytest.raises(CommandError, match="has shown no traffic"):
        call_command("plan", endpoint="pages", lift=[0.5], runs=2)
    decide(alice, 2)
    with pytest.raises(CommandError, match="no traffic of pages is learned yet"):
        call_command("plan", endpoint="pages", lift=[0.5], runs=2)
    assert "2 decisions wait to be learned, and the learner gives no sign." in capsys.readouterr().err


def test_home__endpoints__tell_traffic_mean_and_latency(platform: None, alice: Api) -> None:
    learned_pages(alice, [1, 0, 1, 0])
    endpoint = Endpoint.objects.get()
    glance = glances([endpoint])[endpoint.pk]
    assert glance.decisions_per_day == pytest.approx(4 * 48, rel=0.01)
    assert glance.mean == 0.5
    assert glance.p99_ms is not None
    silent = endpoint_of("silent", "page@a")
    assert glances([silent])[silent.pk].mean is None


def test_glance__with_a_default__tells_the_mean_that_the_baseline_tells(platform: None, alice: Api) -> None:
    make(alice, reward=BINARY | {"default": 0})
    for one in decide(alice, 4)[:1]:
        alice.post("/api/v1/feedback", {"decision_id": one["decision_id"], "value": 1})
    endpoint = Endpoint.objects.get()
    learn(endpoint.pk)
    assert glances([endpoint])[endpoint.pk].mean is None
    BaselineInterval.objects.update(start=baselines.hour_of(clock.now()) - timedelta(hours=3))
    assert glances([endpoint])[endpoint.pk].mean == figures(Baseline.objects.get()).mean == 0.25


def test_experiment__at_little_traffic__is_told_to_be_long_and_its_start_says_what_was(
    platform: None, alice: Api
) -> None:
    learned_pages(alice, [1, 0])
    static_model("page", "b")
    body = {"name": "e", "endpoint": "pages", "strategy": "ab", "arms": [{"name": "b", "model": "page@b"}]}
    promotion = {"min_rewards": 10_000}
    made = alice.post("/api/v1/experiments", body | {"promotion": promotion})
    assert [said for said in made["warnings"] if "about 96 decisions a day" in said]
    alice.post("/api/v1/experiments/e/start", {})
    started = AuditEntry.objects.get(action="experiment.started").details["baseline"]
    assert (started["champion"], started["mean"], started["decisions"]) == ("page@a", 0.5, 2)

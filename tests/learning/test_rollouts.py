"""Careful ways to roll out: canaries, guardrails, schedules, holdouts, apprentices, and arms that
come and go."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from django.utils import timezone
from noregret.dashboard.deeds import taken_out
from noregret.dashboard.verdicts import setting_of, verdict
from noregret.experiments.document import Arm as ArmDocument
from noregret.experiments.errors import Conflict
from noregret.experiments.models import Endpoint, Experiment
from noregret.learning.drain import drain
from noregret.learning.models import ExperimentEvidence
from noregret.learning.rebuild import rebuild
from noregret.learning.shown import results as results_of
from noregret.learning.shown.recommendation import recommend
from noregret.rollout.arms import add_arm, set_enabled
from noregret.rollout.endpoints import update_endpoint
from noregret.rollout.publish import build
from noregret.rollout.transitions import activate, advance, move
from noregret.steering import schedule
from noregret.steering.pending import find
from noregret.steering.promotion import act
from noregret.steering.round import learn
from noregret.trail.models import AuditEntry
from past_traffic import begin_earlier, decide, fill, reward

from serving import snapshot
from serving.models import Reward
from serving.routing import router
from tests.conftest import Api, static_model
from tests.learning.told import results

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Experiment]
CANARY: dict[str, Any] = {
    "strategy": "canary",
    "arms": [{"name": "new", "model": "page@b"}],
    "canary": {"steps": [0.05, 0.25, 0.5, 1.0], "bake_seconds": 60},
    "reward": {"kind": "binary", "window_seconds": 1},
    "promotion": {"min_rewards": 0},
}


def document(experiment: Experiment) -> snapshot.Experiment:
    made = snapshot.decode_endpoint(snapshot.encode(build(experiment.endpoint_id))).experiment
    assert made is not None
    return made


def baked(experiment: Experiment) -> None:
    """As if the present step had baked."""
    Experiment.objects.filter(pk=experiment.pk).update(canary_since=timezone.now() - timedelta(hours=1))


def again(experiment: Experiment) -> Experiment:
    return Experiment.objects.select_related("endpoint__champion", "promoted_arm").get(pk=experiment.pk)


def test_canary__baked_and_quiet__advances_by_itself_to_promotion(two_arms: Start) -> None:
    experiment = two_arms(**CANARY)
    assert [arm.name for arm in experiment.arms.order_by("position")] == ["control", "new"]
    seen = []
    for _ in range(4):
        seen.append([arm.propensity for arm in document(experiment).arms])
        learn(experiment.endpoint_id)
        assert again(experiment).canary_step == len(seen) - 1  # it bakes first
        baked(experiment)
        assert experiment.endpoint_id in find().learn  # without any traffic
        for _ in range(20):
            decide(experiment, "new", seconds_ago=1)
        learn(experiment.endpoint_id)
    assert seen == [[0.95, 0.05], [0.75, 0.25], [0.5, 0.5], [0.0, 1.0]]
    ended = again(experiment)
    assert (ended.status, ended.outcome, ended.endpoint.champion.version) == ("completed", "promoted", "b")
    assert [entry.action for entry in AuditEntry.objects.filter(experiment="e").order_by("pk")][-4:] == [
        "experiment.advanced",
        "experiment.advanced",
        "endpoint.champion_changed",
        "experiment.promoted",
    ]


def test_canary__ten_thousand_units__none_that_had_it_goes_back(two_arms: Start) -> None:
    experiment = two_arms(**CANARY)
    units = [f"unit-{i}" for i in range(10_000)]
    had: set[str] = set()
    for step, weight in enumerate((0.05, 0.25, 0.5, 1.0)):
        Experiment.objects.filter(pk=experiment.pk).update(canary_step=step)
        routing = router(document(experiment))
        now = {unit for unit in units if routing.route(unit).position == 1}
        assert had <= now
        had = now
        assert abs(len(now) - 10_000 * weight) <= 4 * (10_000 * weight * (1 - weight)) ** 0.5
    assert len(had) == 10_000


def test_canary__units_that_come_again__leave_the_sample_ratio_quiet(two_arms: Start) -> None:
    experiment = two_arms(**CANARY)
    begin_earlier(experiment)
    for step, weight in enumerate((0.05, 0.25, 0.5)):
        Experiment.objects.filter(pk=experiment.pk).update(canary_step=step)
        routing = router(document(experiment))
        for i in range(150):
            arm = "new" if routing.route(f"unit-{i}").position == 1 else "control"
            decide(
                experiment,
                arm,
                seconds_ago=60 - 10 * step,
                unit=f"unit-{i}",
                share=weight if arm == "new" else 1 - weight,
            )
    learn(experiment.endpoint_id)
    ratio = results(again(experiment))["comparison"]["sample_ratio_p"]
    assert ratio is not None
    assert ratio > 0.001


def test_canary__control_shown_to_be_better__rolls_back_whoever_promotes(two_arms: Start) -> None:
    experiment = two_arms(**CANARY | {"promotion": {"auto": False, "min_rewards": 0}})
    begin_earlier(experiment)
    fill(experiment, {"control": (130, 20), "new": (30, 120)})
    learn(experiment.endpoint_id)
    ended = again(experiment)
    assert (ended.status, ended.outcome, ended.endpoint.champion.version) == ("completed", "rolled_back", "a")
    assert "control beats new" in AuditEntry.objects.get(action="experiment.rolled_back").reason


def test_canary__indifference__waits_until_it_is_shown_not_worse(two_arms: Start) -> None:
    experiment = two_arms(**CANARY | {"promotion": {"indifference": 0.1, "min_rewards": 0}})
    begin_earlier(experiment)
    Experiment.objects.filter(pk=experiment.pk).update(canary_step=2)
    baked(experiment)
    for _ in range(20):
        decide(experiment, "new", seconds_ago=1)
    drain(experiment.endpoint)
    waiting = again(experiment)
    assert "waits to show that new is less than 10.0% worse" in results(waiting)["recommendation"]["reason"]
    assert not act(waiting)
    fill(experiment, {"control": (450, 450), "new": (460, 440)})
    learn(experiment.endpoint_id)
    assert again(experiment).canary_step == 3


def test_canary__manual__advances_when_told__and_once(two_arms: Start, alice: Api) -> None:
    experiment = two_arms(**CANARY | {"canary": {"steps": [0.1, 0.5], "bake_seconds": 60, "auto": False}})
    baked(experiment)
    learn(experiment.endpoint_id)
    assert again(experiment).canary_step == 0
    answer = alice.post("/api/v1/experiments/e/advance", {"reason": "looks well"})
    assert answer.status == 200
    shown = alice.get("/api/v1/experiments/e/results").body
    assert shown["canary"]["step"] == 2
    assert shown["canary"]["weight"] == 0.5
    assert "bakes for another" in shown["recommendation"]["reason"]
    with pytest.raises(Conflict, match="step 2 already"):
        advance(experiment, actor="t", step=0)
    assert alice.post("/api/v1/experiments/e/advance").status == 409  # the last step


def test_canary__paused_and_resumed__keeps_its_step_and_bakes_anew(two_arms: Start) -> None:
    experiment = two_arms(**CANARY)
    advance(experiment, actor="t")
    baked(experiment)
    paused = move(again(experiment), "pause", actor="t")
    learn(experiment.endpoint_id)
    assert again(experiment).canary_step == 1
    resumed = move(paused, "resume", actor="t")
    assert resumed.canary_step == 1
    learn(experiment.endpoint_id)
    assert again(experiment).canary_step == 1


@pytest.mark.parametrize("action", ["rollback", "disable_arm", "pause"])
def test_guardrail__arm_that_fails__is_acted_on_within_a_round(two_arms: Start, action: str) -> None:
    guardrail = {"metric": "error_rate", "max": 0.02, "action": action, "min_decisions": 50}
    experiment = two_arms(**CANARY | {"guardrails": [guardrail], "canary": {"steps": [0.5], "bake_seconds": 3600}})
    for i in range(120):
        decide(experiment, "new" if i % 2 else "control", seconds_ago=5, failed=bool(i % 2))
    learn(experiment.endpoint_id)
    ended = again(experiment)
    expected = {"rollback": "completed", "disable_arm": "running", "pause": "paused"}[action]
    assert ended.status == expected
    assert ended.arms.get(name="new").enabled == (action != "disable_arm")
    entry = AuditEntry.objects.get(action="guardrail.acted")
    assert entry.actor == "guardrail"
    assert entry.reason == "new failed in 60 of 60 decisions, where 2.0% may"
    assert entry.details["count"] == 60
    assert entry.details["limit"] == 0.02
    gone = taken_out(ended, list(ended.arms.order_by("position")), timezone.now())
    assert [(one.arm, one.metric, one.reason) for one in gone] == [("new", "error_rate", entry.reason)][
        : action == "disable_arm"
    ]
    if gone:
        said = verdict(results_of.results(ended), setting_of(ended, taken_out=gone))
        assert said.headline == "One arm is left, and nothing is compared: a guardrail took out new."
        assert f", for {entry.reason}." in said.text
    learn(experiment.endpoint_id)
    assert AuditEntry.objects.filter(action="guardrail.acted").count() == 1


def test_guardrail__arm_within_its_limits__is_left_alone__however_often_one_looks(two_arms: Start) -> None:
    guardrails = [
        {"metric": "error_rate", "max": 0.1, "action": "rollback"},
        {"metric": "latency_p99_ms", "max": 100, "action": "rollback"},
        {"metric": "pages", "max": 3, "min": 1, "action": "rollback"},
    ]
    experiment = two_arms(**CANARY | {"guardrails": guardrails, "canary": {"steps": [0.5], "bake_seconds": 3600}})
    rng = random.Random(3)
    for round_ in range(4):
        for i in range(100):
            identity = decide(
                experiment,
                "new" if i % 2 else "control",
                seconds_ago=20 - round_,
                failed=rng.random() < 0.08,
                latency_ms=rng.choice([5.0] * 199 + [300.0]),
            )
            feedback(experiment, "new" if i % 2 else "control", identity, "pages", rng.gauss(2, 0.5))
        learn(experiment.endpoint_id)
        assert again(experiment).status == "running"


def feedback(experiment: Experiment, arm: str, identity: bytes, metric: str, value: float) -> None:
    reward(experiment, arm, identity, value)
    Reward.objects.filter(decision_id=identity.hex()).update(metric=metric, folded=True)


@pytest.mark.parametrize(
    ("guardrail", "said"),
    [
        ({"metric": "latency_p99_ms", "max": 100}, "took more than 100 ms, where 1% may"),
        ({"metric": "pages", "max": 3}, "the mean of pages for new is shown to be more than 3"),
        (
            {"metric": "pages", "max": 1, "versus": "control"},
            "pages of new against the control's is shown to be more than 1",
        ),
        (
            {"metric": "error_rate", "max": 0.001, "versus": "control"},
            "error_rate of new against the control's is shown to be more than 0.1 points",
        ),
    ],
)
def test_guardrail__slow_or_worse_by_any_metric__rolls_back(
    two_arms: Start, guardrail: dict[str, Any], said: str
) -> None:
    experiment = two_arms(
        **CANARY
        | {"guardrails": [{"action": "rollback", **guardrail}], "canary": {"steps": [0.5], "bake_seconds": 3600}}
    )
    rng = random.Random(4)
    for i in range(400):
        arm = "new" if i % 2 else "control"
        bad = arm == "new"
        identity = decide(
            experiment,
            arm,
            seconds_ago=5,
            latency_ms=150.0 if bad and i % 10 == 1 else 5.0,
            failed=bad and guardrail["metric"] == "error_rate" and rng.random() < 0.5,
        )
        feedback(experiment, arm, identity, "pages", rng.gauss(5 if bad else 2, 0.5))
    learn(experiment.endpoint_id)
    assert again(experiment).outcome == "rolled_back"
    assert said in AuditEntry.objects.get(action="guardrail.acted").reason


def test_promotion__ask__tells_people_once__and_again_when_it_changes(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 1}, promotion={"auto": False})
    begin_earlier(experiment)
    fill(experiment, {"a": (30, 120), "b": (130, 20)})
    for _ in range(3):
        learn(experiment.endpoint_id)
    told = AuditEntry.objects.filter(action="experiment.recommended")
    assert [entry.details["arm"] for entry in told] == ["b"]
    assert again(experiment).status == "running"
    # It lapses and comes back: told of once a day.
    for days, times in ((0, 1), (2, 2)):
        Experiment.objects.filter(pk=experiment.pk).update(asked="")
        told.update(at=timezone.now() - timedelta(days=days))
        learn(experiment.endpoint_id)
        assert told.count() == times


def test_promotion__against_the_evidence__is_told_in_the_answer_the_trail_and_the_results(
    two_arms: Start, alice: Api
) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 1}, promotion={"auto": False})
    begin_earlier(experiment)
    fill(experiment, {"a": (30, 120), "b": (130, 20)})
    learn(experiment.endpoint_id)
    answer = alice.post(f"/api/v1/experiments/{experiment.name}/promote", {"arm": "a", "reason": "cheaper"})
    said = "against the evidence: b was shown to be best (evidence far beyond the 40 needed)"
    assert answer.status == 200
    assert f"a was promoted {said}" in answer["warnings"]
    assert AuditEntry.objects.get(action="experiment.promoted").details["against"] == said
    told = results(again(experiment))
    assert told["recommendation"]["reason"].endswith(f": cheaper; {said}")
    shown = verdict(results_of.results(again(experiment)), setting_of(again(experiment)))
    assert said in shown.headline
    assert "newest rewards" not in shown.text, "nothing is newer"


def test_promotion__with_the_evidence_or_before_it__has_no_such_word(two_arms: Start, alice: Api) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 1}, promotion={"auto": False})
    begin_earlier(experiment)
    fill(experiment, {"a": (12, 12), "b": (13, 12)})
    learn(experiment.endpoint_id)
    answer = alice.post(f"/api/v1/experiments/{experiment.name}/promote", {"arm": "a"})
    assert (answer.status, [said for said in answer["warnings"] if "against" in said]) == (200, [])
    assert "against" not in AuditEntry.objects.get(action="experiment.promoted").details


def test_promotion__cooldown__waits_after_the_last_change_of_champion(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 1}, promotion={"cooldown_seconds": 3600})
    move(experiment, "pause", actor="t")
    for champion in ("page@b", "page@a"):
        update_endpoint(experiment.endpoint, champion=champion, deadline_ms=None, reason="", actor="t")
    experiment = move(again(experiment), "resume", actor="t")
    begin_earlier(experiment)
    fill(experiment, {"a": (30, 120), "b": (130, 20)})
    learn(experiment.endpoint_id)
    assert again(experiment).status == "running"
    arms = list(experiment.arms.order_by("position"))
    assert "of cool-down are left" in recommend(again(experiment), arms).reason


def test_schedule__starts_and_ends_by_itself(two_arms: Start, alice: Api) -> None:
    experiment = two_arms(schedule={"max_seconds": 3600})
    move(experiment, "pause", actor="t")
    soon = (timezone.now() - timedelta(seconds=1)).isoformat()
    arms = [{"name": "a", "model": "page@a"}, {"name": "b", "model": "page@b"}]
    made = alice.post(
        "/api/v1/experiments",
        {"name": "later", "endpoint": "pages", "strategy": "ab", "arms": arms, "schedule": {"start_at": soon}},
    )
    assert made.status == 201
    assert schedule.start_due() == 1
    assert Experiment.objects.get(name="later").status == "running"
    begin_earlier(experiment, 3599)
    assert experiment.endpoint_id not in schedule.with_an_end()
    begin_earlier(experiment, 3601)
    assert experiment.endpoint_id in find().learn
    learn(experiment.endpoint_id)
    ended = again(experiment)
    assert (ended.status, ended.outcome) == ("completed", "stopped")
    assert "its time was over" in AuditEntry.objects.get(action="experiment.stopped").reason


def test_schedule__end__promotes_the_leader_where_it_should(two_arms: Start) -> None:
    experiment = two_arms(
        reward={"kind": "binary", "window_seconds": 1},
        promotion={"auto": False},
        schedule={"end_at": datetime(2020, 1, 1, tzinfo=UTC).isoformat(), "at_end": "promote_leader"},
    )
    begin_earlier(experiment)
    fill(experiment, {"a": (30, 70), "b": (40, 60)})
    learn(experiment.endpoint_id)
    ended = again(experiment)
    assert (ended.outcome, ended.promoted_arm and ended.promoted_arm.name) == ("promoted", "b")


def test_arms__added_while_running__burns_in__and_is_rebuilt(two_arms: Start, alice: Api) -> None:
    experiment = two_arms(
        policy={"name": "thompson", "burn_in": 50, "floor": 0.02},
        reward={"kind": "binary", "window_seconds": 1},
        promotion={"auto": False},
    )
    begin_earlier(experiment)
    fill(experiment, {"a": (60, 90), "b": (70, 80)})
    learn(experiment.endpoint_id)
    # As if it were a hundred seconds ago: what is decided later enters the evidence beside what was
    # there with two arms.
    ExperimentEvidence.objects.update(closed_until=timezone.now() - timedelta(seconds=100))
    static_model("page", "c", {"text": "C"})
    answer = alice.post("/api/v1/experiments/e/arms", {"name": "c", "model": "page@c", "cost": 2, "reason": "new"})
    assert answer.status == 201, answer.content
    assert [arm["name"] for arm in answer["arms"]] == ["a", "b", "c"]
    made = document(experiment)
    # An even share until it has its rewards; the floor then takes its part of every arm.
    assert made.arms[2].propensity == pytest.approx(0.02 + 0.94 / 3)
    rng = random.Random(8)
    for i in range(240):
        arm = "abc"[i % 3]
        identity = decide(experiment, arm, seconds_ago=60 - 0.1 * i, shares=[1 / 3] * 3)
        reward(experiment, arm, identity, float(rng.random() < {"a": 0.4, "b": 0.45, "c": 0.9}[arm]))
    learn(experiment.endpoint_id)
    assert rebuild(experiment, write=False) == []
    shown = results(again(experiment))
    assert shown["arms"][2]["probability_best"] > 0.99
    assert shown["evidence"]["leader"] == "c"
    assert shown["evidence"]["matured"] == 540
    assert alice.post("/api/v1/experiments/e/arms", {"name": "c", "model": "page@c"}).status == 409
    assert alice.post("/api/v1/experiments/e/arms", {"name": "d", "model": "page@zzz"}).fields() == ["model"]
    assert alice.post("/api/v1/experiments/e/arms/zzz/disable").status == 404


def test_arms__disabled__gets_nothing_until_enabled__and_the_last_stays(two_arms: Start, alice: Api) -> None:
    experiment = two_arms()
    assert alice.post("/api/v1/experiments/e/arms/b/disable", {"reason": "slow"}).status == 200
    assert [arm.propensity for arm in document(experiment).arms] == [1.0, 0.0]
    assert alice.post("/api/v1/experiments/e/arms/b/disable").status == 409
    assert alice.post("/api/v1/experiments/e/arms/a/disable").status == 409
    assert alice.post("/api/v1/experiments/e/arms/b/enable").status == 200
    assert all(arm.propensity > 0 for arm in document(experiment).arms)
    fixed = Experiment.objects.get(name="e")
    Experiment.objects.filter(pk=fixed.pk).update(strategy="ab")
    with pytest.raises(Conflict, match="arms are fixed"):
        add_arm(again(fixed), ArmDocument("z", "page@b"), actor="t")
    with pytest.raises(Conflict, match="enabled already"):
        set_enabled(fixed.arms.select_related("experiment").get(name="b"), True, actor="t")


def test_holdout__share_of_units__gets_the_control__and_the_benefit_is_measured(two_arms: Start) -> None:
    experiment = two_arms(
        policy={"name": "thompson", "burn_in": 0, "floor": 0.0},
        reward={"kind": "binary", "window_seconds": 1},
        promotion={"auto": False},
        holdout=0.2,
    )
    begin_earlier(experiment)
    fill(experiment, {"a": (20, 80), "b": (80, 20)})
    learn(experiment.endpoint_id)
    routing = router(document(experiment))
    routes = {f"u{i}": routing.route(f"u{i}") for i in range(5000)}
    held = {unit for unit, route in routes.items() if route.holdout}
    assert abs(len(held) - 1000) <= 4 * (5000 * 0.2 * 0.8) ** 0.5
    assert all(route.position == 0 for unit, route in routes.items() if unit in held)
    later = router(document(experiment))
    assert {unit for unit in routes if later.route(unit).holdout} == held  # for the whole experiment
    # What is logged is the probability of the step that remained: certain for who is held out, the
    # policy's for the others.
    assert all(list(routes[unit].propensities) == [1.0, 0.0] for unit in held)
    others = [route for unit, route in routes.items() if unit not in held]
    share_of_b = np.mean([route.position == 1 for route in others])
    assert sum(others[0].propensities) == pytest.approx(1.0)
    assert share_of_b == pytest.approx(others[0].propensities[1], abs=4 * 0.5 / len(others) ** 0.5)
    for i in range(60):
        identity = decide(experiment, "a", seconds_ago=30, holdout=True)
        reward(experiment, "a", identity, float(i % 5 == 0))
        identity = decide(experiment, "b", seconds_ago=30)
        reward(experiment, "b", identity, float(i % 5 != 0))
    learn(experiment.endpoint_id)
    shown = results(again(experiment))["holdout"]
    assert (shown["holdout"]["decisions"], shown["holdout"]["rewards"], shown["holdout"]["units"]) == (60, 60, 60)
    assert shown["holdout"]["mean"] == pytest.approx(0.2)
    assert shown["bandit"]["decisions"] == 260
    assert shown["interval"][0] < shown["benefit"] < shown["interval"][1]
    assert shown["benefit"] == pytest.approx((100 + 48) / 260 - 0.2)


def test_apprentice__champion_serves__the_policys_choice_is_told__until_it_is_activated(
    two_arms: Start, alice: Api
) -> None:
    experiment = two_arms(
        policy={"name": "thompson", "burn_in": 0}, apprentice=True, reward={"kind": "binary", "window_seconds": 1}
    )
    begin_earlier(experiment)
    fill(experiment, {"a": (20, 80), "b": (80, 20)})
    learn(experiment.endpoint_id)
    assert again(experiment).status == "running"  # an apprentice promotes nobody
    routing = router(document(experiment))
    routes = [routing.route(None) for _ in range(200)]
    assert {route.position for route in routes} == {0}
    assert np.mean([route.proposed == 1 for route in routes]) > 0.9
    b = experiment.arms.get(name="b")
    for _ in range(10):
        decide(experiment, "a", seconds_ago=10, share=1.0, proposed=b.pk)
    learn(experiment.endpoint_id)
    assert results(again(experiment))["apprentice"] == {
        "decisions": 10,
        "shares": {"a": 0.0, "b": 1.0},
        "outcomes": None,
    }
    assert alice.post("/api/v1/experiments/e/activate", {"reason": "good"}).status == 200
    assert np.mean([router(document(experiment)).route(None).position for _ in range(100)]) > 0.9
    with pytest.raises(Conflict, match="nothing to activate"):
        activate(again(experiment), actor="t")


def test_champions__history_and_rollback_to_any(two_arms: Start, alice: Api) -> None:
    experiment = two_arms()
    move(experiment, "stop", actor="t")
    static_model("page", "c", "C")
    for version in ("b", "c"):
        assert alice("PATCH", "/api/v1/endpoints/pages", {"champion": f"page@{version}"}).status == 200
    back = alice.post("/api/v1/endpoints/pages/rollback", {"to": "page@a", "reason": "the first was best"})
    assert (back.status, back["champion"]) == (200, "page@a")
    history = alice.get("/api/v1/endpoints/pages/champions").body["items"]
    assert [(row["champion"], row["rollback"]) for row in history] == [
        ("page@a", True),
        ("page@c", False),
        ("page@b", False),
        ("page@a", False),
    ]
    assert history[0]["reason"] == "the first was best"
    static_model("page", "d", "D")
    assert alice.post("/api/v1/endpoints/pages/rollback", {"to": "page@d"}).fields() == ["to"]
    assert alice.post("/api/v1/endpoints/pages/rollback", {"to": "page@a"}).status == 409
    assert Endpoint.objects.get().champion.version == "a"

"""The floor of a bandit that runs is changed: what is decided from then on has it, what was decided
keeps its probabilities, and what was learned stays."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from noregret.experiments import document
from noregret.experiments.errors import ExperimentsError
from noregret.experiments.models import Experiment
from noregret.rollout.arms import add_arm, set_enabled
from noregret.rollout.floors import change_floor
from noregret.rollout.publish import build
from noregret.rollout.transitions import move
from noregret.steering.round import learn
from noregret.trail.models import AuditEntry

from bandits import policies
from serving import process
from serving.models import Decision
from tests.conftest import Api, endpoint_of, start_experiment, static_model

Start = Callable[..., Experiment]
FLOOR = "/api/v1/experiments/e/floor"
AGE = {"fields": [{"name": "age", "type": "number", "min": 0, "max": 100}]}


@pytest.mark.parametrize(
    "names", [("thompson", "ucb1", "lin-ucb", "uniform"), pytest.param(policies.names(), marks=pytest.mark.soak)]
)
def test_floor__of_every_policy__is_that_of_the_next_decisions_and_of_none_before(
    alice: Api, platform: None, names: tuple[str, ...]
) -> None:
    for version in "abc":
        static_model("page", version, version)
    kinds = [(name, {}) for name in names] + [
        ("thompson", {"sticky": True, "holdout": 0.3}),
        ("thompson", {"apprentice": True}),
    ]
    started = []
    for i, (name, changes) in enumerate(kinds):
        endpoint_of(f"pages-{i}", "page@a")
        body: dict[str, Any] = {
            "name": f"e-{i}",
            "endpoint": f"pages-{i}",
            "strategy": "bandit",
            "arms": [{"name": version, "model": f"page@{version}"} for version in "abc"],
            "policy": {"name": name, "floor": 0.0, "burn_in": 0},
            "reward": {"kind": "binary", "window_seconds": 600},
        }
        if policies.make(name).contextual:
            body["context"] = AGE
        started.append(start_experiment(body | changes))
    told: dict[tuple[int, str], float] = {}
    for experiment in started:
        told |= decided(alice, experiment, "first", 10)
    for experiment in started:
        learn(experiment.endpoint_id)
        told |= decided(alice, experiment, "before", 6)
        answer = alice.post(f"/api/v1/experiments/{experiment.name}/floor", {"floor": 0.3, "reason": "sooner"})
        assert (answer.status, answer["policy"]["floor"]) == (200, 0.3), answer.content
        told |= decided(alice, experiment, "after", 6)
        learn(experiment.endpoint_id)
    for experiment in started:
        assert experiment.policy_ is not None
        kind = experiment.policy_.name
        rows = list(Decision.objects.filter(experiment_id=experiment.pk, holdout=False))
        before = [row for row in rows if str(row.unit).startswith("before")]
        after = [row for row in rows if str(row.unit).startswith("after")]
        least = [min(row.propensities) for row in before]
        if experiment.apprentice:  # the control serves, and what is chosen is recorded beside
            assert {tuple(row.propensities) for row in rows} == {(1.0, 0.0, 0.0)}
            assert min(row.policy_version for row in after) > max(row.policy_version for row in before)
            continue
        if kind != "uniform":
            assert min(least) < 0.29, (kind, least)
        assert after, kind
        assert all(min(row.propensities) >= 0.3 - 1e-9 for row in after), (kind, [row.propensities for row in after])
        assert min(row.policy_version for row in after) > max(row.policy_version for row in before), kind
        assert all(row.propensity == told[experiment.pk, str(row.unit)] for row in rows), kind
    call_command("rebuild", "--check")


def decided(alice: Api, experiment: Experiment, when: str, count: int) -> dict[tuple[int, str], float]:
    """So many decisions, of which those for the arm b are rewarded; the propensities that callers
    were told."""
    process.reset()  # or the snapshot may be that of a moment before
    context = {"context": {"age": 30}} if experiment.context_.fields else {}
    told = {}
    for i in range(count):
        answer = alice.post(f"/api/v1/endpoints/{experiment.endpoint.name}/decide", {"unit": f"{when}-{i}"} | context)
        assert answer.status == 200, answer.content
        told[experiment.pk, f"{when}-{i}"] = answer["propensity"]
        sent = {"decision_id": answer["decision_id"], "value": int(answer["arm"] == "b")}
        assert alice.post("/api/v1/feedback", sent).status == 202
    return told


def test_floor__refused__says_which_field_and_what_was_expected(alice: Api, two_arms: Start) -> None:
    experiment = two_arms()
    for wrong in (0.51, -0.1, 1.5, "much", True, {}):
        answer = alice.post(FLOOR, {"floor": wrong})
        assert (answer.status, answer.fields()) == (400, ["floor"]), wrong
    assert "0 to 0.5 was expected for 2 arms" in alice.post(FLOOR, {"floor": 0.51})["errors"][0]["message"]
    assert alice.post(FLOOR, {"reason": "none given"}).status == 400
    assert alice.post("/api/v1/experiments/none/floor", {"floor": 0.1}).status == 404
    again = alice.post(FLOOR, {"floor": None})
    assert (again.status, again["detail"]) == (409, "the floor of e is 0.01, and follows the number of arms, already")
    # An arm that is taken out may be put back: there must be room for it.
    set_enabled(experiment.arms.get(name="b"), False, actor="t")
    assert alice.post(FLOOR, {"floor": 0.8}).status == 400
    assert AuditEntry.objects.filter(action="experiment.floor_changed").count() == 0
    assert alice.post(FLOOR, {"floor": 0.5}).status == 200
    assert alice.post("/api/v1/experiments/e/stop").status == 200
    ended = alice.post(FLOOR, {"floor": 0.1})
    assert (ended.status, ended["detail"]) == (409, "e has ended")


@pytest.mark.parametrize("strategy", ["ab", "canary", "shadow"])
def test_floor__of_a_strategy_without_one__is_a_conflict(alice: Api, two_arms: Start, strategy: str) -> None:
    arms = [{"name": "b", "model": "page@b"}] if strategy != "ab" else None
    two_arms(strategy=strategy, **({} if arms is None else {"arms": arms}))
    answer = alice.post(FLOOR, {"floor": 0.1})
    assert (answer.status, answer["detail"]) == (409, f"e has the strategy {strategy}: only a bandit has a floor")


def test_floor__given_and_taken_back__stays_or_follows_the_arms(alice: Api, two_arms: Start) -> None:
    experiment = two_arms()
    static_model("page", "c", "C")
    static_model("page", "d", "D")
    assert alice.post(FLOOR, {"floor": 0.33}).status == 200
    add_arm(experiment, document.Arm(name="c", model="page@c"), actor="t")
    made = build(experiment.endpoint_id).experiment
    assert made is not None
    assert min(arm.propensity for arm in made.arms) >= 0.33 - 1e-9
    assert alice.post("/api/v1/experiments/e/arms", {"name": "d", "model": "page@d"}).status == 409
    assert alice.post(FLOOR, {"floor": None})["policy"]["floor"] == 0.01
    assert alice.post("/api/v1/experiments/e/arms", {"name": "d", "model": "page@d"}).status == 201
    told = AuditEntry.objects.filter(action="experiment.floor_changed").order_by("pk").values_list("details", flat=True)
    assert list(told) == [{"before": 0.01, "floor": 0.33}, {"before": 0.33, "floor": 0.01}]


def test_floor__changed_by_many_while_it_is_promoted__each_follows_the_one_before(two_arms: Start) -> None:
    experiment = two_arms()
    floors = [0.02 + i / 100 for i in range(12)]

    def change(floor: float) -> bool:
        try:
            change_floor(Experiment.objects.get(pk=experiment.pk), floor, actor="t")
        except ExperimentsError:
            return False
        finally:
            connection.close()
        return True

    def promote() -> None:
        time.sleep(0.02)
        try:
            move(Experiment.objects.get(pk=experiment.pk), "promote", actor="t", arm=experiment.arms.get(name="b"))
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        promoted = pool.submit(promote)
        done = list(pool.map(change, floors))
        promoted.result()
    experiment.refresh_from_db()
    assert experiment.status == "completed"
    entries = list(AuditEntry.objects.order_by("pk"))
    ended = next(i for i, entry in enumerate(entries) if entry.action == "experiment.promoted")
    changes = [(i, entry.details) for i, entry in enumerate(entries) if entry.action == "experiment.floor_changed"]
    assert len(changes) == sum(done)
    assert all(i < ended for i, _ in changes)
    chain = [0.01, *(details["floor"] for _, details in changes)]
    assert [details["before"] for _, details in changes] == chain[:-1]
    assert experiment.policy["floor"] == chain[-1]


def test_floor__changed_from_the_page__is_asked_for_told_and_in_the_timeline(
    client: Client, two_arms: Start, django_user_model: Any
) -> None:
    experiment = two_arms()
    client.force_login(django_user_model.objects.create_superuser("root"))
    page = f"/admin/experiments/experiment/{experiment.pk}/change/"
    address = f"/admin/experiments/experiment/{experiment.pk}/do/floor"
    assert address.encode() in client.get(page).content
    asked = client.get(address).content.decode()
    assert "gets at least so much of the traffic" in asked
    assert "It is 0.01 now, and follows the number of arms; 2 arms have room for 0.5 each." in asked
    for wrong, told in (
        ({"floor": "0.9", "reason": "x"}, "0 to 0.5 was expected for 2 arms"),
        ({"floor": "much", "reason": "x"}, "A number was expected, as 0.05 or 5 %."),
        ({"floor": "1.5", "reason": "x"}, "At most 1 (100 %) was expected."),
        ({"floor": "0.1", "reason": ""}, "This field is required."),
    ):
        answer = client.post(address, wrong)
        assert (answer.status_code, told in answer.content.decode()) == (400, True), wrong
    shown = client.post(address, {"floor": "12,5 %", "reason": "to decide sooner"}, follow=True).content.decode()
    assert "Every arm gets at least 12.5% from now on. 2 arms with a floor of 12.50% each take 25%" in shown
    assert "changed the floor from 1% to 12.5%" in shown
    assert "to decide sooner" in shown
    again = client.post(address, {"floor": "0.125", "reason": "x"}, follow=True).content.decode()
    assert "Not done: the floor of e is 0.125 already" in again
    entry = AuditEntry.objects.get(action="experiment.floor_changed")
    assert (entry.actor, entry.reason) == ("root", "to decide sooner")
    experiment.refresh_from_db()
    assert experiment.policy["floor"] == 0.125

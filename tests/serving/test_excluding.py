"""Requests that some arms are not for: who serves them, and that what is told is what was drawn."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from noregret.experiments.models import Experiment
from noregret.learning import sticky_units
from noregret.learning.rebuild import rebuild
from noregret.steering.round import learn

from bandits import policies
from bandits.policies.allocation import among
from serving import snapshot
from serving.models import Decision, FirstVisit
from serving.process import process
from serving.routing import HashedRouter, Route, kept_among, router
from serving.runtimes.static import StaticModel
from tests.conftest import Api, static_model
from tests.learning.test_sticky_units import emptied
from tests.learning.told import results

MODEL = StaticModel(model="m@1", framework="static")
REWARD = snapshot.Reward(1, "e", "reward", "binary", "maximize", 60.0)
SHARES = [0.5, 0.3, 0.2, 0.0]
DRAWS = 3000
Start = Callable[..., Experiment]
DECIDE, PREDICT = (f"/api/v1/endpoints/pages/{call}" for call in ("decide", "predict"))


def experiment(strategy: snapshot.Strategy, policy: str | None = None, **changes: Any) -> snapshot.Experiment:
    """Four arms; the last is disabled."""
    arms = [
        snapshot.Arm(
            i, f"arm-{i}", MODEL, share, enabled=i < 3, is_control=i == 0, count=200, mean=0.4 + 0.1 * i, m2=48.0
        )
        for i, share in enumerate(SHARES)
    ]
    belief = None
    if policy in policies.contextual_names():
        belief = snapshot.Belief([[0.1 * i, 0.2] for i in range(4)], [[[0.05, 0.0], [0.0, 0.05]]] * 4)
    made = snapshot.Experiment(
        1, "e", strategy, arms, REWARD, None if policy is None else snapshot.Policy(policy, floor=0.05), belief=belief
    )
    return msgspec.structs.replace(made, **changes)


def served(allowed: list[bool], made: snapshot.Experiment, units: bool = False) -> list[Route]:
    routing, x = router(made), np.array([1.0, 0.5])
    routes = [
        routing.route_among(np.array(allowed), f"u{i}" if units else None, x if made.belief else None)
        for i in range(DRAWS)
    ]
    assert None not in routes
    return [route for route in routes if route is not None]


def check_drawn_as_told(routes: list[Route]) -> None:
    seen = np.bincount([route.position for route in routes], minlength=4) / len(routes)
    told = np.mean([route.propensities for route in routes], axis=0)
    assert np.all(np.abs(seen - told) <= 4.5 * np.sqrt(np.maximum(told * (1 - told), 1e-12) / len(routes)) + 1e-9)


KINDS = [("ab", None), ("canary", None), *(("bandit", name) for name in policies.names())]


@pytest.mark.parametrize(("strategy", "policy"), KINDS)
@pytest.mark.parametrize("allowed", [[False, True, True, True], [True, False, False, True], [True, True, False, False]])
def test_every_router__arms_excluded__draws_among_the_others_as_it_tells(
    strategy: snapshot.Strategy, policy: str | None, allowed: list[bool]
) -> None:
    made = experiment(strategy, policy)
    for units in (False, True):
        routes = served(allowed, made, units)[: 600 if policy else DRAWS]
        check_drawn_as_told(routes)
        for route in routes[:20]:
            assert sum(route.propensities) == pytest.approx(1.0, abs=1e-12)
            assert [share > 0.0 for share in route.propensities] == [
                may and arm.enabled for may, arm in zip(allowed, made.arms, strict=True)
            ]


@pytest.mark.parametrize(("strategy", "policy"), KINDS)
def test_every_router__all_that_could_serve_excluded__is_nobodys(
    strategy: snapshot.Strategy, policy: str | None
) -> None:
    made = experiment(strategy, policy)
    x = np.array([1.0, 0.5]) if made.belief else None
    for changes in ({}, {"holdout": 0.5}, {"apprentice": True}) if policy else ({},):
        routing = router(msgspec.structs.replace(made, **changes))
        for unit in (None, "u", "v", "w"):
            assert routing.route_among(np.array([False, False, False, True]), unit, x) is None


def test_shadow__control_excluded__no_challenger_serves() -> None:
    made = experiment("shadow")
    arms = [msgspec.structs.replace(arm, propensity=float(i == 0)) for i, arm in enumerate(made.arms)]
    routing = router(msgspec.structs.replace(made, arms=arms))
    assert routing.route_among(np.array([False, True, True, True]), "u") is None
    assert routing.route_among(np.array([True, False, True, True]), "u") == Route(0, [1.0, 0.0, 0.0, 0.0])


def test_hashed_router__unit_whose_arm_is_left__keeps_it() -> None:
    routing = HashedRouter(5, SHARES[:3])
    allowed = np.array([True, False, True])
    moved = 0
    for i in range(500):
        before, now = routing.route(f"u{i}"), routing.route_among(allowed, f"u{i}")
        assert now is not None
        assert now.position == before.position or before.position == 1
        moved += before.position == 1
    assert moved > 100


def test_policy_that_gives_the_rest_nothing__they_share_evenly() -> None:
    made = experiment("bandit", "thompson")
    sure = [msgspec.structs.replace(arm, propensity=float(i == 2)) for i, arm in enumerate(made.arms)]
    route = router(msgspec.structs.replace(made, arms=sure)).route_among(np.array([True, True, False, True]), None)
    assert route is not None
    assert route.propensities == [0.5, 0.5, 0.0, 0.0]


def test_holdout__control_excluded__nobody_is_held_out__else_as_ever() -> None:
    made = experiment("bandit", "thompson", holdout=0.5)
    routing = router(made)
    held = {unit for unit in map(str, range(400)) if routing.route(unit).holdout}
    for unit in map(str, range(400)):
        without = routing.route_among(np.array([False, True, True, True]), unit)
        assert without is not None
        assert not without.holdout
        assert without.propensities == pytest.approx([0.0, 0.6, 0.4, 0.0])
        others = routing.route_among(np.array([True, False, True, True]), unit)
        assert others is not None
        assert others.holdout == (unit in held)


def test_units_that_keep_their_arm__over_both_draws__get_what_is_told() -> None:
    """The first draw is by the probabilities of its time; where its arm is excluded a second among
    the rest, the same whenever the unit comes."""
    rng = np.random.default_rng(3)
    shares, eligible = SHARES[:3], np.array([False, True, True])
    drawn = rng.choice(3, size=DRAWS, p=shares)
    routes = []
    for i, position in enumerate(drawn.tolist()):
        route = kept_among(Route(position, shares), eligible, 7, f"u{i}")
        assert route is not None
        assert route == kept_among(Route(position, shares), eligible, 7, f"u{i}")
        assert position == 0 or route.position == position
        assert route.propensities == pytest.approx([0.0, 0.6, 0.4])
        routes.append(route)
    check_drawn_as_told([Route(route.position, [*route.propensities, 0.0]) for route in routes])
    assert kept_among(Route(0, [1.0, 0.0]), np.array([False, True, True]), 7, "u") is None  # added since


def test_among__rows__keep_the_ratios_of_the_eligible() -> None:
    found = among(np.array([0.5, 0.3, 0.2]), np.array([[True, True, False], [False, False, True]]))
    assert found == pytest.approx(np.array([[0.625, 0.375, 0.0], [0.0, 0.0, 1.0]]))
    with pytest.raises(ValueError, match="no arm is eligible"):
        among(np.array([0.5, 0.5]), np.array([False, False]))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "changes",
    [
        {"policy": {"name": "thompson", "burn_in": 20}},
        {"strategy": "ab"},
        {"policy": {"name": "thompson", "burn_in": 20}, "sticky": True, "holdout": 0.3},
        {"policy": {"name": "ucb1"}},
    ],
)
def test_ledger__of_requests_that_exclude__holds_what_was_drawn__and_is_rebuilt(
    alice: Api, two_arms: Start, changes: dict[str, Any]
) -> None:
    static_model("page", "c", {"text": "C"})
    made = two_arms(arms=[{"name": name, "model": f"page@{name}"} for name in "abc"], **changes)
    for i in range(240):
        asked: dict[str, Any] = {"unit": f"u{i % 60}", "exclude": ["c", "of-an-older-experiment"] if i % 2 else []}
        answer = alice.post(DECIDE, asked).body
        assert answer["arm"] != "c" or not i % 2
        assert answer["learnable"]
        assert alice.post("/api/v1/feedback", {"decision_id": answer["decision_id"], "value": i % 3 == 0}).status == 202
    process().shipper.round()  # should a machine that is busy have kept some on its disk
    learn(made.endpoint_id)
    rows = list(Decision.objects.order_by("decided_at"))
    third = made.arms.get(name="c").pk
    assert [row.excluded for row in rows] == [[third] if i % 2 else None for i in range(240)]
    for row in rows:
        assert sum(row.propensities) == pytest.approx(1.0)
        assert not row.excluded or row.propensities[2] == 0.0
        assert row.propensity == row.propensities[[arm.pk for arm in made.arms.order_by("position")].index(row.arm_id)]
    made.refresh_from_db()
    shown = results(made)
    assert shown["comparison"]["sample_ratio_p"] > 0.01
    lines = [
        msgspec.json.decode(line) for line in alice.get("/api/v1/experiments/e/decisions.ndjson").content.splitlines()
    ]
    assert [line["excluded"] for line in lines] == [["c"] if i % 2 else [] for i in range(240)]
    assert rebuild(made, write=False) == []


@pytest.mark.django_db(transaction=True)
def test_all_excluded__champion_answers__outside_of_the_experiment(alice: Api, two_arms: Start) -> None:
    made = two_arms()
    before = Decision.objects.count()
    answer = alice.post(DECIDE, {"unit": "u", "exclude": ["a", "b"]}).body
    assert (answer["model"], answer["arm"], answer["experiment"]) == ("page@a", None, "e")
    assert (answer["propensity"], answer["learnable"], answer["fallback_reason"]) == (1.0, False, "excluded")
    assert answer["payload"] == alice.post(DECIDE, {"exclude": ["b"]})["payload"]
    assert alice.post("/api/v1/feedback", {"decision_id": answer["decision_id"], "value": 1}).status == 409
    learn(made.endpoint_id)
    assert Decision.objects.count() == before + 1  # the one that excluded b alone
    assert {arm["error_rate"] for arm in results(made)["arms"]} <= {0.0, None}
    assert not FirstVisit.objects.filter(unit="u").exists()


@pytest.mark.django_db(transaction=True)
def test_exclude__what_is_no_list_of_names__is_refused_by_field(alice: Api, two_arms: Start) -> None:
    two_arms()
    for wrong, field in (("b", "exclude"), ([1], "exclude[0]"), (["B b"], "exclude[0]"), (["b"] * 1001, "exclude")):
        answer = alice.post(DECIDE, {"exclude": wrong})
        assert (answer.status, answer.fields()) == (400, [field])
    assert alice.post(DECIDE, {"exclude": None})["learnable"]


@pytest.mark.django_db(transaction=True)
def test_single_deployment__names_are_nobodys__and_change_nothing(alice: Api, two_arms: Start) -> None:
    two_arms()
    assert alice.post("/api/v1/experiments/e/stop").status == 200
    process().store.refresh()
    answer = alice.post(DECIDE, {"exclude": ["a", "b"]}).body
    assert (answer["strategy"], answer["arm"], answer["fallback_reason"]) == ("single", None, None)


@pytest.mark.django_db(transaction=True)
def test_sticky_unit__its_arm_excluded_for_a_while__has_it_again__also_after_redis_was_emptied(
    alice: Api, two_arms: Start
) -> None:
    made = two_arms(sticky=True, policy={"name": "thompson", "burn_in": 10})
    units = [f"u{i}" for i in range(40)]
    for unit in units:  # first met without b
        assert alice.post(DECIDE, {"unit": unit, "exclude": ["b"]})["arm"] == "a"
    kept = {unit: alice.post(DECIDE, {"unit": unit})["arm"] for unit in units}
    assert set(kept.values()) == {"a", "b"}
    assert {alice.post(DECIDE, {"unit": unit, "exclude": ["b"]})["arm"] for unit in units} == {"a"}
    assert {unit: alice.post(DECIDE, {"unit": unit})["arm"] for unit in units} == kept
    learn(made.endpoint_id)
    emptied(made)
    while sticky_units.to_restore():
        sticky_units.restore(made.pk)
    assert {unit: alice.post(DECIDE, {"unit": unit})["arm"] for unit in units} == kept


@pytest.mark.django_db(transaction=True)
def test_shadow__challenger_excluded__gets_no_copy(alice: Api, two_arms: Start) -> None:
    made = two_arms(strategy="shadow", arms=[{"name": "new", "model": "page@b"}])
    assert alice.post(DECIDE, {"exclude": ["new"]})["learnable"]
    gone = alice.post(DECIDE, {"exclude": ["control"]}).body
    assert (gone["model"], gone["fallback_reason"]) == ("page@a", "excluded")
    learn(made.endpoint_id)
    assert Decision.objects.count() == 1

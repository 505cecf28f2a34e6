"""A device and the platform work the same probabilities out, whatever is asked."""

import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from noregret_client.edge import choosing
from noregret_client.edge.assigning import assigned
from noregret_client.edge.best_arm import probability_best
from noregret_client.edge.bundle import Bundle
from noregret_client.edge.state import State

from bandits.inference import best_arm
from bandits.posteriors import Gaussian
from serving.edge.judging import Claim, Kept, NotGiven, judge
from serving.edge.receipt import Receipt, Rules, Seat
from serving.routing import HashedRouter

FIELDS = [
    {"name": "age", "type": "number", "min": 0, "max": 120},
    {"name": "country", "type": "category", "values": ["KR", "US"]},
]


@pytest.mark.parametrize("arms", [2, 3, 10, 40])
def test_probability_best__narrow_and_wide_and_far__is_the_platforms(arms: int) -> None:
    rng = np.random.default_rng(arms)
    for scale in (1e-6, 1.0, 1e9):
        means = 1e9 + scale * rng.normal(size=arms) if scale == 1e9 else scale * rng.normal(size=arms)
        deviations = scale * np.exp(rng.uniform(-6, 1, arms))
        expected = best_arm.probability_best(Gaussian(means, deviations))
        assert np.abs(np.array(probability_best(means.tolist(), deviations.tolist())) - expected).max() < 1e-9


def test_hash__every_unit__falls_as_the_platforms() -> None:
    rng = random.Random(3)
    for arms in (2, 9, 100):
        weights = [rng.choice([0.0, 0.002, 0.5, 3.0]) for _ in range(arms - 1)] + [1.0]
        for i in range(300):
            unit = f"unit-{i}-\N{GREEK SMALL LETTER ALPHA}"
            assert choosing.hashed(2**62 + 7, unit, weights) == HashedRouter(2**62 + 7, weights).route(unit).position


def bundle_and_receipt(choice: str, rng: random.Random, **changes: Any) -> tuple[Bundle, Receipt]:
    """The same rules as a device has them, and as the platform has them."""
    arms = rng.randint(2, 11)
    enabled = [True] + [rng.random() < 0.8 for _ in range(arms - 1)]
    raw = [rng.random() * is_on for is_on in enabled]
    shares = [0.0 if choice == "context" else share / sum(raw) for share in raw]
    d = 5
    rules, belief, policy = None, None, None
    if choice == "context":
        name = rng.choice(["lin-ucb", "lin-thompson", "logistic-thompson"])
        matrices = np.random.default_rng(rng.randint(0, 10**6)).normal(size=(arms, d, d))
        covariance = (matrices @ matrices.transpose(0, 2, 1) / 20 + 0.01 * np.eye(d)).tolist()
        mean = np.random.default_rng(rng.randint(0, 10**6)).normal(size=(arms, d)).tolist()
        counts = [float(rng.choice([3, 100])) for _ in range(arms)]
        rules = Rules(name, {}, 0.01, 100, FIELDS, counts, mean, covariance)
        belief = {"mean": mean, "covariance": covariance, "counts": counts}
        policy = {"name": name, "params": {}, "floor": 0.01, "burn_in": 100}
    sticky, holdout = changes.get("sticky", False), changes.get("holdout", 0.0)
    seats = [Seat(i + 1, f"v{i}", shares[i], enabled[i], i == 0) for i in range(arms)]
    receipt = Receipt(
        1,
        1,
        "pages",
        4,
        0.0,
        2e9,
        77,
        choice,
        seats,
        sticky,
        holdout,
        1.0,
        True,
        FIELDS if rules else [],
        rules,  # type: ignore[arg-type]  # a text of four
    )
    document = {
        "endpoint": "pages",
        "version": 4,
        "issued_at": "2026-01-01T00:00:00Z",
        "expires_at": "2036-01-01T00:00:00Z",
        "experiment": "e",
        "experiment_id": 77,
        "strategy": "bandit",
        "choice": choice,
        "arms": [
            {
                "name": seat.name,
                "model": f"m@{seat.arm_id}",
                "control": seat.is_control,
                "enabled": seat.enabled,
                "propensity": None if choice == "context" else seat.propensity,
            }
            for seat in seats
        ],
        "receipt": "r",
        "key_id": "k",
        "sticky": sticky,
        "holdout": holdout,
        "context": receipt.context,
        "policy": policy,
        "belief": belief,
    }
    return msgspec.convert(document, Bundle), receipt


@pytest.mark.parametrize(
    ("choice", "changes"),
    [
        ("hash", {}),
        *((c, w) for c in ("draw", "context") for w in ({}, {"holdout": 0.3}, {"sticky": True, "holdout": 0.2})),
    ],
    ids=str,
)
def test_what_a_device_chooses__whatever_is_asked__is_given_and_nothing_else(
    choice: str, changes: dict[str, Any]
) -> None:
    rng = random.Random(f"{choice}{changes}")
    held_out = kept_apart = 0
    for i in range(250):
        if i % 25 == 0:
            bundle, receipt = bundle_and_receipt(choice, rng, **changes)
        unit = rng.choice([None, f"u{rng.randint(0, 40)}"])
        context = rng.choice([None, {"age": rng.randint(-9, 200), "country": rng.choice(["KR", "XX"])}, {"x": True}])
        excluded = {j for j in range(len(bundle.arms)) if rng.random() < 0.15}
        kept = None
        keeps = bundle.sticky and unit is not None and choosing.holdout(bundle, unit, ()) is None
        is_drawn = unit is None or not (keeps or choice == "hash")
        if keeps:
            assert unit is not None
            own = choosing.first(bundle, unit, context)
            kept = Kept(receipt, context)
            route = own if not excluded else choosing.kept_among(bundle, unit, own, excluded)
            is_drawn = route is None
            route = route or choosing.route(bundle, None, context, excluded, rng.random)
        elif bundle.sticky and unit is not None and choosing.holdout(bundle, unit, excluded) is None:
            route = choosing.route(bundle, None, context, excluded, rng.random)  # its control is excluded
        else:
            route = choosing.route(bundle, unit, context, excluded, rng.random)
        if route is None:
            continue
        names = [f"v{j}" for j in sorted(excluded)]
        claim = Claim(
            f"v{route.position}", route.propensities[route.position], unit, context, route.holdout, names, kept
        )
        if route.holdout:
            claim = claim._replace(kept=None)
        judged = judge(receipt, claim)
        assert judged.propensities == pytest.approx(route.propensities, abs=1e-9)
        held_out += route.holdout
        kept_apart += kept is not None and bool(excluded)
        with pytest.raises(NotGiven, match="expected"):
            judge(receipt, claim._replace(propensity=claim.propensity - 1e-5))
        if unit is not None and receipt.holdout:
            with pytest.raises(NotGiven):
                judge(receipt, claim._replace(holdout=not claim.holdout))
        if not is_drawn and not route.holdout:
            for other, share in enumerate(route.propensities):
                if other != route.position and share > 0:
                    with pytest.raises(NotGiven, match="not the arm of this unit"):
                        judge(receipt, claim._replace(arm=f"v{other}", propensity=share))
    assert held_out > 10 or not changes
    assert kept_apart > 10 or not changes.get("sticky")


@pytest.mark.parametrize("sticky", [False, True])
def test_context_that_would_not_be_taken__of_units_held_out_and_known__is_told_at_once(
    sticky: bool, tmp_path: Path
) -> None:
    rng = random.Random(5)
    bundle, _ = bundle_and_receipt("context", rng, sticky=sticky, holdout=0.4)
    is_held_out = [choosing.holdout(bundle, f"u{i}", ()) is not None for i in range(40)]
    assert {*is_held_out} == {False, True}
    state = State(tmp_path / "state", 100)
    no_arm: set[int] = set()
    for i in range(40):
        for excluded in (no_arm, {0}):
            with pytest.raises(choosing.ContextInvalid):
                assigned(bundle, state, f"u{i}", {"age": "old"}, excluded, rng.random)
    state.close()

"""Which arm a unit gets, and that the reported probability is the one that was used."""

import msgspec
import numpy as np
import pytest

from bandits import policies
from serving import snapshot
from serving.routing import CountingRouter, DrawnRouter, HashedRouter, draw, router
from serving.runtimes.static import StaticModel
from serving.tokens import InvalidToken, Signer, Token, new_id

MODEL = StaticModel(model="m@1", framework="static")
REWARD = snapshot.Reward(1, "e", "reward", "binary", "maximize", 60.0)


def experiment(strategy: snapshot.Strategy, shares: list[float], policy: str | None = None) -> snapshot.Experiment:
    arms = [
        snapshot.Arm(i, f"arm-{i}", MODEL, share, enabled=share > 0, count=200, mean=0.4 + 0.1 * i, m2=48.0)
        for i, share in enumerate(shares)
    ]
    return snapshot.Experiment(1, "e", strategy, arms, REWARD, policy and snapshot.Policy(policy))  # type: ignore[arg-type]


def counts_pulls(name: str) -> bool:
    return name not in policies.contextual_names() and bool(policies.make(name).counts_own_pulls)


def test_draw__probability_zero__is_never_drawn() -> None:
    assert {draw([0.0, 0.0, 1.0]) for _ in range(2000)} == {2}
    assert {draw([0.5, 0.5, 1.0]) for _ in range(2000)} == {0, 2}


def test_drawn_router__realised_shares__are_the_reported_ones() -> None:
    shares = [0.7, 0.25, 0.05]
    one = DrawnRouter(shares)
    found = np.bincount([one.route("u")[0] for _ in range(20_000)], minlength=3) / 20_000
    assert np.all(np.abs(found - shares) <= 4 * np.sqrt(np.array(shares) * (1 - np.array(shares)) / 20_000))


def test_hashed_router__arm_that_grows__loses_nobody() -> None:
    units = [f"unit-{i}" for i in range(10_000)]
    before = {unit: HashedRouter(9, [0.6, 0.3, 0.1]).route(unit)[0] for unit in units}
    after = {unit: HashedRouter(9, [0.45, 0.3, 0.25]).route(unit)[0] for unit in units}
    moved = [(before[unit], after[unit]) for unit in units if before[unit] != after[unit]]
    assert moved
    assert all(source == 0 or source == 1 for source, _ in moved)
    assert all(before[unit] != 2 or after[unit] == 2 for unit in units)
    share = np.mean([arm == 2 for arm in after.values()])
    assert abs(share - 0.25) <= 4 * (0.25 * 0.75 / 10_000) ** 0.5


def test_hashed_router__another_experiment__splits_otherwise() -> None:
    units = [f"unit-{i}" for i in range(2000)]
    one = np.array([HashedRouter(1, [0.5, 0.5]).route(unit)[0] for unit in units])
    two = np.array([HashedRouter(2, [0.5, 0.5]).route(unit)[0] for unit in units])
    assert abs(float((one == two).mean()) - 0.5) <= 4 * 0.5 / 2000**0.5


def test_hashed_router__many_arms__each_gets_its_share() -> None:
    one = HashedRouter(1, [0.05] * 20)
    found = np.bincount([one.route(f"u{i}")[0] for i in range(20_000)], minlength=20) / 20_000
    assert np.all(np.abs(found - 0.05) <= 4.5 * (0.05 * 0.95 / 20_000) ** 0.5)


def test_counting_router__since_the_snapshot__does_not_herd() -> None:
    one = CountingRouter(experiment("bandit", [0.5, 0.5], "ucb1"))
    positions, logged = zip(*[one.route(None)[:2] for _ in range(600)], strict=True)
    assert min(np.bincount(positions, minlength=2)) >= 30
    assert all(
        abs(sum(shares) - 1) < 1e-9 and shares[position] > 0 for position, shares in zip(positions, logged, strict=True)
    )


@pytest.mark.parametrize("policy", [name for name in policies.names() if counts_pulls(name)])
def test_counting_router__rewards_later_than_snapshots__open_pulls_are_told_to_the_next(policy: str) -> None:
    """Twelve snapshots of 300 requests each, none of them answered, divide them as one of 3,600
    would; not 3,600 to 0."""
    made = experiment("bandit", [0.5, 0.5])
    near = [msgspec.structs.replace(arm, mean=0.48 + 0.02 * i) for i, arm in enumerate(made.arms)]
    made = msgspec.structs.replace(made, arms=near, policy=snapshot.Policy(policy, floor=0.0))
    out = np.zeros(2)
    for _ in range(12):
        arms = [msgspec.structs.replace(arm, open=float(out[i])) for i, arm in enumerate(made.arms)]
        one = CountingRouter(msgspec.structs.replace(made, arms=arms))
        out += np.bincount([one.route(None).position for _ in range(300)], minlength=2)
    whole = CountingRouter(made)
    at_once = np.bincount([whole.route(None).position for _ in range(3600)], minlength=2)
    assert out == pytest.approx(at_once, abs=40)
    assert out.min() > 100


def test_counting_router__burn_in__counts_rewards_ever_learned() -> None:
    made = experiment("bandit", [0.5, 0.5], "ucb1")
    few = [msgspec.structs.replace(arm, count=30.0, m2=7.0) for arm in made.arms]
    young = CountingRouter(msgspec.structs.replace(made, arms=few)).route(None).propensities
    assert young == pytest.approx([0.5, 0.5])  # as an older snapshot has it, which does not tell
    grown = [msgspec.structs.replace(arm, learned=4000.0) for arm in few]
    assert max(CountingRouter(msgspec.structs.replace(made, arms=grown)).route(None).propensities) > 0.9


@pytest.mark.parametrize(
    ("strategy", "policy", "kind"),
    [("ab", None, HashedRouter), ("bandit", "thompson", DrawnRouter), ("bandit", "ucb1", CountingRouter)],
)
def test_router__strategy_and_policy__choose_the_kind(
    strategy: snapshot.Strategy, policy: str | None, kind: type
) -> None:
    assert isinstance(router(experiment(strategy, [0.5, 0.5], policy)), kind)


def test_tokens__round_trip_and_forgery() -> None:
    signer = Signer("s" * 40)
    token = Token(new_id(), 7, 9, 11, 0.25, learnable=True)
    assert signer.read(signer.sign(token)) == token
    with pytest.raises(InvalidToken):
        Signer("t" * 40).read(signer.sign(token))
    text = signer.sign(token)
    assert len({signer.sign(token) for _ in range(3)}) == 1
    for wrong in (text[:-1], text + "A", text[:-1] + ("A" if text[-1] != "A" else "B"), text.replace(text[10], "!")):
        with pytest.raises(InvalidToken):
            signer.read(wrong)

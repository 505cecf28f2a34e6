"""One arm for all against a policy that looks at the request: what is lost, with intervals that
cover."""

import numpy as np
import pytest

from bandits.inference.one_arm import OneArm, against_one_arm


def log(seed: int, n: int, floor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Arm 0 has .30 everywhere; arm 1 .20, and .70 in the upper fifth, where the policy prefers it:
    (rewards, arm, propensities, upper)."""
    rng = np.random.default_rng(seed)
    upper = rng.random(n) < 0.2
    second = np.where(upper, 1.0 - floor, floor)
    arm = (rng.random(n) < second).astype(np.int64)
    mean = np.where(arm == 0, 0.3, np.where(upper, 0.7, 0.2))
    return (rng.random(n) < mean).astype(np.float64), arm, np.column_stack([1.0 - second, second]), upper


def test_against_one_arm__both_alike_on_average__shows_what_the_policy_gains() -> None:
    rewards, arm, propensities, upper = log(1, 40_000, 0.05)
    first, second = against_one_arm(rewards, arm, propensities)
    # Policy: .8 (.95 * .3 + .05 * .2) + .2 (.95 * .7 + .05 * .3) = .236 + .136 = .372; each arm
    # alone .30.
    for one in (first, second):
        assert one.value == pytest.approx(0.30, abs=0.03)
        assert one.interval is not None
        assert one.interval[0] < 0.072 < one.interval[1]
        assert one.interval[0] > 0
    # Where it is upper, the first arm would lose .95 * .7 + .05 * .3 - .3 = .38 a decision, and the
    # plain means do not say so.
    there = against_one_arm(rewards[upper], arm[upper], propensities[upper])[0]
    assert there.interval is not None
    assert there.interval[0] < 0.38 < there.interval[1]


@pytest.mark.parametrize("floor", [0.02, 0.1])
def test_against_one_arm__intervals__cover(floor: float) -> None:
    truth = 0.8 * (1 - floor) * 0.3 + 0.8 * floor * 0.2 + 0.2 * (1 - floor) * 0.7 + 0.2 * floor * 0.3 - 0.3
    runs, covered, known = 300, np.zeros(2), np.zeros(2)
    for seed in range(runs):
        rewards, arm, propensities, _ = log(seed, 6000, floor)
        for i, one in enumerate(against_one_arm(rewards, arm, propensities)):
            if one.interval is not None:
                known[i] += 1
                covered[i] += one.interval[0] <= truth <= one.interval[1]
    assert (known > 0.9 * runs).all()
    # Each is at 97.5 %, both together at 95 %.
    assert (covered / known >= 0.95 - 3 * (0.025 * 0.975 / known) ** 0.5).all()


def test_against_one_arm__what_cannot_be_known__is_none() -> None:
    none = OneArm(None, None, None)
    assert against_one_arm(np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros((0, 2))) == [none, none]
    rewards, arm = np.tile([1.0, 0.0], 500), np.zeros(1000, dtype=np.int64)
    never = np.tile([1.0, 0.0], (1000, 1))
    assert against_one_arm(rewards, arm, never)[1] == none  # it had no chance
    rarely = np.tile([0.99, 0.01], (1000, 1))
    arm[:20] = 1
    few = against_one_arm(rewards, arm, rarely)[1]
    assert few.value is not None
    assert few.interval is None  # 20 choices
    arm[:200], rewards[:200] = 1, 1.0
    assert against_one_arm(rewards, arm, rarely)[1].interval is None  # it never failed yet: that is not certainty

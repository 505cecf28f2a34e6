"""When an experiment that is under way would promote: simulated from where it stands, with means
drawn from what is known of its arms.

`plan` begins at nothing with means that somebody supposes; this begins with the rewards and the
evidence that there are, by the same rule and the same probabilities, so that from nothing and with
one pair of means the two agree. A stretch is drawn as counts, not decision by decision: as many
runs as one likes cost hardly more than one. For rewards of 0 and 1.
"""

from typing import NamedTuple

import numpy as np

from bandits import checks
from bandits.inference.log_factors import STEPS, averaged
from bandits.policies import Policy
from bandits.policies.allocation import with_burn_in, with_floor
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

from .design_factors import counted_log_factors


class Outlook(NamedTuple):
    """Of each run, (runs,). `more`: after how many more rewards it promotes; infinite where it does
    not within the horizon. `cost`: reward lost against always serving the best arm, until then."""

    more: Array
    cost: Array


def outlook(
    policy: Policy | None,
    means: Array,
    ones: Array,
    count: Array,
    evidence: Array,
    *,
    horizon: int,
    needed: float,
    seed: int,
    shares: Array | None = None,
    floor: float = 0.0,
    burn_in: float = 0.0,
    stretches: int = 30,
) -> Outlook:
    """What becomes of each run within `horizon` more rewards.

    `means` (runs, K) are the arms' true means in each run, larger better; `ones` of `count` rewards
    (K,) are learned, `evidence` (K, K) is there. A fixed split has no policy but `shares` (K,).
    What is learned reaches the probabilities after each of `stretches`, and the evidence is looked
    at there; they grow with what is known, for so much slower do the probabilities change.

    Raises ValueError, for policies that count their own pulls too: they go decision by decision.
    """
    checks.whole("horizon", horizon, 1)
    checks.whole("stretches", stretches, 1)
    runs, arms = means.shape
    if policy is not None and policy.counts_own_pulls:
        raise ValueError(f"{policy.name} counts its own pulls: its decisions can't be drawn by the stretch")
    if policy is None and shares is None:
        raise ValueError("a fixed split needs its shares")
    rng = np.random.default_rng(seed)
    reward = RewardModel("binary")
    won = np.broadcast_to(np.asarray(ones, dtype=np.float64), (runs, arms)).copy()
    seen = np.broadcast_to(np.asarray(count, dtype=np.float64), (runs, arms)).copy()
    # Which alternatives carry the evidence is not asked: all alike, so that it is what it is now.
    sums = np.repeat(np.log(np.maximum(evidence, 1e-300))[None, :, :, None], len(STEPS), axis=3).repeat(runs, axis=0)
    found = np.full(runs, np.inf)
    cost = np.zeros(runs)
    going = np.arange(runs)
    begun = max(float(np.sum(count)), horizon / stretches)
    growth = np.power((begun + horizon) / begun, np.arange(1, stretches + 1) / stretches)
    start = 0
    for end in np.unique(np.ceil(begun * growth - begun - 1e-6).astype(np.int64)):
        width, start = int(end) - start, int(end)
        mine_won, mine_seen = won[going], seen[going]
        if policy is None:
            probabilities = np.broadcast_to(np.asarray(shares, dtype=np.float64), mine_seen.shape)
        else:
            mean = np.divide(mine_won, mine_seen, out=np.zeros_like(mine_won), where=mine_seen > 0)
            weights = policy.propensities(ArmStatistics(mine_seen, mean, np.zeros_like(mean)), reward)
            probabilities = with_floor(with_burn_in(weights, mine_seen, burn_in), floor)
        probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
        pulls = rng.multinomial(width, probabilities)
        cost[going] += (pulls * (means[going].max(axis=1, keepdims=True) - means[going])).sum(axis=1)
        new = rng.binomial(pulls, means[going]).astype(np.float64)
        pooled = (mine_won.sum(axis=1) + 0.5) / (mine_seen.sum(axis=1) + 1.0)
        sums[going] += counted_log_factors(new, pulls - new, probabilities, pooled)
        won[going], seen[going] = mine_won + new, mine_seen + pulls
        values = averaged(sums[going])
        values[:, np.arange(arms), np.arange(arms)] = np.inf
        done = values.min(axis=2).max(axis=1) >= needed
        found[going[done]] = float(end)
        going = going[~done]
        if not len(going):
            break
    return Outlook(found, cost)

"""Shared vectors: requests of snapshots of every kind, and what the service chooses for each. Every
client that chooses by itself is held against the same ones (docs/package.md has their form).

As a program it writes them: `python -m tests.vectors.making FILE [--seed 1] [--vectors 10000]`.
"""

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bandits.policies import make
from bandits.policies.allocation import allocate
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics
from serving import choosing, snapshot
from serving.assignment import Assignment
from serving.live import LiveEndpoint, LiveModel, make_live, not_loaded
from serving.runtimes.static import StaticModel

FORM = 1
VECTORS = 10_000
ISSUED_AT = 1_750_000_000.0
FIELDS: list[dict[str, Any]] = [
    {"name": "age", "type": "number", "min": 0, "max": 120},
    {"name": "since", "type": "number", "min": 1e9, "max": 1e9 + 5},
    {"name": "country", "type": "category", "values": ["KR", "US", "Türkiye"]},
]
FLOOR = 0.01


@dataclass
class Kept:
    """What units keep, in memory (a Keeps of serving.choosing)."""

    arms: dict[tuple[int, str], Assignment] = field(default_factory=dict)

    def known(self, experiment_id: int, unit: str, arms: Sequence[int]) -> Assignment | None:
        return None

    def get(
        self, endpoint: str, experiment_id: int, unit: str, proposed: Assignment, arms: Sequence[int]
    ) -> Assignment:
        kept = self.arms.get((experiment_id, unit))
        if kept is None or kept.arm_id not in arms:
            kept = self.arms[experiment_id, unit] = proposed
        return kept


class Draws:
    """Gives the numbers of a vector one after another."""

    def __init__(self) -> None:
        self.left: list[float] = []

    def __call__(self) -> float:
        return self.left.pop(0)


def documents(seed: int) -> dict[str, snapshot.Endpoint]:
    """A snapshot of each kind, by name."""
    rng = random.Random(seed)
    plain = [("thompson", "binary"), ("thompson", "continuous"), ("thompson", "count"), ("top-two-thompson", "binary")]
    plain += [("softmax", "binary"), ("epsilon-greedy", "continuous"), ("uniform", "binary")]
    plain += [(name, "binary") for name in ("ucb1", "ucb-tuned", "kl-ucb", "bayes-ucb")]
    made = {"single": endpoint(None)}
    made |= {f"ab-{arms}": endpoint(split("ab", arms, rng)) for arms in (2, 9, 40)}
    made |= {strategy: endpoint(split(strategy, 2, rng)) for strategy in ("canary", "shadow")}
    made |= {f"{policy}-{kind}": endpoint(bandit(policy, kind, rng)) for policy, kind in plain}
    made["thompson-100-arms"] = endpoint(bandit("thompson", "binary", rng, arms=100))
    made["thompson-rare"] = endpoint(bandit("thompson", "rare", rng, arms=4))
    for policy in ("lin-thompson", "logistic-thompson", "lin-ucb"):
        for name, changes in (("", {}), ("-sticky", {"sticky": True}), ("-holdout", {"holdout": 0.2})):
            made[f"{policy}{name}"] = endpoint(bandit(policy, "binary", rng, **changes))
    made["sticky"] = endpoint(bandit("thompson", "binary", rng, sticky=True))
    made["sticky-holdout"] = endpoint(bandit("thompson", "continuous", rng, sticky=True, holdout=0.3))
    made["holdout"] = endpoint(bandit("thompson", "binary", rng, holdout=0.1))
    made["apprentice"] = endpoint(bandit("thompson", "binary", rng, apprentice=True))
    return made


def endpoint(experiment: snapshot.Experiment | None) -> snapshot.Endpoint:
    champion = model(0)
    reward = snapshot.Reward(7, "vectors", "reward", "binary", "maximize", 3600.0)
    rewards = [reward if experiment is None else experiment.reward]
    baseline = snapshot.Baseline(7, 1) if experiment is None else None
    return snapshot.Endpoint(3, "vectors", 17, ISSUED_AT, champion, 300, experiment, rewards, baseline)


def model(number: int) -> StaticModel:
    return StaticModel(model=f"m@{number}", framework="static", payload={"number": number}, outputs=["predict"])


def split(strategy: Any, arms: int, rng: random.Random) -> snapshot.Experiment:
    weights = [1.0, 0.0] if strategy == "shadow" else [rng.choice([0.002, 0.3, 1.0, 2.5]) for _ in range(arms)]
    return _experiment(strategy, [weight / sum(weights) for weight in weights], [True] * arms, None, "binary", {})


def bandit(policy: str, kind: str, rng: random.Random, arms: int = 4, **changes: Any) -> snapshot.Experiment:
    """The last arm is disabled, and the one before it has not had its burn-in."""
    enabled = [i < arms - 1 for i in range(arms)]
    means = {"binary": 0.3, "rare": 0.002, "continuous": 1e9, "count": 2.5}[kind]
    counts = [20.0 if i == arms - 2 else float(rng.randint(200, 5000)) for i in range(arms)]
    found = [means + rng.choice([0.001, 0.01, 0.03]) * rng.random() for _ in range(arms)]
    spread = [mean * (1 - mean) if means < 1 else mean if kind == "count" else 0.25 for mean in found]
    known = ArmStatistics(np.array(counts), np.array(found), np.array(spread) * counts)
    contextual = policy in ("lin-thompson", "logistic-thompson", "lin-ucb")
    reward = "binary" if kind == "rare" else kind
    floor = min(FLOOR, 0.1 / arms)
    if contextual:
        shares, belief = [0.0] * arms, _belief(arms, rng)
    else:
        belief = None
        model_ = RewardModel(reward)  # type: ignore[arg-type]  # one of its three
        shares = allocate(make(policy), known, model_, floor=floor, burn_in=100, enabled=np.array(enabled)).tolist()
    rules = snapshot.Policy(policy, floor=floor)
    more = {"belief": belief, "context": FIELDS if contextual else [], **changes}
    return _experiment("bandit", shares, enabled, rules, reward, more, known)


def _belief(arms: int, rng: random.Random) -> snapshot.Belief:
    d = 1 + 1 + 1 + 4
    numbers = np.random.default_rng(rng.randint(0, 2**31))
    roots = numbers.normal(size=(arms, d, d))
    covariance = roots @ roots.transpose(0, 2, 1) / 40 + 0.002 * np.eye(d)
    return snapshot.Belief((0.3 * numbers.normal(size=(arms, d))).tolist(), covariance.tolist())


def _experiment(
    strategy: Any,
    shares: Sequence[float],
    enabled: Sequence[bool],
    policy: snapshot.Policy | None,
    kind: Any,
    changes: dict[str, Any],
    known: ArmStatistics | None = None,
) -> snapshot.Experiment:
    reward = snapshot.Reward(7, "vectors", "reward", kind, "maximize", 3600.0)
    arms = [
        snapshot.Arm(
            i + 1,
            f"arm-{i}",
            model(i),
            share,
            enabled=on,
            is_control=i == 0,
            **(
                {}
                if known is None
                else {"count": float(known.count[i]), "mean": float(known.mean[i]), "m2": float(known.m2[i])}
            ),
        )
        for i, (share, on) in enumerate(zip(shares, enabled, strict=True))
    ]
    return snapshot.Experiment(7, "vectors", strategy, arms, reward, policy, **changes)


def requests(document: snapshot.Endpoint, count: int, rng: random.Random) -> list[dict[str, Any]]:
    """So many, some of units that come again. Of a policy that counts its pulls, and has no
    features, none excludes an arm: no client knows what it would choose without one."""
    experiment = document.experiment
    names = [] if experiment is None else [arm.name for arm in experiment.arms]
    if experiment is not None and counts_pulls(document) and experiment.belief is None:
        names = []
    return [
        {
            "unit": rng.choice([None, f"unit-{rng.randint(0, 60)}", f"ünit-{rng.random()}", "z" * 256]),
            "context": _context(rng),
            "exclude": _excluded(names, rng),
            "draws": [rng.random(), rng.random()],
        }
        for _ in range(count)
    ]


def _context(rng: random.Random) -> dict[str, Any] | None:
    if rng.random() < 0.1:
        return None
    context = {
        "age": rng.choice([None, 0, 31, 44.5, 500, -3]),
        "since": rng.choice([1e9, 1e9 + 1.25, 1_000_000_004]),
        "country": rng.choice([None, "KR", "US", "Türkiye", "elsewhere"]),
        "page": "not declared",
    }
    return {name: value for name, value in context.items() if rng.random() < 0.8}


def _excluded(names: Sequence[str], rng: random.Random) -> list[str]:
    if rng.random() < 0.6:
        return []
    if rng.random() < 0.05:
        return list(names)
    return [*rng.sample(names, min(len(names), rng.randint(0, 2))), *rng.choices(["gone"], k=rng.randint(0, 1))]


def live_of(document: snapshot.Endpoint, draws: Draws) -> LiveEndpoint:
    """As the service has it, but for the models, which choosing never asks."""

    def find(described: snapshot.Model) -> LiveModel:
        return not_loaded(described, "not asked")

    return make_live(document, find, draws)


def chosen(live: LiveEndpoint, kept: Kept, draws: Draws, request: dict[str, Any]) -> dict[str, Any]:
    """What the service chooses: the arm, and every arm's probability, by position."""
    draws.left = list(request["draws"])
    found = choosing.route(kept, live, request["unit"], request["context"], request["exclude"])
    return {
        "arm": found.seat.arm if found.by_arm else None,
        "propensity": found.propensity,
        "propensities": list(found.propensities),
        "holdout": found.holdout,
        "by_arm": found.by_arm,
    }


def counts_pulls(document: snapshot.Endpoint) -> bool:
    experiment = document.experiment
    return (
        experiment is not None and experiment.policy is not None and bool(make(experiment.policy.name).counts_own_pulls)
    )


def vectors(seed: int = 1, count: int = VECTORS) -> list[dict[str, Any]]:
    """Cases, each with a snapshot and its vectors in the order in which they are asked: units keep
    their arms within a case. Of a policy that counts its pulls each vector is the first that the
    snapshot is asked, for no client knows the pulls of others."""
    rng = random.Random(seed)
    kinds = documents(seed)
    cases = []
    for place, (name, document) in enumerate(kinds.items()):
        draws, kept = Draws(), Kept()
        live, is_counting = live_of(document, draws), counts_pulls(document)
        told = []
        for request in requests(document, count * (place + 1) // len(kinds) - count * place // len(kinds), rng):
            if is_counting:
                live = live_of(document, draws)
            told.append(request | {"expected": chosen(live, kept, draws, request)})
        cases.append({"name": name, "document": document, "vectors": told})
    return cases


def file_of(cases: list[dict[str, Any]], seed: int) -> bytes:
    """The file that clients are held against (docs/package.md)."""
    from noregret.packaging.contents import Terms, compose

    from serving.artifacts import ArtifactStore
    from serving.edge.bundle import Issuer
    from serving.edge.receipt import Receipts
    from serving.edge.signing import BundleSigner
    from serving.packaged.frozen import SNAPSHOT

    nowhere = ArtifactStore(Path("nowhere"))
    issuer = Issuer(Receipts("vectors"), BundleSigner("vectors", ()), lambda: nowhere, 86_400.0)
    told = []
    for case in cases:
        document = case["document"]
        # An issuer keeps a bundle by its endpoint and version.
        numbered = msgspec.structs.replace(document, name=f"vectors-{case['name']}")
        contents = compose(document, nowhere, Terms("receipt", ISSUED_AT + 1e9))
        told.append(
            {
                "name": case["name"],
                "snapshot": json.loads(contents.files[SNAPSHOT]),
                "bundle": json.loads(issuer.issue(live_of(numbered, Draws()), ISSUED_AT).body),
                "vectors": case["vectors"],
            }
        )
    return json.dumps({"form": FORM, "seed": seed, "cases": told}, sort_keys=True).encode()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--vectors", type=int, default=VECTORS)
    arguments = parser.parse_args()
    arguments.file.write_bytes(file_of(vectors(arguments.seed, arguments.vectors), arguments.seed))


if __name__ == "__main__":
    main()

"""What the demo can play: each scene prepares its world, watches it, says when it is over, and
whether it went as it should."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from noregret.learning.shown.results import Results

from .client import Client
from .digits import Candidate, Digits
from .ledger_check import LedgerCheck, check
from .traffic import Tally, Traffic

ENDPOINT = "digits"
EXPERIMENT = f"{ENDPOINT}-demo"
LIMIT_SECONDS = 150.0
POLL_SECONDS = 0.5

Show = Callable[[Results, float], None]


@dataclass(frozen=True, slots=True)
class Side:
    """One experiment at its end: its results and document, the ledger beside what was sent, and
    what was sent."""

    results: Results
    experiment: dict[str, Any]
    ledger: LedgerCheck
    tally: Tally


@dataclass(frozen=True, slots=True)
class Ending:
    """How a scene ended. `sides` begins with the experiment that the scene is about; `problem` says
    what did not go as it should."""

    sides: list[Side]
    traffic_problems: list[str]
    seconds: float
    problem: str | None

    @property
    def side(self) -> Side:
        return self.sides[0]


class Scene(Protocol):
    """One story. `watch` is asked again and again, and may change the world."""

    @property
    def tells_outcomes(self) -> bool:
        """Do users also say what was true?"""

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Each gets the same scans, and has one experiment, named after it; the first is what the
        scene is about."""

    def candidates(self, digits: Digits) -> list[Candidate]:
        """The models that it registers."""

    def prepare(self, client: Client, digits: Digits) -> None: ...
    def watch(self, client: Client, results: Results, traffic: Traffic) -> bool:
        """Is it over?"""

    def problem(self, sides: list[Side]) -> str | None: ...


def register(client: Client, candidates: list[Candidate], digits: Digits) -> None:
    """Register models as digits@1, digits@2, ..., with a scan for whoever tries them."""
    sample = json.dumps(digits.images[:2].tolist())
    for candidate in candidates:
        definition = {"name": "digits", "version": candidate.version, "framework": "sklearn", "sample": sample}
        client.register(definition, candidate.artifact)


def results_of(client: Client, experiment: str) -> Results:
    return msgspec.convert(client.get(f"/api/v1/experiments/{experiment}/results"), Results)


def experiment_on(endpoint: str) -> str:
    return f"{endpoint}-demo"


def begin(client: Client, champion: str, *, endpoint: str = ENDPOINT, **document: Any) -> None:
    """An endpoint with its champion, and its running experiment."""
    experiment = experiment_on(endpoint)
    client.post("/api/v1/endpoints", {"name": endpoint, "champion": f"digits@{champion}", "deadline_ms": 300})
    client.post("/api/v1/experiments", {"name": experiment, "endpoint": endpoint, **document})
    client.post(f"/api/v1/experiments/{experiment}/start", {"reason": "demo"})


@dataclass(slots=True)
class Bandit:
    """Three models behind one endpoint, true outcomes as rewards, until one is promoted."""

    tells_outcomes: bool = False
    endpoints: tuple[str, ...] = (ENDPOINT,)

    def candidates(self, digits: Digits) -> list[Candidate]:
        return digits.candidates

    def prepare(self, client: Client, digits: Digits) -> None:
        begin(
            client,
            "1",
            strategy="bandit",
            arms=[{"name": f"v{c.version}", "model": f"digits@{c.version}"} for c in digits.candidates],
            policy={"name": "thompson", "floor": 0.05, "burn_in": 100},
            reward={"kind": "binary", "window_seconds": 5},
            promotion={"rule": "anytime", "alpha": 0.05, "min_rewards": 100, "auto": True},
        )

    def watch(self, client: Client, results: Results, traffic: Traffic) -> bool:
        return results.status == "completed"

    def problem(self, sides: list[Side]) -> str | None:
        return None if sides[0].experiment["promoted_arm"] else "nothing was promoted"


@dataclass(slots=True)
class Canary:
    """A new version that is truly worse, trained on permuted labels: it is rolled back by
    itself."""

    tells_outcomes: bool = False
    endpoints: tuple[str, ...] = (ENDPOINT,)

    def candidates(self, digits: Digits) -> list[Candidate]:
        return [digits.candidates[-1], digits.permuted]

    def prepare(self, client: Client, digits: Digits) -> None:
        begin(
            client,
            "3",
            strategy="canary",
            arms=[{"name": "new", "model": f"digits@{digits.permuted.version}"}],
            canary={"steps": [0.1, 0.25, 0.5, 1.0], "bake_seconds": 30},
            reward={"kind": "binary", "window_seconds": 2},
            guardrails=[{"metric": "error_rate", "max": 0.05, "action": "rollback"}],
        )

    def watch(self, client: Client, results: Results, traffic: Traffic) -> bool:
        return results.status == "completed"

    def problem(self, sides: list[Side]) -> str | None:
        outcome = sides[0].experiment["outcome"]
        return None if outcome == "rolled_back" else f"it was not rolled back: {outcome}"


@dataclass(slots=True)
class Shadow:
    """Two challengers see copies of the traffic; the one that reads more scans rightly is then
    promoted by hand."""

    tells_outcomes: bool = True
    endpoints: tuple[str, ...] = (ENDPOINT,)
    scored: int = 600

    def candidates(self, digits: Digits) -> list[Candidate]:
        return digits.candidates

    def prepare(self, client: Client, digits: Digits) -> None:
        begin(
            client,
            "1",
            strategy="shadow",
            arms=[{"name": f"v{c.version}", "model": f"digits@{c.version}"} for c in digits.candidates[1:]],
            reward={"kind": "binary", "window_seconds": 5},
        )

    def watch(self, client: Client, results: Results, traffic: Traffic) -> bool:
        scores = self._scores(results)
        if len(scores) < 2 or min(count for count, _ in scores.values()) < self.scored:
            return False
        best = max(scores, key=lambda name: scores[name][1])
        client.post(
            f"/api/v1/experiments/{EXPERIMENT}/promote",
            {"arm": best, "reason": f"right on {scores[best][1]:.1%} of {scores[best][0]:,} scans, as a shadow"},
        )
        return True

    def _scores(self, results: Results) -> dict[str, tuple[int, float]]:
        """(scored, share that was right) of each challenger."""
        compared = {arm.name: arm.shadow.outcomes for arm in results.arms if arm.shadow and not arm.is_control}
        return {
            name: (told.count, told.accuracy) for name, told in compared.items() if told and told.accuracy is not None
        }

    def problem(self, sides: list[Side]) -> str | None:
        return None if sides[0].experiment["promoted_arm"] else "the challengers were not scored in time"


@dataclass(slots=True)
class Drift:
    """Half-way all scans come inverted, and the model that was best is not any more: a policy that
    forgets follows sooner.

    Beside it, on the same scans, goes the same policy without forgetting. Both serve the same two
    models.
    """

    tells_outcomes: bool = False
    endpoints: tuple[str, ...] = (ENDPOINT, "digits-without-forgetting")
    led: float = 0.8
    scans_before: int = 1000
    scans_after: int = 2000
    changed: bool = False
    followed: bool = False

    def candidates(self, digits: Digits) -> list[Candidate]:
        return [digits.candidates[-1], digits.inverted]

    def prepare(self, client: Client, digits: Digits) -> None:
        good = digits.candidates[-1]
        for endpoint, params in zip(self.endpoints, ({"discount": 0.998}, {}), strict=True):
            begin(
                client,
                good.version,
                endpoint=endpoint,
                strategy="bandit",
                arms=[
                    {"name": "upright", "model": f"digits@{good.version}"},
                    {"name": "inverted", "model": f"digits@{digits.inverted.version}"},
                ],
                policy={"name": "thompson", "floor": 0.05, "burn_in": 50, "params": params},
                reward={"kind": "binary", "window_seconds": 2},
                promotion={"auto": False},
            )

    def watch(self, client: Client, results: Results, traffic: Traffic) -> bool:
        shares = {arm.name: arm.propensity or 0.0 for arm in results.arms}
        if not self.changed and results.decisions > self.scans_before and shares["upright"] > self.led:
            traffic.inverted = self.changed = True
        elif self.changed and shares["inverted"] > self.led:
            self.followed = True
        return self.followed and traffic.tallies[ENDPOINT].inverted >= self.scans_after

    def problem(self, sides: list[Side]) -> str | None:
        if not self.followed:
            never = "the policy never preferred the better model"
            return "the policy did not follow the change" if self.changed else never
        forgets, remembers = (side.tally.inverted_right for side in sides)
        return None if forgets > remembers else "forgetting gained nothing"


SCENES: dict[str, Callable[[], Scene]] = {"bandit": Bandit, "canary": Canary, "shadow": Shadow, "drift": Drift}


def run(scene: Scene, *, url: str, key: str, digits: Digits, seed: int, show: Show) -> Ending:
    """Send traffic until the scene is over or the time is up, then hold the ledger against what was
    sent."""
    client = Client(url, key)
    try:
        register(client, scene.candidates(digits), digits)
        scene.prepare(client, digits)
        traffic = Traffic(
            url=url,
            key=key,
            endpoints=scene.endpoints,
            digits=digits,
            seed=seed,
            tells_outcomes=scene.tells_outcomes,
        )
        start = time.monotonic()
        traffic.start()
        try:
            while True:
                results = results_of(client, EXPERIMENT)
                seconds = time.monotonic() - start
                show(results, seconds)
                if scene.watch(client, results, traffic) or seconds > LIMIT_SECONDS or traffic.problems:
                    break
                time.sleep(POLL_SECONDS)
        finally:
            traffic.stop()
        sides = [_side(client, endpoint, tally) for endpoint, tally in traffic.tallies.items()]
        return Ending(sides, traffic.problems, seconds, scene.problem(sides))
    finally:
        client.close()


def _side(client: Client, endpoint: str, tally: Tally) -> Side:
    name = experiment_on(endpoint)
    ledger = check(client, name, tally)
    experiment = client.get(f"/api/v1/experiments/{name}")
    return Side(results_of(client, name), experiment, ledger, tally)

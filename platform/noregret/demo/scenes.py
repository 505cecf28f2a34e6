"""What the demo can play: each scene prepares its world, watches it, says when it is over, and whether it went as it should."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from .client import Client
from .digits import Candidate, Digits
from .ledger_check import LedgerCheck, check
from .traffic import Tally, Traffic

ENDPOINT = "digits"
EXPERIMENT = "digits-demo"
LIMIT_SECONDS = 150.0
POLL_SECONDS = 0.5

Show = Callable[[dict[str, Any], float], None]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a scene ended. `problem` says what did not go as it should, if anything."""

    results: dict[str, Any]
    outcome: str | None
    promoted: str | None  # arm
    ledger: LedgerCheck
    tally: Tally
    seconds: float
    problem: str | None


class Scene(Protocol):
    """One story. `watch` is asked again and again, and may change the world."""

    @property
    def tells_outcomes(self) -> bool:
        """Do users also say what was true?"""

    def prepare(self, client: Client, digits: Digits) -> None: ...
    def watch(self, client: Client, results: dict[str, Any], traffic: Traffic) -> bool:
        """Is it over?"""

    def problem(self, results: dict[str, Any], experiment: dict[str, Any]) -> str | None: ...


def register(client: Client, candidates: list[Candidate]) -> None:
    """Register models as digits@1, digits@2, ..."""
    for candidate in candidates:
        client.call(
            "POST",
            "/api/v1/models",
            data={"name": "digits", "version": candidate.version, "framework": "sklearn"},
            files={"artifact": ("model.skops", candidate.artifact)},
        )


def begin(client: Client, champion: str, **document: Any) -> None:
    """The endpoint with its champion, and the running experiment."""
    client.post("/api/v1/endpoints", {"name": ENDPOINT, "champion": f"digits@{champion}", "deadline_ms": 300})
    client.post("/api/v1/experiments", {"name": EXPERIMENT, "endpoint": ENDPOINT, **document})
    client.post(f"/api/v1/experiments/{EXPERIMENT}/start", {"reason": "demo"})


@dataclass(slots=True)
class Bandit:
    """Three models behind one endpoint, true outcomes as rewards, until one is promoted."""

    tells_outcomes: bool = False

    def prepare(self, client: Client, digits: Digits) -> None:
        register(client, digits.candidates)
        begin(
            client,
            "1",
            strategy="bandit",
            arms=[{"name": f"v{c.version}", "model": f"digits@{c.version}"} for c in digits.candidates],
            policy={"name": "thompson", "floor": 0.05, "burn_in": 100},
            reward={"kind": "binary", "window_seconds": 5},
            promotion={"rule": "anytime", "alpha": 0.05, "min_rewards": 100, "auto": True},
        )

    def watch(self, client: Client, results: dict[str, Any], traffic: Traffic) -> bool:
        return bool(results["status"] == "completed")

    def problem(self, results: dict[str, Any], experiment: dict[str, Any]) -> str | None:
        return None if experiment["promoted_arm"] else "nothing was promoted"


@dataclass(slots=True)
class Canary:
    """A new version that is truly worse, trained on permuted labels: it is rolled back by itself."""

    tells_outcomes: bool = False

    def prepare(self, client: Client, digits: Digits) -> None:
        register(client, [*digits.candidates, digits.permuted])
        begin(
            client,
            "3",
            strategy="canary",
            arms=[{"name": "new", "model": f"digits@{digits.permuted.version}"}],
            canary={"steps": [0.1, 0.25, 0.5, 1.0], "bake_seconds": 30},
            reward={"kind": "binary", "window_seconds": 2},
            guardrails=[{"metric": "error_rate", "max": 0.05, "action": "rollback"}],
        )

    def watch(self, client: Client, results: dict[str, Any], traffic: Traffic) -> bool:
        return bool(results["status"] == "completed")

    def problem(self, results: dict[str, Any], experiment: dict[str, Any]) -> str | None:
        return None if experiment["outcome"] == "rolled_back" else f"it was not rolled back: {experiment['outcome']}"


@dataclass(slots=True)
class Shadow:
    """Two challengers see copies of the traffic; the one that reads more scans rightly is then promoted by hand."""

    tells_outcomes: bool = True
    scored: int = 600

    def prepare(self, client: Client, digits: Digits) -> None:
        register(client, digits.candidates)
        begin(
            client,
            "1",
            strategy="shadow",
            arms=[{"name": f"v{c.version}", "model": f"digits@{c.version}"} for c in digits.candidates[1:]],
            reward={"kind": "binary", "window_seconds": 5},
        )

    def watch(self, client: Client, results: dict[str, Any], traffic: Traffic) -> bool:
        scores = self._scores(results)
        if len(scores) < 2 or min(count for count, _ in scores.values()) < self.scored:
            return False
        best = max(scores, key=lambda name: scores[name][1])
        client.post(
            f"/api/v1/experiments/{EXPERIMENT}/promote",
            {"arm": best, "reason": f"right on {scores[best][1]:.1%} of {scores[best][0]:,} scans, as a shadow"},
        )
        return True

    def _scores(self, results: dict[str, Any]) -> dict[str, tuple[int, float]]:
        """(scored, share that was right) of each challenger."""
        outcomes = {
            arm["name"]: (arm["shadow"] or {}).get("outcomes") for arm in results["arms"] if not arm["is_control"]
        }
        return {name: (found["count"], found["accuracy"]) for name, found in outcomes.items() if found}

    def problem(self, results: dict[str, Any], experiment: dict[str, Any]) -> str | None:
        return None if experiment["promoted_arm"] else "the challengers were not scored in time"


@dataclass(slots=True)
class Drift:
    """Half-way all scans come inverted, and the model that was best is not any more: a policy that forgets follows."""

    tells_outcomes: bool = False
    led: float = 0.8
    changed: bool = False
    followed: bool = False

    def prepare(self, client: Client, digits: Digits) -> None:
        good = digits.candidates[-1]
        register(client, [good, digits.inverted])
        begin(
            client,
            good.version,
            strategy="bandit",
            arms=[
                {"name": "upright", "model": f"digits@{good.version}"},
                {"name": "inverted", "model": f"digits@{digits.inverted.version}"},
            ],
            policy={"name": "thompson", "floor": 0.05, "burn_in": 50, "params": {"discount": 0.998}},
            reward={"kind": "binary", "window_seconds": 2},
            promotion={"auto": False},
        )

    def watch(self, client: Client, results: dict[str, Any], traffic: Traffic) -> bool:
        shares = {arm["name"]: arm["propensity"] or 0.0 for arm in results["arms"]}
        if not self.changed and results["decisions"] > 500 and shares["upright"] > self.led:
            traffic.inverted = self.changed = True
        elif self.changed and shares["inverted"] > self.led:
            self.followed = True
        return self.followed

    def problem(self, results: dict[str, Any], experiment: dict[str, Any]) -> str | None:
        if self.followed:
            return None
        return "the policy did not follow the change" if self.changed else "the policy never preferred the better model"


SCENES: dict[str, Callable[[], Scene]] = {"bandit": Bandit, "canary": Canary, "shadow": Shadow, "drift": Drift}


def run(scene: Scene, *, url: str, key: str, digits: Digits, seed: int, show: Show) -> Ending:
    """Send traffic until the scene is over or the time is up, then hold the ledger against what was sent."""
    client = Client(url, key)
    try:
        scene.prepare(client, digits)
        traffic = Traffic(
            url=url, key=key, endpoint=ENDPOINT, digits=digits, seed=seed, tells_outcomes=scene.tells_outcomes
        )
        start = time.monotonic()
        traffic.start()
        try:
            while True:
                results = client.get(f"/api/v1/experiments/{EXPERIMENT}/results")
                seconds = time.monotonic() - start
                show(results, seconds)
                if scene.watch(client, results, traffic) or seconds > LIMIT_SECONDS or traffic.tally.problems:
                    break
                time.sleep(POLL_SECONDS)
        finally:
            traffic.stop()
        ledger = check(client, EXPERIMENT, traffic.tally)
        experiment = client.get(f"/api/v1/experiments/{EXPERIMENT}")
        results = client.get(f"/api/v1/experiments/{EXPERIMENT}/results")
        return Ending(
            results=results,
            outcome=experiment["outcome"],
            promoted=experiment["promoted_arm"],
            ledger=ledger,
            tally=traffic.tally,
            seconds=seconds,
            problem=scene.problem(results, experiment),
        )
    finally:
        client.close()

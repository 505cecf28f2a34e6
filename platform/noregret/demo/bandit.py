"""The bandit scene: three models behind one endpoint, true outcomes as rewards, until one is promoted."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .client import Client
from .digits import Digits
from .ledger_check import LedgerCheck, check
from .traffic import Tally, Traffic

ENDPOINT = "digits"
EXPERIMENT = "digits-demo"
WINDOW_SECONDS = 5
LIMIT_SECONDS = 150.0
POLL_SECONDS = 0.5

Show = Callable[[dict[str, Any], float], None]


@dataclass(frozen=True, slots=True)
class Ending:
    """How the scene ended."""

    results: dict[str, Any]
    promoted: str | None  # arm
    ledger: LedgerCheck
    tally: Tally
    seconds: float


def register(client: Client, digits: Digits) -> None:
    """Register the models as digits@1, digits@2, ..."""
    for candidate in digits.candidates:
        client.call(
            "POST",
            "/api/v1/models",
            data={"name": "digits", "version": candidate.version, "framework": "sklearn"},
            files={"artifact": ("model.skops", candidate.artifact)},
        )


def prepare(client: Client, digits: Digits) -> None:
    """Register the models, make the endpoint with the weakest as champion, and start the experiment."""
    register(client, digits)
    client.post("/api/v1/endpoints", {"name": ENDPOINT, "champion": "digits@1", "deadline_ms": 300})
    client.post(
        "/api/v1/experiments",
        {
            "name": EXPERIMENT,
            "endpoint": ENDPOINT,
            "strategy": "bandit",
            "arms": [{"name": f"v{c.version}", "model": f"digits@{c.version}"} for c in digits.candidates],
            "policy": {"name": "thompson", "floor": 0.05, "burn_in": 100},
            "reward": {"kind": "binary", "window_seconds": WINDOW_SECONDS},
            "promotion": {"rule": "anytime", "alpha": 0.05, "min_rewards": 100, "auto": True},
        },
    )
    client.post(f"/api/v1/experiments/{EXPERIMENT}/start", {"reason": "demo"})


def run(*, url: str, key: str, digits: Digits, seed: int, show: Show) -> Ending:
    """Send traffic until the winner is promoted or the time is up, then hold the ledger against what was sent."""
    client = Client(url, key)
    try:
        prepare(client, digits)
        traffic = Traffic(url=url, key=key, endpoint=ENDPOINT, digits=digits, seed=seed)
        start = time.monotonic()
        traffic.start()
        try:
            while True:
                results = client.get(f"/api/v1/experiments/{EXPERIMENT}/results")
                seconds = time.monotonic() - start
                show(results, seconds)
                if results["status"] == "completed" or seconds > LIMIT_SECONDS or traffic.tally.problems:
                    break
                time.sleep(POLL_SECONDS)
        finally:
            traffic.stop()
        ledger = check(client, EXPERIMENT, traffic.tally)
        experiment = client.get(f"/api/v1/experiments/{EXPERIMENT}")
        return Ending(
            results=client.get(f"/api/v1/experiments/{EXPERIMENT}/results"),
            promoted=experiment["promoted_arm"],
            ledger=ledger,
            tally=traffic.tally,
            seconds=seconds,
        )
    finally:
        client.close()

"""What was promised, and whether it was kept: users who note what they were told, and a look at the
ledger afterwards.

Each user predicts, and every other one tells the outcomes too, so that feedback which waits keeps
nobody from predicting; what fails on the way is tried again by
nobody, so that what was acknowledged is known to the letter.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import psycopg

from serving.tokens import Signer

CLIENTS = 8


@dataclass(slots=True)
class Told:
    """What was acknowledged, over all clients."""

    arms: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Of each learnable decision of the experiment: its arm and its propensity."""
    rewards: dict[str, float] = field(default_factory=dict)
    stale: int = 0
    unanswered: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)


class Users:
    """CLIENTS of them, on an endpoint with a running experiment, in a `with`."""

    def __init__(
        self, url: str, key: str, endpoint: str, experiment: str, rows: Sequence[Sequence[float]], seed: int = 1
    ) -> None:
        self.told = Told()
        self._url, self._key, self._rows = url, key, rows
        self._endpoint, self._experiment = endpoint, experiment
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(seed * 1000 + i, i % 2 == 0), daemon=True) for i in range(CLIENTS)
        ]

    def __enter__(self) -> Told:
        for thread in self._threads:
            thread.start()
        return self.told

    def __exit__(self, *args: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60.0)

    def _run(self, seed: int, tells: bool) -> None:
        generator = random.Random(seed)
        with httpx.Client(base_url=self._url, headers={"Authorization": f"Bearer {self._key}"}, timeout=20.0) as http:
            while not self._stop.is_set():
                self._one(http, generator, tells)
                time.sleep(0.01)

    def _one(self, http: httpx.Client, generator: random.Random, tells: bool) -> None:
        unit = f"u{generator.getrandbits(24):x}"
        body = {"unit": unit, "inputs": [generator.choice(self._rows)]}
        predicted = self._call(http, "predict", f"/api/v1/endpoints/{self._endpoint}/predict", body)
        if predicted is not None and predicted["stale"]:
            with self._lock:
                self.told.stale += 1
        if predicted is None or not predicted["learnable"] or predicted["experiment"] != self._experiment:
            return
        decision = predicted["decision_id"]
        with self._lock:
            self.told.arms[decision] = predicted["arm"], predicted["propensity"]
        if tells:
            value = float(generator.random() < 0.3)
            recorded = self._call(http, "feedback", "/api/v1/feedback", {"decision_id": decision, "value": value})
            if recorded is not None and recorded["status"] == "recorded":
                with self._lock:
                    self.told.rewards[decision] = value

    def _call(self, http: httpx.Client, name: str, path: str, body: Any) -> Any:
        try:
            answer = http.post(path, json=body)
        except httpx.TransportError as error:
            with self._lock:
                self.told.unanswered[f"{name} {type(error).__name__}"] += 1
            time.sleep(0.2)
            return None
        with self._lock:
            self.told.statuses[name, answer.status_code] += 1
        if answer.status_code in (200, 202):
            return answer.json()
        if name == "predict" or answer.status_code != 503:
            with self._lock:
                self.told.refused.append(f"{name} {answer.status_code} {answer.text[:500]}")
        return None


def unlike_the_ledger(told: Told, secret_key: str, address: str) -> str:
    """What was acknowledged and is not in PostgreSQL at `address`, or otherwise, or twice."""
    signer = Signer(secret_key)
    uuid_of: dict[str, UUID] = {text: UUID(bytes=signer.read(text).id) for text in told.arms}
    with closing(psycopg.connect(address)) as connection:
        decisions: dict[UUID, list[tuple[str, float]]] = {}
        for row, arm, propensity in connection.execute(
            "SELECT d.id, a.name, d.propensity FROM serving_decision d JOIN experiments_arm a ON a.id = d.arm_id"
        ):
            decisions.setdefault(row, []).append((arm, propensity))
        rewards: dict[UUID, list[float]] = {}
        for row, value in connection.execute("SELECT decision_id, value FROM serving_reward WHERE NOT defaulted"):
            rewards.setdefault(row, []).append(value)
    unlike = [text for text, one in told.arms.items() if decisions.get(uuid_of[text]) != [one]]
    unrewarded = [text for text, value in told.rewards.items() if rewards.get(uuid_of[text]) != [value]]
    doubled = sum(len(rows) > 1 for of_it in (decisions, rewards) for rows in of_it.values())
    if not (unlike or unrewarded or doubled):
        return ""
    example = unlike[0] if unlike else unrewarded[0] if unrewarded else ""
    return (
        f"{len(unlike)} of {len(told.arms)} decisions, {len(unrewarded)} of {len(told.rewards)} rewards, {doubled} "
        f"twice; {example} {told.arms.get(example)} is {decisions.get(uuid_of[example]) if example else None}"
    )


def wait_for(problem: Callable[[], str], seconds: float = 40.0) -> str:
    """Until there is no problem any more, or what it is."""
    deadline = time.monotonic() + seconds
    while (said := problem()) and time.monotonic() < deadline:
        time.sleep(1.0)
    return said

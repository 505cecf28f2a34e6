"""The demo's users: each sends a scan, is told a digit, and says whether it was right."""

import random
import threading
from dataclasses import dataclass, field

from .client import CallFailed, Client
from .digits import BRIGHTEST, Digits


@dataclass(slots=True)
class Tally:
    """What was sent and acknowledged, over all threads."""

    learnable: set[str] = field(default_factory=set)  # decision ids answered with learnable: true
    rewarded: dict[str, float] = field(default_factory=dict)  # decision id -> value, for those recorded in time
    late: int = 0
    requests: int = 0
    right: int = 0
    unanswered: int = 0
    problems: list[str] = field(default_factory=list)


class Traffic:
    """Sends scans through `endpoint` from several threads until stopped."""

    def __init__(
        self,
        *,
        url: str,
        key: str,
        endpoint: str,
        digits: Digits,
        seed: int,
        threads: int = 4,
        tells_outcomes: bool = False,
    ) -> None:
        self._url = url
        self._key = key
        self._path = f"/api/v1/endpoints/{endpoint}/predict"
        self._digits = digits
        self._tells_outcomes = tells_outcomes
        self.inverted = False
        """Do scans come with black and white exchanged?"""
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.tally = Tally()
        self._threads = [
            threading.Thread(target=self._run, args=(seed * 1000 + number,), name=f"user-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every request under way end, its feedback included."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60.0)

    def _run(self, seed: int) -> None:
        generator = random.Random(seed)
        client = Client(self._url, self._key)
        try:
            while not self._stop.is_set():
                self._one(client, generator)
        except CallFailed as failure:
            with self._lock:
                self.tally.problems.append(str(failure))
        finally:
            with self._lock:
                self.tally.unanswered += client.unanswered
            client.close()

    def _one(self, client: Client, generator: random.Random) -> None:
        scan = generator.randrange(len(self._digits.labels))
        image = self._digits.images[scan]
        rows = [(BRIGHTEST - image if self.inverted else image).tolist()]
        answer = client.post(self._path, {"unit": f"user-{generator.getrandbits(40):x}", "inputs": rows})
        right = answer["outputs"]["predict"][0] == int(self._digits.labels[scan])
        with self._lock:
            self.tally.requests += 1
            self.tally.right += right
            if answer["learnable"]:
                self.tally.learnable.add(answer["decision_id"])
        if not answer["learnable"]:
            return
        if self._tells_outcomes:
            truth = {"decision_id": answer["decision_id"], "metric": "outcome", "value": int(self._digits.labels[scan])}
            client.post("/api/v1/feedback", truth)
        said = client.post("/api/v1/feedback", {"decision_id": answer["decision_id"], "value": int(right)})
        with self._lock:
            if said["status"] == "late":
                self.tally.late += 1
            else:  # recorded; or duplicate, when the first answer was lost on the way
                self.tally.rewarded[answer["decision_id"]] = float(right)

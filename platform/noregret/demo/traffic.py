"""The demo's users: each sends a scan, is told a digit, and says whether it was right."""

import random
import threading
from collections.abc import Sequence
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
    inverted: int = 0
    inverted_right: int = 0
    unanswered: int = 0
    problems: list[str] = field(default_factory=list)


class Traffic:
    """Sends scans through `endpoints` from several threads until stopped; every endpoint gets the
    very same scans."""

    def __init__(
        self,
        *,
        url: str,
        key: str,
        endpoints: Sequence[str],
        digits: Digits,
        seed: int,
        threads: int = 4,
        tells_outcomes: bool = False,
    ) -> None:
        self._url = url
        self._key = key
        self._digits = digits
        self._tells_outcomes = tells_outcomes
        self.inverted = False
        """Do scans come with black and white exchanged?"""
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.tallies = {endpoint: Tally() for endpoint in endpoints}
        self._threads = [
            threading.Thread(target=self._run, args=(seed * 1000 + number,), name=f"user-{number}", daemon=True)
            for number in range(threads)
        ]

    @property
    def problems(self) -> list[str]:
        return [problem for tally in self.tallies.values() for problem in tally.problems]

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
                next(iter(self.tallies.values())).problems.append(str(failure))
        finally:
            with self._lock:
                # Of which endpoint is not known, so each may have stored as much more than was
                # acknowledged.
                for tally in self.tallies.values():
                    tally.unanswered += client.unanswered
            client.close()

    def _one(self, client: Client, generator: random.Random) -> None:
        scan, inverted = generator.randrange(len(self._digits.labels)), self.inverted
        image, label = self._digits.images[scan], int(self._digits.labels[scan])
        request = {
            "unit": f"user-{generator.getrandbits(40):x}",
            "inputs": [(BRIGHTEST - image if inverted else image).tolist()],
        }
        for endpoint, tally in self.tallies.items():
            answer = client.post(f"/api/v1/endpoints/{endpoint}/predict", request)
            # Before it starts and after it ended decisions are the champion's own, and in no
            # experiment's ledger.
            counts = answer["learnable"] and answer["experiment"] is not None
            right = answer["outputs"]["predict"][0] == label
            with self._lock:
                tally.requests += 1
                tally.right += right
                tally.inverted += inverted
                tally.inverted_right += right and inverted
                if counts:
                    tally.learnable.add(answer["decision_id"])
            if counts:
                self._tell(client, tally, answer["decision_id"], label, right)

    def _tell(self, client: Client, tally: Tally, decision_id: str, label: int, right: bool) -> None:
        """What a user says of an answer: what was true, and whether it was right."""
        if self._tells_outcomes:
            client.post("/api/v1/feedback", {"decision_id": decision_id, "metric": "outcome", "value": label})
        said = client.post("/api/v1/feedback", {"decision_id": decision_id, "value": int(right)})
        with self._lock:
            if said["status"] == "late":
                tally.late += 1
            else:  # recorded; or duplicate, when the first answer was lost on the way
                tally.rewarded[decision_id] = float(right)

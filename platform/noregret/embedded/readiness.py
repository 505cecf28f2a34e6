"""Can the platform that `up` started serve? What of it was told to who started it."""

import http.client
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .troubles import sentences

ASK_SECONDS = 2.0
LOOK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What /readyz answered. `status` 0: nothing that is its document, and `said` is why."""

    status: int
    said: str
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def serves(self) -> bool:
        return self.status == http.client.OK

    @property
    def well(self) -> bool:
        return self.serves and self.document["status"] == "ready"


class Readiness:
    """Tells `ready URL` on stdout once the platform can serve, for programs wait for that line;
    troubles go to stderr, each once."""

    def __init__(self, host: str, port: int, url: str) -> None:
        self._host = host
        self._port = port
        self._url = url
        self._is_ready = False
        self._told: set[str] = set()
        self._due = 0.0

    def ask(self) -> Answer:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=ASK_SECONDS)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            said = answer.read().decode(errors="replace")
            return _answer(answer.status, said)
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, str(error))
        finally:
            connection.close()

    def tell(self, answer: Answer) -> None:
        """What is wrong and was not told yet; and that it is ready, where it can serve."""
        if self._is_ready:
            return
        found = sentences(answer.document.get("checks", {}))
        new = [sentence for whose, sentence in found.items() if whose not in self._told]
        if new:
            up = "ready" if answer.serves else "up"
            print(f"{up}, with troubles: {self._url}", *new, sep="\n- ", file=sys.stderr, flush=True)  # noqa: T201
            self._told.update(found)
        if answer.serves:
            self._is_ready = True
            print(f"ready {self._url}", flush=True)  # noqa: T201 - the line that others wait for

    def look(self) -> None:
        """Now and then, until it can serve."""
        if not self._is_ready and time.monotonic() >= self._due:
            self.tell(self.ask())
            self._due = time.monotonic() + LOOK_SECONDS


def _answer(status: int, said: str) -> Answer:
    try:
        document = json.loads(said)
    except ValueError:
        return Answer(0, said)
    return Answer(status, said, document) if "checks" in document else Answer(0, said)

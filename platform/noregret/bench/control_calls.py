"""Callers of the control plane that ask for an experiment's results one after another, without
end."""

import contextlib
import http.client
import threading
from types import TracebackType
from typing import Self

CALLERS = 8
TIMEOUT_SECONDS = 30.0
LONGEST_PAUSE_SECONDS = 5.0


class ResultsCalls:
    """They call for the time of a `with`. `answered` and `refused` count what became of it."""

    def __init__(self, host: str, port: int, key: str, experiment: str) -> None:
        self._address = (host, port)
        self._path = f"/api/v1/experiments/{experiment}/results"
        self._headers = {"Authorization": f"Bearer {key}"}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CALLERS)]
        self._counting = threading.Lock()
        self.answered = 0
        self.refused = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT_SECONDS)

    def _run(self) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_SECONDS)
        with contextlib.closing(connection):
            while not self._stop.is_set():
                try:
                    connection.request("GET", self._path, headers=self._headers)
                    answer = connection.getresponse()
                    answer.read()
                except (OSError, http.client.HTTPException):
                    connection.close()  # the next request opens it again
                    self._count(answered=False)
                    self._stop.wait(1.0)
                    continue
                self._count(answered=answer.status == 200)
                if answer.status == 200:
                    continue
                wanted = answer.getheader("Retry-After", "1")
                self._stop.wait(min(float(wanted), LONGEST_PAUSE_SECONDS) if wanted.isdigit() else 1.0)

    def _count(self, *, answered: bool) -> None:
        with self._counting:
            self.answered += answered
            self.refused += not answered

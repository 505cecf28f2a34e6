"""Calls the service as any client would: over HTTP, with a deadline and a bounded number of
tries."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

TRIES = 60
PAUSE_SECONDS = 0.25
REGISTER_SECONDS = 300.0
UPLOAD_SECONDS = 30.0
"""An upload is answered after ten, whether or not its inspection is over."""


class CallFailed(Exception):
    """The service refused a call, or could not be reached within the tries."""


class Client:
    """One connection pool; `attempts` counts requests sent, so that a caller knows which had no
    answer."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=10.0)
        self.unanswered = 0

    def close(self) -> None:
        self._http.close()

    def call(self, method: str, path: str, *, ok: tuple[int, ...] = (200, 201, 202), **request: Any) -> Any:
        """The answer's JSON. Tries again while the service can't be reached or says 503, as often
        as TRIES allows."""
        for _ in range(TRIES):
            try:
                answer = self._http.request(method, path, **request)
            except httpx.TransportError:
                self.unanswered += 1
                time.sleep(PAUSE_SECONDS)
                continue
            if answer.status_code in ok:
                return answer.json()
            if answer.status_code != 503:
                raise CallFailed(f"{method} {path}: {answer.status_code} {answer.text}")
            time.sleep(PAUSE_SECONDS)
        raise CallFailed(f"{method} {path}: no answer in {TRIES} tries")

    def register(
        self, definition: Mapping[str, str], artifact: bytes, *, ok: tuple[int, ...] = (200, 201)
    ) -> dict[str, Any]:
        """Register a model version with its file. While that is still inspected, on a busy machine,
        the same upload is sent again: it waits for what the first began. Raises CallFailed."""
        ends = time.monotonic() + REGISTER_SECONDS
        while True:
            answer: dict[str, Any] = self.call(
                "POST",
                "/api/v1/models",
                ok=(*ok, 202),
                data=definition,
                files={"artifact": ("model.skops", artifact)},
                timeout=UPLOAD_SECONDS,
            )
            if answer.get("status") != "running":
                return answer
            if time.monotonic() > ends:
                raise CallFailed(
                    f"{definition['name']}@{definition['version']} was not registered in {REGISTER_SECONDS:.0f} s"
                )
            time.sleep(PAUSE_SECONDS)

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def post(self, path: str, body: Any) -> Any:
        return self.call("POST", path, json=body)

    def lines(self, path: str) -> Iterator[bytes]:
        """The lines of a streamed answer."""
        with self._http.stream("GET", path, timeout=60.0) as answer:
            answer.raise_for_status()
            yield from (line.encode() for line in answer.iter_lines() if line)

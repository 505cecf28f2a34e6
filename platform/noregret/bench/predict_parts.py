"""Where the time of a predict goes: each part called by itself, on the endpoint that is loaded.

python -m noregret.bench.predict_parts --json: with NOREGRET_DATA_DIR naming a running platform's
data directory, on the benchmark's endpoint. Parts are those of serving.api.face and of the three
steps below it, called as they call them; `the rest` is the framework, and what stands between the
parts.
"""

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from noregret import env

from .irises import irises
from .scenario import ENDPOINT

REPEATS = 15
STREAM_PAUSE_SECONDS = 1.0
"""So long appends are refused after one that failed."""
SECONDS = 0.04
"""For each part in each of the repeats, which are interleaved."""

Call = Callable[[], object]


def milliseconds(calls: dict[str, Call], seconds: float = SECONDS) -> dict[str, float]:
    """A call's milliseconds in the least disturbed of the repeats, by name: others can only add to
    it."""
    loops = {name: _loops(call, seconds) for name, call in calls.items()}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(REPEATS):
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(loops[name]):
                call()
            taken[name].append((time.perf_counter() - began) * 1000.0 / loops[name])
    return {name: min(times) for name, times in taken.items()}


def _loops(call: Call, seconds: float) -> int:
    call()
    began = time.perf_counter()
    for _ in range(20):
        call()
    return max(int(seconds / ((time.perf_counter() - began) / 20)), 1)


def predict_calls(endpoint: str, key: str, row: list[float]) -> dict[str, Call]:
    """Each part of a predict as a call without arguments, and `whole`, the data plane's
    application."""
    from serving.answering import rows_of, serve
    from serving.api import documents, face
    from serving.choosing import route
    from serving.ledger import events
    from serving.ledger.decision_log import StreamUnavailable
    from serving.process import process
    from serving.tokens import Token, new_id
    from serving.web.app import application

    encode = msgspec.json.Encoder().encode
    parts = process()
    live = face.admit(parts, key, endpoint)
    body = json.dumps({"unit": "user-1", "inputs": [row]}).encode()
    asked = documents.PREDICT.decode(body)
    chosen = route(parts.assignments, live, "user-1", None)
    predicted = face.predict(parts, live, body)
    token = Token(new_id(), live.experiment_id, chosen.seat.arm_id, 1, chosen.propensity, True)

    def append() -> None:
        event = events.DecisionEvent(
            events.VERSION,
            new_id(),
            live.experiment_id,
            chosen.seat.arm_id,
            list(chosen.propensities),
            chosen.propensity,
            live.document.version,
            "user-1",
            None,
            None,
            0.1,
            None,
        )
        try:
            parts.log.append(endpoint, events.encode(event))
        except StreamUnavailable:  # Redis did not answer in time: this repeat will not be the one that is told
            time.sleep(STREAM_PAUSE_SECONDS)

    def model() -> None:
        serve(live, chosen.seat.live, rows_of(live, asked.inputs, parts.max_rows), time.perf_counter())

    return {
        "key": lambda: face.admit(parts, key, endpoint),
        "decode": lambda: documents.PREDICT.decode(body),
        "route": lambda: route(parts.assignments, live, "user-1", None),
        "model": model,
        "append": append,
        "sign": lambda: parts.signer.sign(token),
        "encode": lambda: encode(predicted.document),
        "whole": _whole(application, endpoint, key, body),
    }


def _whole(application: Any, endpoint: str, key: str, body: bytes) -> Call:
    """A request through the WSGI application, without a server."""
    path = f"/api/v1/endpoints/{endpoint}/predict"
    head = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "HTTP_AUTHORIZATION": f"Bearer {key}",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
    }

    def start(status: str, headers: list[tuple[str, str]], *more: object) -> None:
        if not status.startswith("200"):
            raise RuntimeError(f"predict answered {status}")

    def whole() -> None:
        for _ in application({**head, "wsgi.input": io.BytesIO(body)}, start):
            pass

    return whole


def with_rest(times: dict[str, float]) -> dict[str, float]:
    """The parts, what of the whole is none of them, and the whole."""
    parts = {name: spent for name, spent in times.items() if name != "whole"}
    return {**parts, "the rest": max(times["whole"] - sum(parts.values()), 0.0), "whole": times["whole"]}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="predict_parts", description=__doc__)
    parser.add_argument("--json", action="store_true", required=True, help="print one JSON object")
    parser.add_argument("--endpoint", default=ENDPOINT)
    chosen = parser.parse_args(arguments)
    env.name_settings()
    import django

    django.setup()
    from noregret.access.keys import create_key
    from serving.process import process, reset

    _, key = create_key(name=f"parts-{os.getpid()}", scopes=["predict"], actor="bench")
    until = time.monotonic() + 30.0
    while not _knows(process(), key, chosen.endpoint) and time.monotonic() < until:
        time.sleep(0.2)
    times = milliseconds(predict_calls(chosen.endpoint, key, irises().rows[0].tolist()))
    reset()
    sys.stdout.write(json.dumps(with_rest(times)) + os.linesep)


def _knows(parts: Any, key: str, endpoint: str) -> bool:
    """Have the new key and the endpoint's models come to this process?"""
    from serving.api.keys import digest

    return parts.store.key(digest(key)) is not None and parts.store.endpoint(endpoint) is not None


if __name__ == "__main__":
    main(sys.argv[1:])

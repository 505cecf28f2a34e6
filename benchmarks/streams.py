"""What a stream of requests takes: messages a second through `manage.py stream`, milliseconds from
an append to its answer at steady rates, and requests a second of `predictions` beside predict.

python -m benchmarks.streams --messages 20000 --seconds 10
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

AT_ONCE = 500
RATES = (50, 200, 500)
"""Messages a second: below what one consumer takes, for past that latency is only a queue."""
ROW = [5.1, 3.5, 1.4, 0.2]


def body(name: str, number: int) -> bytes:
    return json.dumps({"request_id": f"{name}-{number}", "unit": f"u-{number % 5000}", "inputs": [ROW]}).encode()


class Stream:
    """One source and one sink, for one run. Redis dates what is appended, to a millisecond."""

    def __init__(self, redis: Any, name: str) -> None:
        self.name = name
        self._redis = redis

    def fill(self, messages: int) -> None:
        for first in range(0, messages, AT_ONCE):
            with self._redis.pipeline(transaction=False) as pipeline:
                for number in range(first, min(first + AT_ONCE, messages)):
                    pipeline.xadd(f"{self.name}-in", {"body": body(self.name, number)})
                pipeline.execute()

    def trickle(self, rate: int, seconds: float) -> int:
        """The number of messages, each at its time."""
        began = time.monotonic()
        for number in range(int(rate * seconds)):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            self._redis.xadd(f"{self.name}-in", {"body": body(self.name, number)})
        return int(rate * seconds)

    def wait(self, messages: int) -> None:
        """Until so many are answered. Raises TimeoutError."""
        deadline = time.monotonic() + 300
        while self._redis.xlen(f"{self.name}-out") < messages:
            if time.monotonic() > deadline:
                raise TimeoutError("the consumers do not answer")
            time.sleep(0.02)

    def answered_at(self) -> list[int]:
        """Milliseconds, in order."""
        return [_milliseconds(entry) for entry, _ in self._redis.xrange(f"{self.name}-out")]

    def latencies(self) -> list[int]:
        """Milliseconds from a request's append to its answer's."""
        began = {
            json.loads(fields[b"body"])["request_id"]: _milliseconds(entry)
            for entry, fields in self._redis.xrange(f"{self.name}-in")
        }
        answers = self._redis.xrange(f"{self.name}-out")
        return [_milliseconds(entry) - began[json.loads(fields[b"body"])["request_id"]] for entry, fields in answers]


def _milliseconds(entry: bytes) -> int:
    return int(entry.partition(b"-")[0])


@contextmanager
def consumers(count: int, stream: Stream, environment: dict[str, str]) -> Iterator[None]:
    """Processes of `manage.py stream`, which are ready."""
    from noregret.embedded.running import MANAGE

    names = ["--source", f"redis:?stream={stream.name}-in", "--sink", f"redis:?stream={stream.name}-out"]
    command = [sys.executable, str(MANAGE), "stream", "flowers", *names]
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(count)
    ]
    try:
        for one in running:
            assert one.stdout is not None
            assert one.stdout.readline().startswith(b"ready")
        yield
    finally:
        for one in running:
            one.terminate()
            one.communicate(timeout=60)


def through(redis: Any, environment: dict[str, str], count: int, messages: int) -> float:
    """Messages a second of so many consumers, between their first answer and their last."""
    stream = Stream(redis, f"full-{count}")
    stream.fill(messages)
    with consumers(count, stream, environment):
        stream.wait(messages)
    at = stream.answered_at()
    redis.delete(f"{stream.name}-in", f"{stream.name}-out")
    return messages / max(0.001, (at[-1] - at[0]) / 1000)


def over_http(client: Any, seconds: float) -> tuple[float, float]:
    """Requests a second of one caller: predict, and predictions of a hundred each."""
    counts = []
    for ask, each in (
        (lambda n: client.predict("flowers", [ROW], request_id=f"h-{n}"), 1),
        (lambda n: client.predict_many("flowers", _requests(n)), 100),
    ):
        done, ends = 0, time.monotonic() + seconds
        while time.monotonic() < ends:
            ask(time.monotonic_ns())
            done += each
        counts.append(done / seconds)
    return counts[0], counts[1]


def _requests(first: int) -> Sequence[dict[str, Any]]:
    return [{"request_id": f"m-{first}-{number}", "inputs": [ROW]} for number in range(100)]


def make_endpoint(client: Any) -> None:
    """`flowers`, a bandit with two models of scikit-learn."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    rows, kinds = load_iris(return_X_y=True)
    for version, strength in (("1", 1.0), ("2", 0.1)):
        model = LogisticRegression(C=strength, max_iter=500).fit(rows, kinds)
        client.register(model, name="flower", version=version, sample=rows[:50])
    client.create_endpoint("flowers", champion="flower@1")
    arms = [{"name": f"v{version}", "model": f"flower@{version}"} for version in ("1", "2")]
    client.create_experiment({"name": "f", "endpoint": "flowers", "strategy": "bandit", "arms": arms}, start=True)


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - what it is run for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="noregret-streams-"))
    os.environ |= {"NOREGRET_DATA_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "noregret.settings"}
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients" / "python" / "src"))
    import django
    from noregret.embedded.running import MANAGE, RunningPlatform
    from noregret_client import Client

    try:
        with RunningPlatform(folder, environment={"NOREGRET_LOG_LEVEL": "ERROR"}) as platform:
            django.setup()  # now that it is known whose the folder is, by which its sockets are found
            from noregret.redis_client import client as redis_client

            command = [sys.executable, str(MANAGE), "apikey", "bench", "--scopes", "predict,feedback,manage"]
            key = subprocess.run(
                [*command, "--data-dir", str(folder)], capture_output=True, text=True, timeout=60, check=True
            ).stdout.strip()
            redis, environment = redis_client(), platform.environment | {"NOREGRET_DATA_DIR": str(folder)}
            with Client(platform.url, key, timeout=60.0) as client:
                make_endpoint(client)
                for count in (1, 2):
                    rate = through(redis, environment, count, arguments.messages)
                    say(f"{count} consumers: {rate:,.0f} messages/s")
                for rate in RATES:
                    stream = Stream(redis, f"steady-{rate}")
                    with consumers(1, stream, environment):
                        stream.wait(stream.trickle(rate, arguments.seconds))
                        p50, p99 = np.quantile(stream.latencies(), [0.5, 0.99])
                    say(f"{rate} messages/s: p50 {p50:.0f} ms, p99 {p99:.0f} ms from append to answer")
                one, many = over_http(client, arguments.seconds)
                say(f"one caller: predict {one:,.0f} requests/s, predictions {many:,.0f} requests/s")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

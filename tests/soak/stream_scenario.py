"""`python -m tests.soak.stream_scenario redis|kafka REQUESTS FOLDER`: requests from a stream while
consumers, Redis and PostgreSQL are killed; prints what came of it as JSON.

It has servers of its own, a thread that drains as the learner does, and consumers as processes.
"""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import redis

CONSUMERS = 2
AT_ONCE = 500
PARTITIONS = 4
WAIT_SECONDS = 1500
DOWN_SECONDS = 5.0
DEATHS = 12
SOURCE, SINK, ASIDE = "requests", "answers", "requests-dead"
ROOT = Path(__file__).resolve().parents[2]


class Consumers:
    """Processes of `manage.py stream`; one that is killed is started again."""

    def __init__(self, source: str, sink: str, log: Path) -> None:
        self._command = [sys.executable, "manage.py", "stream", "digits", "--source", source, "--sink", sink]
        self._command += ["--aside", ASIDE, "--claim-seconds", "5"]
        self._log = log
        self._running = [self._start() for _ in range(CONSUMERS)]
        self.killed = 0

    def _start(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=log)

    def kill_one(self) -> None:
        place = random.randrange(CONSUMERS)
        self._running[place].kill()
        self._running[place].wait()
        self._running[place] = self._start()
        self.killed += 1

    def stop(self) -> list[int]:
        """Their exit codes."""
        for running in self._running:
            running.terminate()
        return [running.wait(120) for running in self._running]


class Drain(threading.Thread):
    """What the learner does with the stream of decisions, until it is told to end."""

    def __init__(self, endpoint: Any) -> None:
        super().__init__(daemon=True)
        self._endpoint = endpoint
        self.ending = threading.Event()

    def run(self) -> None:
        from django.db import DatabaseError, connection, connections
        from noregret.learning.drain import drain

        while not self.ending.wait(0.5):
            try:
                drain(self._endpoint)
            except (DatabaseError, redis.RedisError, OSError):
                connection.close()
        connections.close_all()


def bodies(first: int, requests: int) -> list[bytes]:
    numbers = range(first, min(first + AT_ONCE, requests))
    return [
        json.dumps({"request_id": f"r-{n}", "unit": f"u-{n % 5000}", "inputs": [[n / 7]]}).encode() for n in numbers
    ]


class Servers:
    """Redis and PostgreSQL, which are killed and come back after a while. Started by the main
    thread: a child ends with the thread that started it."""

    def __init__(self, children: Sequence[Any]) -> None:
        self._children = {child.name: child for child in children}
        self._due: dict[str, float] = {}

    def kill(self, name: str) -> None:
        child = self._children[name]
        child.process.kill()
        child.process.wait()
        self._due[name] = time.monotonic() + DOWN_SECONDS

    @property
    def away(self) -> bool:
        return bool(self._due)

    def look(self) -> None:
        """Start again what was away for its time."""
        for name, due in list(self._due.items()):
            if time.monotonic() >= due:
                self._children[name].clear_group()
                self._children[name].start()
                del self._due[name]


class RedisStreams:
    """Sends and reads; `again` counts batches that were sent again, for their answer was lost."""

    def __init__(self, requests: int, folder: Path) -> None:
        from noregret.redis_client import client

        self.source, self.sink = f"redis:?stream={SOURCE}", f"redis:?stream={SINK}"
        self.again = 0
        self._client = client()
        self._requests = requests

    def send(self) -> None:
        for first in range(0, self._requests, AT_ONCE):
            while first - self.answered() > self._requests // 8:  # so that kills meet this one too
                time.sleep(0.1)
            while True:
                try:
                    with self._client.pipeline(transaction=False) as pipeline:
                        for body in bodies(first, self._requests):
                            pipeline.xadd(SOURCE, {"body": body})
                        pipeline.execute()
                    break
                except redis.RedisError:
                    self.again += 1
                    time.sleep(0.5)

    def answered(self) -> int:
        try:
            length: Any = self._client.xlen(SINK)
        except redis.RedisError:
            return 0
        return int(length)

    def answers(self) -> list[bytes]:
        entries: Any = self._client.xrange(SINK)
        return [fields[b"body"] for _, fields in entries]

    def left(self) -> int:
        pending: Any = self._client.xpending(SOURCE, "noregret")
        aside: Any = self._client.xlen(ASIDE)
        return int(pending["pending"]) + int(aside)

    def close(self) -> None:
        self._client.close()


class KafkaTopics:
    """The same, of a broker that keeps its topics in memory."""

    def __init__(self, requests: int, folder: Path) -> None:
        import confluent_kafka as kafka
        from confluent_kafka.admin import AdminClient
        from confluent_kafka.cimpl import NewTopic

        from tests.streams.kafka_broker import Broker

        self._broker = Broker(folder)
        self._broker.start()
        self._requests = requests
        self.again = 0
        address = {"bootstrap.servers": self._broker.address}
        topics = [NewTopic(SOURCE, PARTITIONS), NewTopic(SINK, PARTITIONS)]
        admin = AdminClient(address)  # it takes its answers with it when nobody holds it
        for created in admin.create_topics(topics).values():
            created.result(30)
        self.source, self.sink = (f"kafka://{self._broker.address}/{name}" for name in (SOURCE, SINK))
        self._producer = kafka.Producer(address)
        self._reader = kafka.Consumer(address | {"group.id": "reader", "isolation.level": "read_uncommitted"})
        self._reader.assign([kafka.TopicPartition(SINK, partition, 0) for partition in range(PARTITIONS)])
        self._read: list[bytes] = []
        self._names: set[str] = set()

    def send(self) -> None:
        for first in range(0, self._requests, AT_ONCE):
            for body in bodies(first, self._requests):
                self._producer.produce(SOURCE, value=body)
            assert self._producer.flush(60) == 0

    def answered(self) -> int:
        while messages := self._reader.consume(5000, 0.2):
            for message in messages:
                if message.error() is None:
                    self._read.append(message.value() or b"")
                    self._names.add(json.loads(self._read[-1])["request_id"])
        return len(self._names)

    def answers(self) -> list[bytes]:
        self.answered()
        return self._read

    def left(self) -> int:
        return 0

    def close(self) -> None:
        self._reader.close()
        self._broker.kill()


def run(requests: int, consumers: Consumers, answered: Callable[[], int], servers: Servers) -> tuple[float, list[str]]:
    """Until everything is answered; the seconds that it took, and which servers were killed."""
    deaths = [(0.2, "redis"), (0.35, "postgres"), (0.5, "redis"), (0.65, "postgres"), (0.8, "redis")]
    killed = []
    began = told = time.monotonic()
    next_death = 0
    while (count := answered()) < requests:
        now = time.monotonic()
        assert now - began < WAIT_SECONDS, f"{count} of {requests} answered"
        if deaths and count >= deaths[0][0] * requests:
            killed.append(deaths.pop(0)[1])
            servers.kill(killed[-1])
        servers.look()
        if count > next_death:  # by what was done, for a consumer takes its time to start on a busy machine
            consumers.kill_one()
            next_death = count + requests // DEATHS
        if now - told > 30:
            print(f"{now - began:.0f} s: {count} answered", file=sys.stderr)  # noqa: T201
            told = now
        time.sleep(0.2)
    while servers.away:
        servers.look()
        time.sleep(0.2)
    return time.monotonic() - began, killed


def ledger_faults(answers: dict[str, dict[str, Any]], endpoint: Any) -> list[str]:
    """What is wrong with the ledger, beside what was answered."""
    from serving.ledger.models import Decision
    from serving.process import process

    arms = dict(endpoint.experiments.get().arms.values_list("pk", "name"))
    faults = []
    rows = list(Decision.objects.values_list("request_id", "id", "arm_id", "propensity"))
    if len(rows) != len({name for name, *_ in rows}):
        faults.append("a request has two rows")
    if {name for name, *_ in rows} != answers.keys():
        faults.append("not the requests that were answered")
    for name, decision_id, arm_id, propensity in rows:
        answer = answers[name]
        told = (process().signer.read(answer["decision_id"]).id, answer["arm"], answer["propensity"])
        if told != (decision_id.bytes, arms[arm_id], propensity):
            faults.append(f"{name} was told otherwise")
        if answer["outputs"]["predict"] != [{"a": 0, "b": 1}[answer["arm"]]]:
            faults.append(f"{name} has another arm's answer")
    return faults


def main(engine: str, requests: int, folder: Path) -> dict[str, Any]:
    os.environ["NOREGRET_DATA_DIR"] = str(folder)
    from noregret.embedded.engines import Engines
    from noregret.env import name_settings

    name_settings()
    engines = Engines(folder)
    engines.start()
    servers = Servers(engines.children)
    try:
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connections

        from serving import process as processes
        from serving.ledger.models import Decision
        from tests.streams.answered import digits_experiment

        call_command("migrate", verbosity=0)
        endpoint = digits_experiment()
        streams = (RedisStreams if engine == "redis" else KafkaTopics)(requests, folder)
        draining = Drain(endpoint)
        draining.start()
        consumers = Consumers(streams.source, streams.sink, folder / "consumers.log")
        sending = threading.Thread(target=streams.send)
        sending.start()
        seconds, killed = run(requests, consumers, streams.answered, servers)
        sending.join()
        time.sleep(DOWN_SECONDS + 10)  # for a second answer, if there is to be one
        written = streams.answers()
        connections.close_all()  # those of before PostgreSQL was killed
        began = time.monotonic()
        while Decision.objects.count() < requests and time.monotonic() - began < 300:
            time.sleep(1)
        draining.ending.set()
        draining.join()
        answers = {answer["request_id"]: answer for answer in map(json.loads, written)}
        figures = {
            "requests": requests,
            "answers": len(written),
            "distinct": len(set(written)),
            "rows": Decision.objects.count(),
            "faults": ledger_faults(answers, endpoint)[:10],
            "left": streams.left(),
            "seconds": round(seconds),
            "consumers_killed": consumers.killed,
            "servers_killed": killed,
            "batches_sent_again": streams.again,
            "exit_codes": consumers.stop(),
        }
        streams.close()
        processes.reset()
        connections.close_all()
        return figures
    finally:
        engines.stop()


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))))  # noqa: T201 - what it is run for

"""Predictions from a topic of Kafka.

The broker here is Kafka-compatible, and no Kafka: what a producer wrote into a transaction and died
stays readable, also for who reads what is committed alone. So of consumers that are killed the
tests say: every answer to a request is the same bytes, and there is one decision. That there is one
answer is shown where no transaction is torn.
"""

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import confluent_kafka as kafka
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from django.conf import settings
from noregret.experiments.models import Endpoint

from serving.process import process
from serving.streams import making
from serving.streams.addresses import Address
from serving.streams.consumer import Consumer
from serving.streams.messages import CannotStart, NotNow
from tests.streams.answered import check_one_answer_and_row_each, digits_experiment, request
from tests.streams.kafka_broker import Broker

ROOT = Path(__file__).resolve().parents[2]
SESSION = {"session.timeout.ms": "6000"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def endpoint(platform: None) -> Endpoint:
    return digits_experiment()


class Topics:
    """Topics of their own for one test."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        name = secrets.token_hex(4)
        self.address = broker.address
        self.source, self.sink, self.aside = f"{name}-in", f"{name}-out", f"{name}-in-dead"
        self.properties = folder / "kafka.properties"
        self.properties.write_text("# what a broker wants\nsession.timeout.ms=6000\n")
        admin = AdminClient({"bootstrap.servers": self.address})
        for made in admin.create_topics([NewTopic(self.source, 2), NewTopic(self.sink, 2)]).values():
            made.result(10)
        self._producer = kafka.Producer({"bootstrap.servers": self.address})
        self._readers: dict[str, kafka.Consumer] = {}
        self._messages: dict[str, list[kafka.Message]] = {}

    def send(self, *bodies: Any) -> None:
        for body in bodies:
            value = body if isinstance(body, bytes) else json.dumps(body).encode()
            self._producer.produce(self.source, value=value)
        assert self._producer.flush(30) == 0

    def read(self, topic: str) -> list[kafka.Message]:
        """All that it has held so far, committed or not."""
        if topic not in self._readers:
            self._readers[topic] = reader = kafka.Consumer(
                {"bootstrap.servers": self.address, "group.id": "reader", "isolation.level": "read_uncommitted"}
            )
            partitions = reader.list_topics(topic, 10).topics[topic].partitions
            reader.assign([kafka.TopicPartition(topic, partition, 0) for partition in partitions])
        messages = self._messages.setdefault(topic, [])
        while more := self._readers[topic].consume(1000, 0.5):
            messages += [message for message in more if message.error() is None]
        return messages

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()

    def answers(self) -> list[dict[str, Any]]:
        return [json.loads(message.value() or b"") for message in self.read(self.sink)]


@pytest.fixture
def topics(broker: Broker, endpoint: Endpoint, tmp_path: Path) -> Iterator[Topics]:
    topics = Topics(broker, tmp_path)
    yield topics
    topics.close()


def consumer(topics: Topics, **changes: Any) -> Consumer:
    wanted: dict[str, Any] = {
        "endpoint": "digits",
        "source": Address("kafka", topics.address, topics.source, topics.properties),
        "sink": Address("kafka", topics.address, topics.sink),
        "group": "noregret",
        "aside": topics.aside,
        "most": 16,
        "sink_limit": 0,
        "claim_seconds": 30.0,
        "remember_seconds": 60,
        "deletes": False,
    }
    made = making.make(making.Wanted(**(wanted | changes)), process(), threads=4)
    made.start(threading.Event())
    return made


def test_requests__good_bad_and_repeated__one_answer_each__what_is_bad_aside(
    endpoint: Endpoint, topics: Topics
) -> None:
    names = [f"r-{i}" for i in range(40)]
    topics.send(*map(request, names), request("r-1"), b"{", request("r-2", inputs=[["a"]]))
    made = consumer(topics)
    stop = threading.Event()
    running = threading.Thread(target=made.run, args=(stop,))
    running.start()
    deadline = time.monotonic() + 60
    while len(topics.answers()) < len(names) or not topics.read(topics.aside):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    topics.send(request("r-3"), request("last"))
    while len(topics.answers()) < len(names) + 1:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    stop.set()
    running.join(30)
    made.close()
    check_one_answer_and_row_each(endpoint, [*names, "last"], topics.answers())
    aside = topics.read(topics.aside)
    assert min(len(message.value() or b"") for message in aside) == 1
    reasons = [json.loads(dict(message.headers() or [])["reason"]) for message in aside]  # type: ignore[arg-type]
    assert [reason["status"] for reason in reasons] == [400, 400]


def test_command__killed_in_the_middle__another_goes_on_with_the_same_answers(
    endpoint: Endpoint, topics: Topics
) -> None:
    names = [f"r-{i}" for i in range(1500)]
    topics.send(*map(request, names))
    url = f"kafka://{topics.address}"
    command = [sys.executable, "manage.py", "stream", "digits", "--aside", topics.aside]
    command += ["--source", f"{url}/{topics.source}?properties={topics.properties}"]
    command += ["--sink", f"{url}/{topics.sink}?properties={topics.properties}"]
    environment = os.environ | {"NOREGRET_REDIS_PREFIX": settings.REDIS_PREFIX}
    deadline = time.monotonic() + 150
    for least in (300, len(names) + 1):
        if least > len(names):  # for the one that goes on, whatever the first got done
            names.append("last")
            topics.send(request("last"))
        running = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        while len({answer["request_id"] for answer in topics.answers()}) < least:
            assert time.monotonic() < deadline
            assert running.poll() is None
            time.sleep(0.05)
        if least == 300:
            running.kill()
        else:
            running.terminate()
        assert (running.wait(30) == 0) == (least > 300)
        assert running.stdout is not None
        running.stdout.close()
    answers = topics.answers()
    distinct = {json.dumps(answer) for answer in answers}
    check_one_answer_and_row_each(endpoint, names, [json.loads(text) for text in distinct])


def test_transaction__that_fails__is_ended__and_everything_is_answered_once(
    endpoint: Endpoint, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving.streams.kafka_topic import KafkaTopic

    names = [f"r-{i}" for i in range(20)]
    topics.send(*map(request, names))
    made = consumer(topics)
    failures = iter(["before", "after"])
    does = KafkaTopic._commit

    def fails(self: KafkaTopic, done: Any) -> None:
        when = next(failures, None)
        if when != "before":
            does(self, done)
        if when is not None:
            raise kafka.KafkaException(kafka.KafkaError(kafka.KafkaError._TIMED_OUT))

    monkeypatch.setattr(KafkaTopic, "_commit", fails)
    stop = threading.Event()
    running = threading.Thread(target=made.run, args=(stop,))
    running.start()
    deadline = time.monotonic() + 60
    while len(topics.answers()) < len(names):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    stop.set()
    running.join(30)
    made.close()
    check_one_answer_and_row_each(endpoint, names, topics.answers())


def test_topic__that_is_not_there__is_told_at_the_start(broker: Broker, endpoint: Endpoint, topics: Topics) -> None:
    with pytest.raises(CannotStart, match="no topic nowhere"):
        consumer(topics, sink=Address("kafka", topics.address, "nowhere"))


def test_broker__that_is_away__is_waited_for(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.streams import kafka_topic

    monkeypatch.setattr(kafka_topic, "CALL_SECONDS", 0.5)
    away = Address("kafka", "127.0.0.1:1", "in")
    wanted = making.Wanted("digits", away, away._replace(name="out"), "g", "dead", 1, 0, 30.0, 60, False)
    made = making.make(wanted, process(), threads=1)
    with pytest.raises(NotNow):
        made.engine.start()
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    assert made.start(stop) is False  # it waited until it was told to stop
    made.close()

"""A source and a sink that are topics of one Kafka: a consumer group, and transactions that hold
answers and the group's place together.

A transaction is fenced by the group's generation: a consumer whose partitions are another's by now
can't commit. Readers of the sink see one answer a request if they read what is committed
(`isolation.level=read_committed`, the default of the Java client is the other); whoever reads more
sees of a consumer that died the same bytes again.
"""

import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import redis
import structlog

from . import addresses
from .addresses import Address
from .kept import KeptAnswers
from .messages import SUSPECT_DELIVERIES, UNNAMED, VERSION, CannotStart, Kept, Message, NotNow, Outcome

try:
    import confluent_kafka as kafka
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic  # as `admin` has it, without saying so to type checkers
except ImportError as _error:  # an optional library
    raise CannotStart("Kafka needs the library confluent-kafka: pip install 'noregret[kafka]'") from _error

log = structlog.get_logger(__name__)

T = TypeVar("T")

CALL_SECONDS = 10.0
_SESSION_SECONDS = 10
_TRANSACTION_SECONDS = 30
"""After which a broker ends the transaction of a consumer that died: readers of what is committed
wait for it."""


class Topics(NamedTuple):
    """The topics of a consumer, all at the source's brokers."""

    source: Address
    sink: str
    aside: str
    group: str
    remember_seconds: int
    """So long a request is known after it was answered."""


class KafkaTopic:
    """One consumer of a group. Everything but `close` is called in one thread."""

    def __init__(self, topics: Topics, kept: KeptAnswers) -> None:
        self._topics = topics
        self._kept = kept
        self._properties: dict[str, str | int | float | bool] = {
            "bootstrap.servers": topics.source.server,
            "socket.timeout.ms": int(CALL_SECONDS * 1000),
            **addresses.read_properties(topics.source.properties),
        }
        name = f"{topics.group}.{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._transactional_id = f"noregret.{name}"
        self._logger = logging.getLogger("noregret.kafka")
        self._consumer: Any = None
        self._producer: Any = None
        self._moved = False  # partitions came or went
        self._fresh: set[int] = set()  # partitions of which nothing was taken since they came
        self._begun: dict[int, str] = {}  # by partition: where it was taken up, and is still
        self._alone: dict[int, int] = {}  # by partition: so many messages are tried alone

    # As `messages.Engine` says.

    def start(self) -> None:
        admin = AdminClient(self._properties, logger=self._logger)
        there = self._asked(lambda: admin.list_topics(timeout=CALL_SECONDS)).topics
        for name in (self._topics.source.name, self._topics.sink):
            if name not in there:
                raise CannotStart(f"there is no topic {name} at {self._topics.source.server}")
        if self._topics.aside not in there:
            created = admin.create_topics([NewTopic(self._topics.aside, 1)], request_timeout=CALL_SECONDS)
            self._asked(lambda: created[self._topics.aside].result(CALL_SECONDS))
        self._begin_producer()
        consumer = kafka.Consumer(
            {
                "session.timeout.ms": _SESSION_SECONDS * 1000,
                "auto.offset.reset": "earliest",
                **self._properties,
                "group.id": self._topics.group,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
            },
            logger=self._logger,
        )
        consumer.subscribe(
            [self._topics.source.name], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )
        self._consumer = consumer

    def take(self, most: int, seconds: float) -> list[Message]:
        if most <= 0:
            self._asked(lambda: self._stay(seconds))
            taken: list[Any] = []
        else:
            taken = self._asked(lambda: self._consumer.consume(most, seconds))
        if self._moved:
            raise NotNow("rebalance", "partitions came or went")
        messages = []
        for one in taken:
            error = one.error()
            if error is not None:
                raise NotNow("engine", str(error))
            message = self._message(one)
            messages.append(message)
        return messages

    def finish(self, held: Sequence[Message]) -> list[Message]:
        """A partition's messages up to the first that has no outcome: a group has one place in
        it."""
        done: list[Message] = []
        stopped: set[int] = set()
        for message in sorted(held, key=lambda message: message.handle.offset()):
            partition = message.handle.partition()
            if message.outcome is None:
                stopped.add(partition)
            elif partition not in stopped:
                done.append(message)
        if done:
            self._asked(lambda: self._commit(done))
            self._shorten(done)
        return done

    def recover(self, held: list[Message]) -> None:
        """Everything from the group's place on is taken anew: what was kept of it is found
        again."""
        held.clear()
        self._alone.clear()
        self._asked(self._begin_again)
        self._moved = False

    def room(self) -> int | None:
        """A topic has what room its brokers have."""
        return None

    def lost(self) -> int:
        """Nobody can tell: the offsets of a topic have gaps of their own."""
        return 0

    def lag(self) -> int | None:
        def ask() -> int | None:
            behind = 0
            for place in self._consumer.position(self._consumer.assignment()):
                _, end = self._consumer.get_watermark_offsets(place, cached=True)
                if end < 0 or place.offset < 0:
                    return None
                behind += max(0, end - place.offset)
            return behind

        return self._asked(ask)

    def close(self) -> None:
        try:
            if self._consumer is not None:
                self._consumer.close()
        except (kafka.KafkaException, RuntimeError) as error:
            log.warning("the consumer did not leave its group", error=str(error))

    # In.

    def _message(self, one: Any) -> Message:
        place = f"{one.partition()}:{one.offset()}:{one.timestamp()[1]}"
        message = Message(place, one.value() or b"", handle=one)
        partition = one.partition()
        if partition in self._fresh:
            self._fresh.discard(partition)
            message.deliveries = self._taken_up(partition, one.offset())
            self._alone[partition] = 0 if message.deliveries <= SUSPECT_DELIVERIES else 100
        elif self._alone.get(partition, 0) > 0:
            self._alone[partition] -= 1
            message.deliveries = SUSPECT_DELIVERIES + 1
        return message

    def _taken_up(self, partition: int, offset: int) -> int:
        """How often consumers began at this place and did not leave it in order."""
        place = f"{partition}:{offset}"
        try:
            times = self._kept.count(place)
        except redis.RedisError as error:
            raise NotNow("kept", str(error)) from error
        self._begun[partition] = place
        return times

    def _stay(self, seconds: float) -> None:
        """In the group, and take nothing."""
        assigned = self._consumer.assignment()
        self._consumer.pause(assigned)
        self._consumer.poll(seconds)
        self._consumer.resume(assigned)

    def _assigned(self, consumer: Any, partitions: list[Any]) -> None:
        self._fresh = {place.partition for place in partitions}

    def _revoked(self, consumer: Any, partitions: list[Any]) -> None:
        self._moved = True
        for place in partitions:
            if (begun := self._begun.pop(place.partition, None)) is not None:
                with contextlib.suppress(redis.RedisError):
                    self._kept.uncount(begun)

    def _lost(self, consumer: Any, partitions: list[Any]) -> None:
        self._moved = True

    # Out.

    def _commit(self, done: Sequence[Message]) -> None:
        """One transaction. Raises kafka.KafkaException."""
        producer = self._producer
        producer.begin_transaction()
        places: dict[int, int] = {}
        for message in done:
            outcome, source = message.outcome, message.handle
            assert outcome is not None
            key = source.key() or outcome.request.removeprefix(UNNAMED).encode("utf-8", "surrogatepass")
            if outcome.answer is not None:
                producer.produce(self._topics.sink, key=key, value=outcome.answer)
            elif outcome.reason is not None:
                producer.produce(self._topics.aside, key=key, value=message.body, headers=_told(message, outcome))
            places[source.partition()] = max(places.get(source.partition(), 0), source.offset() + 1)
        name = self._topics.source.name
        offsets = [kafka.TopicPartition(name, partition, offset) for partition, offset in places.items()]
        producer.send_offsets_to_transaction(offsets, self._consumer.consumer_group_metadata(), CALL_SECONDS)
        producer.commit_transaction(CALL_SECONDS)
        for partition in places:
            self._begun.pop(partition, None)

    def _shorten(self, done: Sequence[Message]) -> None:
        """Of what was answered little is remembered; where that fails, all of it is until it
        ends."""
        kept = [(message, message.outcome) for message in done if message.outcome and message.outcome.is_kept]
        marks = [Kept(VERSION, message.place) for message, _ in kept]
        try:
            self._kept.shorten([outcome.request for _, outcome in kept], marks, self._topics.remember_seconds)
        except redis.RedisError as error:
            log.warning("what was kept stays for its time", requests=len(kept), error=str(error))

    def _begin_producer(self) -> None:
        """By the same name: a transaction that is left of it comes to its end before. Raises
        NotNow."""
        self._producer = kafka.Producer(
            {
                "transaction.timeout.ms": _TRANSACTION_SECONDS * 1000,
                "linger.ms": 0,
                **self._properties,
                "transactional.id": self._transactional_id,
            },
            logger=self._logger,
        )
        self._asked(lambda: self._producer.init_transactions(CALL_SECONDS))

    def _begin_again(self) -> None:
        # Anew, whatever became of the last transaction: where the group's place is, is known
        # after its end alone.
        self._begin_producer()
        for place in self._consumer.committed(self._consumer.assignment(), CALL_SECONDS):
            if place.offset < 0:
                place.offset = kafka.OFFSET_BEGINNING
            self._consumer.seek(place)

    def _asked(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except (kafka.KafkaException, RuntimeError, BufferError) as error:
            raise NotNow("engine", str(error)) from error


def _told(message: Message, outcome: Outcome) -> list[tuple[str, bytes]]:
    return [
        ("reason", outcome.reason or b""),
        ("source", message.handle.topic().encode()),
        ("place", message.place.encode()),
        ("deliveries", str(message.deliveries).encode()),
    ]

"""From what a command line wants to a consumer."""

from dataclasses import dataclass

from django.conf import settings

from serving import redis_addresses, redis_clients
from serving.clustered_redis import slot_of
from serving.process import Process
from serving.redis_keys import Keys

from .addresses import Address
from .answering import Answering
from .consumer import Consumer
from .kept import KeptAnswers
from .messages import CannotStart, Engine
from .redis_stream import RedisStream, Streams


@dataclass(frozen=True, slots=True)
class Wanted:
    """A consumer as it is asked for."""

    endpoint: str
    source: Address
    sink: Address
    group: str
    aside: str
    """The stream or topic, on the source's server, of messages that can't be answered."""
    most: int
    sink_limit: int
    claim_seconds: float
    remember_seconds: int
    deletes: bool


def check(wanted: Wanted) -> None:
    """Raises CannotStart for what nobody could promise one answer of."""
    source, sink = wanted.source, wanted.sink
    if (source.engine, source.server) != (sink.engine, sink.server):
        raise CannotStart(
            f"the source {source} and the sink {sink} are on two servers: an answer and the acknowledgement of its "
            "message are one step, which takes one server"
        )
    if len({source.name, sink.name, wanted.aside}) < 3:
        raise CannotStart("the source, the sink and what is set aside need three names")
    if wanted.most < 1 or wanted.sink_limit < 0 or wanted.claim_seconds < 1 or wanted.remember_seconds < 1:
        raise CannotStart("--most, --claim-seconds and --remember-seconds are 1 or more, and --sink-limit 0 or more")


def _check_slots(*names: str) -> None:
    """Of streams that one script touches. Raises CannotStart."""
    if len({slot_of(name) for name in names}) > 1:
        raise CannotStart(
            f"in a cluster {', '.join(names)} are in several slots: an answer and the acknowledgement of its message "
            "are one step, which takes one; give the names one hash tag, as {orders}:requests and {orders}:answers"
        )


def make(wanted: Wanted, process: Process, *, threads: int) -> Consumer:
    """Nothing is connected yet. Raises CannotStart where a library is missing."""
    keys = Keys(settings.REDIS_PREFIX)
    source = wanted.source
    is_redis = source.engine == "redis"
    url = source.server if is_redis and source.server else settings.REDIS_URL
    client = redis_clients.client(url, redis_clients.STREAMS)
    if is_redis and redis_addresses.is_cluster(url):
        _check_slots(source.name, wanted.sink.name, wanted.aside)
    kept = KeptAnswers(client, keys, source.name if is_redis else f"{source.server}/{source.name}", wanted.group)
    engine: Engine
    if is_redis:
        streams = Streams(
            source.name,
            wanted.sink.name,
            wanted.aside,
            wanted.group,
            wanted.sink_limit,
            wanted.deletes,
            wanted.claim_seconds,
            wanted.remember_seconds,
        )
        engine = RedisStream(client, streams, kept)
    else:
        from .kafka_topic import KafkaTopic, Topics

        engine = KafkaTopic(Topics(source, wanted.sink.name, wanted.aside, wanted.group, wanted.remember_seconds), kept)
    answering = Answering(process, wanted.endpoint, str(source), wanted.group)
    return Consumer(process, wanted.endpoint, engine, kept, answering, most=wanted.most, threads=threads)

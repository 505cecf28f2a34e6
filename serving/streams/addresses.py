"""Addresses of streams, as the command line has them."""

from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from serving import redis_addresses

EXPECTED = (
    "redis://host:6379/0?stream=NAME, redis:?stream=NAME for Noregret's own Redis, "
    "or kafka://host:9092/topic was expected"
)
_REDIS = {"redis", "rediss", "unix", *redis_addresses.SCHEMES}


class AddressInvalid(ValueError):
    """The text is no address of a stream."""


class Address(NamedTuple):
    """`server` of Redis is a URL of a server or a cluster, "" for Noregret's own; of Kafka the
    brokers, separated by commas."""

    engine: str  # redis, kafka
    server: str
    name: str  # of the stream or topic
    properties: Path | None = None
    """A file of librdkafka's properties, a `name=value` a line: what must not stand on a command
    line."""

    def __str__(self) -> str:
        """Without credentials."""
        if self.engine == "kafka":
            return f"kafka://{self.server}/{self.name}"
        parts = urlsplit(self.server)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme or 'redis'}:{'//' if self.server else ''}{host}{parts.path}?stream={self.name}"


def parse(text: str) -> Address:
    """Raises AddressInvalid; what it says holds no password."""
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError:
        if not (text.startswith("kafka:") or redis_addresses.is_cluster(text)):
            raise AddressInvalid(f"it can't be read: {EXPECTED}") from None
    if parts.scheme == "kafka":
        return _kafka(parts)
    if parts.scheme not in _REDIS:
        raise AddressInvalid(EXPECTED)
    query = dict(parse_qsl(parts.query))
    name = query.pop("stream", "")
    if not name:
        raise AddressInvalid(f"it names no stream: {EXPECTED}")
    if redis_addresses.is_cluster(text):
        try:
            redis_addresses.parse(urlunsplit(parts))
        except ValueError as error:
            raise AddressInvalid(f"it can't be read: {error}") from None
    is_own = parts.scheme == "redis" and not parts.netloc and not parts.path
    if is_own and query:
        raise AddressInvalid(f"Noregret's own Redis takes nothing but a stream: {EXPECTED}")
    return Address("redis", "" if is_own else urlunsplit(parts._replace(query=urlencode(query))), name)


def _kafka(parts: SplitResult) -> Address:
    topic = unquote(parts.path.strip("/"))
    query = dict(parse_qsl(parts.query))
    properties = query.pop("properties", "")
    if not parts.netloc or "@" in parts.netloc or not topic or "/" in topic or query:
        raise AddressInvalid(
            f"{EXPECTED}; what else a broker wants stands in a file, as kafka://host:9092/topic?properties=FILE"
        )
    return Address("kafka", parts.netloc, topic, Path(properties) if properties else None)


def read_properties(path: Path | None) -> dict[str, str]:
    """Raises AddressInvalid for a file that can't be read, or a line that is no property."""
    if path is None:
        return {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AddressInvalid(f"{path} can't be read: {error}") from error
    properties: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, sign, value = text.partition("=")
        if not sign:
            raise AddressInvalid(f"{path}, line {number}: name=value was expected")
        properties[name.strip()] = value.strip()
    return properties

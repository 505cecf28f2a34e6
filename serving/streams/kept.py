"""What is going to be answered to requests that have a name, in Redis: the first who keeps it for a
request decides, and whoever comes later repeats that.

Of a source in Redis it lies beside that, on the same server, so that nothing is known of it without
the other; of one in Kafka in Noregret's own Redis.
"""

import hashlib
from collections.abc import Sequence
from typing import cast

import msgspec
import redis

from serving.clustered_redis import ClusteredRedis
from serving.redis_keys import Keys

from .messages import Kept

PENDING_SECONDS = 7 * 86_400
"""So long what was kept waits to be answered. A message that is taken up later is decided anew."""

ONCE_GROUP = "@predictions"
"""Stands in the place of a group where no stream is consumed: for requests over HTTP, of an
endpoint in the place of a source."""

# KEYS[1] {STREAM}:answered:GROUP:DIGEST   ARGV[1] what is kept   ARGV[2] seconds that it lives
# Returns what another has kept before, nil where the given one was written.
_KEEP = """
if redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2], 'NX') then return false end
return redis.call('GET', KEYS[1])
"""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Kept)
encode = _encoder.encode


class KeptAnswers:
    """Those of one group's requests. Raises redis.RedisError throughout."""

    def __init__(self, client: redis.Redis, keys: Keys, source: str, group: str) -> None:
        self._client = client
        self._keys = keys
        self._source = source
        self._group = group

    def key(self, request: str) -> str:
        """Where a request's is kept; of any request a key of the same length."""
        digest = hashlib.blake2b(request.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        in_cluster = isinstance(self._client, ClusteredRedis)
        return self._keys.answered(self._source, self._group, digest, in_cluster=in_cluster)

    def look(self, requests: Sequence[str]) -> list[Kept | None]:
        """What is kept of each."""
        if not requests:
            return []
        bodies = cast("list[bytes | None]", self._client.mget([self.key(request) for request in requests]))
        return [_decoded(body) for body in bodies]

    def keep(self, requests: Sequence[str], proposed: Sequence[Kept], seconds: int = PENDING_SECONDS) -> list[Kept]:
        """What is kept of each from now on, for so long: the proposed, or what another kept
        before."""
        if not requests:
            return []
        with self._client.pipeline(transaction=False) as pipeline:
            for request, kept in zip(requests, proposed, strict=True):
                pipeline.eval(_KEEP, 1, self.key(request), encode(kept), seconds)
            before = pipeline.execute()
        return [_decoded(body) or kept for body, kept in zip(before, proposed, strict=True)]

    def shorten(self, requests: Sequence[str], marks: Sequence[Kept], seconds: int) -> None:
        """What was answered is remembered by its place alone, for so long."""
        if not requests:
            return
        with self._client.pipeline(transaction=False) as pipeline:
            for request, mark in zip(requests, marks, strict=True):
                pipeline.set(self.key(request), encode(mark), ex=seconds, xx=True)
            pipeline.execute()

    def count(self, place: str) -> int:
        """How often this was asked of a place, with this time."""
        key = self.key(f"place:{place}")
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.incr(key)
            pipeline.expire(key, PENDING_SECONDS)
            counted = pipeline.execute()
        return int(counted[0])

    def uncount(self, place: str) -> None:
        """It was left in order."""
        self._client.delete(self.key(f"place:{place}"))


def _decoded(body: bytes | None) -> Kept | None:
    try:
        return None if body is None else _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None

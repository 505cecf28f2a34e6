"""What goes wrong with one endpoint, from its first failure until it succeeds: in Redis, where
every worker sees it.

It is no queue: what is to be done is asked anew each second (pending). Emptied with Redis, it is
there again with the next failure.
"""

import time
from collections.abc import Iterable
from typing import Literal, cast

import msgspec

from noregret.redis_client import client, keys

Part = Literal["round", "publish"]

LONGEST_PAUSE_SECONDS = 60.0
_LONGEST_WHY = 120


class Failure(msgspec.Struct, array_like=True, frozen=True):
    """`since` and `last` are Unix times of the first failure and of the last, `tries` how many
    there were, one after another."""

    since: float
    last: float
    tries: int
    why: str

    def pause_is_over(self, now: float) -> bool:
        """May it be tried again? After 2, 4, 8, ... seconds, at most LONGEST_PAUSE_SECONDS: a trial
        may be long, and others wait for it."""
        return now >= self.last + min(2.0 ** min(self.tries, 10), LONGEST_PAUSE_SECONDS)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Failure)


def failed(endpoint: str, part: Part, why: str) -> None:
    """Note a failure, beside when the first was. Raises redis.RedisError."""
    field, now = _field(part, endpoint), time.time()
    before = _read(cast("bytes | None", client().hget(keys().failing, field)))
    since, tries = (now, 0) if before is None else (before.since, before.tries)
    client().hset(keys().failing, field, _encoder.encode(Failure(since, now, tries + 1, why[:_LONGEST_WHY])))


def waiting(endpoints: Iterable[str]) -> None:
    """Note since when endpoints wait for their turn to be published. Raises redis.RedisError."""
    now = time.time()
    body = _encoder.encode(Failure(now, 0.0, 0, "others are published first"))
    with client().pipeline(transaction=False) as pipeline:
        for endpoint in endpoints:
            pipeline.hsetnx(keys().failing, _field("publish", endpoint), body)
        pipeline.execute()


def succeeded(endpoint: str, part: Part) -> None:
    """Raises redis.RedisError."""
    client().hdel(keys().failing, _field(part, endpoint))


def failures(held: dict[bytes, bytes]) -> dict[tuple[Part, str], Failure]:
    """What the hash holds, by part and endpoint."""
    found: dict[tuple[Part, str], Failure] = {}
    for field, body in held.items():
        part, _, endpoint = field.decode().partition(":")
        failure = _read(body)
        if failure is not None and part in ("round", "publish"):
            found[cast("Part", part), endpoint] = failure
    return found


def in_words(error: BaseException) -> str:
    """The causes of an error, without the groups around them."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(in_words(each) for each in error.exceptions))
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _field(part: Part, endpoint: str) -> str:
    return f"{part}:{endpoint}"


def _read(body: bytes | None) -> Failure | None:
    try:
        return None if body is None else _decoder.decode(body)
    except msgspec.DecodeError:  # of another version: as if it were the first
        return None

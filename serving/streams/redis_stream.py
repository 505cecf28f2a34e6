"""A source and a sink that are streams of one Redis: a consumer group, and one script that writes
an answer and acknowledges its message.

Nothing is ever trimmed here: a sink that holds its limit is waited for.
"""

import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import redis
import structlog

from . import counts
from .kept import KeptAnswers, encode
from .messages import SUSPECT_DELIVERIES, VERSION, CannotStart, Kept, Message, NotNow, Outcome

log = structlog.get_logger(__name__)

T = TypeVar("T")

BODY = b"body"
_ABANDONED_MS = 3_600_000
_LOOK_SECONDS = 1.0

# KEYS[1] the source   KEYS[2] the sink, or where messages are set aside   KEYS[3] what is kept
# ARGV[1] group   ARGV[2] the message's id   ARGV[3] 1: out of the source   ARGV[4] the mark of what
# was answered, "" for none   ARGV[5] seconds that it lives   ARGV[6...] fields to write, if any
# Returns 1, or 0 where the message was acknowledged before. It writes first what can be refused.
_FINISH = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) == 0 then return 0 end
if #ARGV > 5 then redis.call('XADD', KEYS[2], '*', unpack(ARGV, 6)) end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
if ARGV[4] ~= '' then redis.call('SET', KEYS[3], ARGV[4], 'EX', ARGV[5], 'XX') end
if ARGV[3] == '1' then redis.call('XDEL', KEYS[1], ARGV[2]) end
return 1
"""

# KEYS[1] the source   ARGV[1] group
# Where the source was trimmed past the group's place, the place goes to just before what is left,
# so that whoever comes next counts nothing twice. Returns how many the group never got. Of a group
# whose count of read entries is not known, as a new one's, nothing is told to be lost. A Redis
# before 7 counts no entries, and so nobody can tell.
_CATCH_UP = """
local function named(list)
  local told = {}
  for i = 1, #list, 2 do told[list[i]] = list[i + 1] end
  return told
end
local function parts(id) return string.match(id, '^(%d+)-(%d+)$') end
local function is_less(one, other)
  if #one ~= #other then return #one < #other end
  return one < other
end
local function is_before(one, other)
  local ms, seq = parts(one)
  local other_ms, other_seq = parts(other)
  if ms == other_ms then return is_less(seq, other_seq) end
  return is_less(ms, other_ms)
end
local function just_before(id)
  local ms, seq = parts(id)
  if seq ~= '0' then return ms .. '-' .. string.format('%.0f', tonumber(seq) - 1) end
  return string.format('%.0f', tonumber(ms) - 1) .. '-18446744073709551615'
end
local stream = named(redis.call('XINFO', 'STREAM', KEYS[1]))
local added, length = stream['entries-added'], stream['length']
if not added then return 0 end
for _, list in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = named(list)
  if group.name == ARGV[1] then
    local place, read = group['last-delivered-id'], group['entries-read']
    local last = stream['last-generated-id']
    local target, gone
    if length > 0 and is_before(place, stream['recorded-first-entry-id']) then
      target, gone = just_before(stream['recorded-first-entry-id']), added - length
    elseif length == 0 or not is_before(place, last) then
      target, gone = last, added
    end
    if not target or read == gone then return 0 end
    redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], target, 'ENTRIESREAD', gone)
    if read and is_before(place, target) and gone > read then return gone - read end
  end
end
return 0
"""

# KEYS[1] the source   ARGV[1] group   ARGV[2...] ids that wait for an acknowledgement
# Those that the source has dropped meanwhile are acknowledged; returns how many.
_DROP_LOST = """
local lost = 0
for i = 2, #ARGV do
  if #redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i]) == 0 then
    lost = lost + redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
  end
end
return lost
"""

# KEYS[1] the source   ARGV[1] group   ARGV[2] milliseconds
# Names of consumers go that have been silent for so long and hold nothing. One step, for entries
# that one takes meanwhile would go with its name.
_DROP_ABANDONED = """
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local told = {}
  for i = 1, #consumer, 2 do told[consumer[i]] = consumer[i + 1] end
  if told.pending == 0 and told.idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], told.name)
  end
end
"""


class Streams(NamedTuple):
    """The keys of a consumer's streams, and how it treats them."""

    source: str
    sink: str
    aside: str
    group: str
    sink_limit: int
    """Entries that the sink may hold; 0 for any number."""
    deletes: bool
    """Answered messages go out of the source: for one that no other group reads."""
    claim_seconds: float
    """What a consumer has held for so long without a sign is taken over."""
    remember_seconds: int
    """So long a request is known after it was answered."""


class RedisStream:
    """One consumer of a group; its name is its own."""

    def __init__(self, client: redis.Redis, streams: Streams, kept: KeptAnswers) -> None:
        self._client = client
        self._streams = streams
        self._kept = kept
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._held: set[str] = set()
        self._reads_own = False  # entries may be ours that an answer was lost about
        self._looked = float("-inf")
        self._claimed = float("-inf")
        self._room = 0  # in the sink, as far as is known here
        self._lost = 0

    # As `messages.Engine` says.

    def start(self) -> None:
        for name in (self._streams.source, self._streams.sink, self._streams.aside):
            kind = self._kind(name)
            if kind not in {b"stream", b"none"}:
                raise CannotStart(f"{name} is a {kind.decode()} there, and no stream")
        self._make_group()

    def take(self, most: int, seconds: float) -> list[Message]:
        if time.monotonic() - self._claimed >= self._streams.claim_seconds / 3:
            messages = self._asked(lambda: self._claim(most))
            if messages:
                return messages  # and perhaps there is more
            self._claimed = time.monotonic()
        if most <= 0:
            time.sleep(seconds)
            return []
        if self._reads_own:
            messages = self._asked(lambda: self._read("0", most + len(self._held), None))
            messages = [message for message in messages if message.place not in self._held]
            self._reads_own = False
            if messages:
                return self._taken(messages[:most])
        self._lost += self._asked(self._catch_up)
        return self._taken(self._asked(lambda: self._read(">", most, seconds)))

    def finish(self, held: Sequence[Message]) -> list[Message]:
        done = [message for message in held if message.outcome is not None]
        if done:
            self._asked(lambda: self._write(done))
            self._held.difference_update(message.place for message in done)
            self._room -= sum(message.outcome is not None and message.outcome.answer is not None for message in done)
        return done

    def recover(self, held: list[Message]) -> None:
        self._reads_own = True
        self._asked(self._client.ping)
        self._make_group()

    def room(self) -> int | None:
        if not self._streams.sink_limit:
            return None
        if self._room <= 0 or time.monotonic() - self._looked >= _LOOK_SECONDS:
            length: int = self._asked(lambda: self._client.xlen(self._streams.sink))
            self._room = self._streams.sink_limit - length
            self._looked = time.monotonic()
        return self._room

    def lost(self) -> int:
        count, self._lost = self._lost, 0
        return count

    def lag(self) -> int | None:
        """What waits for an acknowledgement, and what was given to nobody: all that is there where
        the group's place is before it, nothing where it is at its end, and else what Redis says,
        which counts no more than is there."""
        stream: Any = self._asked(lambda: self._client.xinfo_stream(self._streams.source))
        groups: Any = self._asked(lambda: self._client.xinfo_groups(self._streams.source))
        for group in groups:
            if group["name"] == self._streams.group.encode():
                place, first, behind = group["last-delivered-id"], stream["first-entry"], group.get("lag")
                if place == stream["last-generated-id"]:
                    behind = 0
                elif first is None or _parts(place) < _parts(first[0]):
                    behind = stream["length"]
                return None if behind is None else min(int(behind), int(stream["length"])) + int(group["pending"])
        return None

    def close(self) -> None:
        """Its name goes out of the group where nothing is left under it: entries would go with
        it."""
        try:
            if not self._client.xpending_range(
                self._streams.source, self._streams.group, "-", "+", 1, consumername=self._name
            ):
                self._client.xgroup_delconsumer(self._streams.source, self._streams.group, self._name)
        except (redis.RedisError, OSError) as error:
            log.warning("the consumer's name stays in its group", consumer=self._name, error=str(error))
        self._client.close()

    # In.

    def _kind(self, name: str) -> bytes:
        kind: Any = self._asked(lambda: self._client.type(name))
        return bytes(kind)

    def _make_group(self) -> None:
        """From the first message on: what came before the group is to be answered too."""

        def make() -> None:
            try:
                self._client.xgroup_create(self._streams.source, self._streams.group, id="0", mkstream=True)
            except redis.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

        self._asked(make)

    def _catch_up(self) -> int:
        lost: Any = self._client.eval(_CATCH_UP, 1, self._streams.source, self._streams.group)
        return int(lost)

    def _read(self, after: str, most: int, seconds: float | None) -> list[Message]:
        block = None if seconds is None else max(1, int(seconds * 1000))
        streams: Any = {self._streams.source: after}
        answer: Any = self._client.xreadgroup(self._streams.group, self._name, streams, count=most, block=block)
        return [_message(entry_id, fields) for _, entries in answer or [] for entry_id, fields in entries]

    def _taken(self, messages: list[Message]) -> list[Message]:
        self._held.update(message.place for message in messages)
        return messages

    def _claim(self, most: int) -> list[Message]:
        """What others left, oldest first; and a sign of life for what is held here."""
        source, group = self._streams.source, self._streams.group
        if self._held:
            self._client.xclaim(source, group, self._name, 0, list(self._held), justid=True)
        if most <= 0:
            return []
        idle = int(self._streams.claim_seconds * 1000)
        rows: Any = self._client.xpending_range(source, group, "-", "+", most + len(self._held), idle=idle)
        others = [row for row in rows if row["message_id"].decode() not in self._held][:most]
        deliveries = {row["message_id"]: int(row["times_delivered"]) for row in others}
        left = [entry_id for entry_id, times in deliveries.items() if times < SUSPECT_DELIVERIES]
        suspects = [entry_id for entry_id in deliveries if entry_id not in left]
        left += suspects[:1]
        if not left:
            self._client.eval(_DROP_ABANDONED, 1, source, group, str(_ABANDONED_MS))
            return []
        lost: Any = self._client.eval(_DROP_LOST, 1, source, group, *(entry_id.decode() for entry_id in left))
        self._lost += int(lost)
        entries: Any = self._client.xclaim(source, group, self._name, idle, left)
        messages = []
        for entry_id, fields in entries:
            if entry_id is None:
                continue  # dropped by the source, and with it from what waits
            message = _message(entry_id, fields)
            message.deliveries = deliveries[entry_id] + 1
            messages.append(message)
        counts.CLAIMED.labels(group).inc(len(messages))
        if messages:
            log.info("messages taken over", messages=len(messages), suspects=len(suspects))
        return self._taken(messages)

    # Out.

    def _write(self, done: Sequence[Message]) -> None:
        with self._client.pipeline(transaction=False) as pipeline:
            for message in done:
                outcome = message.outcome
                assert outcome is not None
                fields = self._fields(message, outcome)
                target = self._streams.sink if outcome.reason is None else self._streams.aside
                mark = encode(Kept(VERSION, message.place)) if outcome.is_kept else b""
                pipeline.eval(
                    _FINISH,
                    3,
                    self._streams.source,
                    target,
                    self._kept.key(outcome.request),
                    self._streams.group,
                    message.place,
                    "1" if self._streams.deletes else "0",
                    mark,
                    str(self._streams.remember_seconds),
                    *fields,
                )
            pipeline.execute()

    def _fields(self, message: Message, outcome: Outcome) -> list[bytes]:
        if outcome.answer is not None:
            return [BODY, outcome.answer]
        if outcome.reason is None:
            return []
        told = {
            BODY: message.body or b"",
            b"reason": outcome.reason,
            b"source": self._streams.source.encode(),
            b"id": message.place.encode(),
            b"deliveries": str(message.deliveries).encode(),
        }
        return [part for pair in told.items() for part in pair]

    def _asked(self, ask: Callable[[], T]) -> T:
        """Raises NotNow, for whatever Redis says: nothing that it refuses is the message's
        fault."""
        try:
            return ask()
        except redis.exceptions.OutOfMemoryError as error:
            raise NotNow("full", f"Redis holds as much as it may: {error}") from error
        except (redis.RedisError, OSError) as error:
            raise NotNow("engine", str(error)) from error


def _parts(entry_id: bytes) -> tuple[int, int]:
    """Milliseconds and sequence."""
    milliseconds, _, sequence = entry_id.partition(b"-")
    return int(milliseconds), int(sequence)


def _message(entry_id: bytes, fields: dict[bytes, bytes] | None) -> Message:
    """An entry without a body has an empty one, which is refused as such; one that its source has
    dropped has None."""
    return Message(entry_id.decode(), fields.get(BODY, b"") if fields else None)

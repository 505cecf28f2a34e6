"""Puts a document into Redis and tells the index that it changed: the write side of serving.store.

An older version never replaces a newer one, whatever order two publishers finish in; and the index
is told after the document is there, so a reader that sees the change finds it. One script for both
was rejected: the two lie under different hash tags, and no command may span tags in a cluster.
Whoever dies or stalls between the two leaves a document that the index does not know of: readers
compare a hundred documents' own versions every two seconds, by turns, and the learner publishes
again within a look what the index is behind on.
"""

import secrets

import redis

from .redis_keys import ACCESS, Keys
from .snapshot import Access, Endpoint, encode

# KEYS[1] {NAME}:snapshot   ARGV[1] version   ARGV[2] body
# Returns 1 if written, 0 if what is there is at least as new.
_PUT = """
local held = redis.call('HGET', KEYS[1], 'version')
if held and tonumber(held) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'body', ARGV[2])
return 1
"""

# KEYS[1] {index}:seq   KEYS[2] {index}:changed   KEYS[3] {index}:epoch   KEYS[4] {index}:versions
# ARGV[1] document name   ARGV[2] epoch to set if the index is new   ARGV[3] version
_ANNOUNCE = """
redis.call('SET', KEYS[3], ARGV[2], 'NX')
local told = redis.call('HGET', KEYS[4], ARGV[1])
if not told or tonumber(told) < tonumber(ARGV[3]) then redis.call('HSET', KEYS[4], ARGV[1], ARGV[3]) end
local seq = redis.call('INCR', KEYS[1])
redis.call('ZADD', KEYS[2], seq, ARGV[1])
return seq
"""


def publish(client: redis.Redis, keys: Keys, document: Endpoint | Access) -> bool:
    """Write `document` if it is newer than what Redis holds; True if it was. Raises
    redis.RedisError."""
    name = document.name if isinstance(document, Endpoint) else ACCESS
    written = client.eval(_PUT, 1, keys.snapshot(name), document.version, encode(document))
    # Announced even if nothing was written: after a crash between the two steps, the next publisher
    # mends the index.
    index = (keys.sequence, keys.changed, keys.epoch, keys.versions)
    client.eval(_ANNOUNCE, len(index), *index, name, secrets.token_hex(8), document.version)
    return bool(written)

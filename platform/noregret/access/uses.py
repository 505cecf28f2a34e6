"""When keys were last used: what web processes have told Redis (serving.key_uses) is kept in the
database, for Redis may be emptied."""

from datetime import UTC, datetime
from typing import cast

from django.db import connection

from noregret.redis_client import client, keys

_KEEP = """
UPDATE access_apikey AS k SET last_used_at = u.at
FROM unnest(%(digests)s::text[], %(times)s::timestamptz[]) AS u (digest, at)
WHERE k.digest = u.digest AND (k.last_used_at IS NULL OR k.last_used_at < u.at)
"""


def keep_uses() -> int:
    """Write what Redis was told into the database, in one statement; of how many keys it is newer.
    Raises redis.RedisError."""
    told = cast("dict[bytes, bytes]", client().hgetall(keys().key_uses))
    if not told:
        return 0
    times = [datetime.fromtimestamp(int(at), UTC) for at in told.values()]
    with connection.cursor() as cursor:
        cursor.execute(_KEEP, {"digests": [digest.decode() for digest in told], "times": times})
        return int(cursor.rowcount)

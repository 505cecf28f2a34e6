"""When each API key was last used: noted in memory by each call, told to Redis by one thread every
half minute.

A call pays for an entry in a dictionary. Of a process that is killed the last half minute is lost,
and of several processes that tell at once the later answer stands: the time is good to a minute,
which is enough to find a key that nobody uses.
"""

import threading
import time

import redis
import structlog

from .redis_keys import Keys

log = structlog.get_logger(__name__)

SECONDS = 30.0


class KeyUses:
    """The notes of a process, by a key's digest."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}

    def note(self, digest: str) -> None:
        self._used[digest] = int(time.time())

    def tell(self, client: redis.Redis, keys: Keys) -> None:
        """Tell Redis of all that was noted since the last time. Raises redis.RedisError, and then
        it is told the next time."""
        noted, self._used = self._used, {}
        used = dict(noted)  # a call may still be noting in it
        if not used:
            return
        try:
            client.hset(keys.key_uses, mapping=used)  # type: ignore[arg-type]  # integers are taken as values
        except redis.RedisError:
            self._used = used | self._used
            raise


USES = KeyUses()
"""Those of this process, whichever plane was called."""


class Teller:
    """The thread of a process that tells."""

    def __init__(self, uses: KeyUses, client: redis.Redis, keys: Keys) -> None:
        self._uses, self._client, self._keys = uses, client, keys
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="key uses", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=2.0)

    def _run(self) -> None:
        while not self._stop.wait(SECONDS):
            try:
                self._uses.tell(self._client, self._keys)
            except redis.RedisError as error:
                log.warning("uses of keys not told", error=str(error))

"""The parts of the hot path as one process has them: made at the first request, from the settings, and kept."""

import os
import threading
from dataclasses import dataclass
from typing import Any

import redis
from django.conf import settings
from django.db import connection

from . import artifacts
from .ledger.backlog import Backlog
from .ledger.rewards import RewardWriter
from .ledger.shipping import Shipper
from .ledger.spool import Spool
from .ledger.stream import BULK_TIMEOUT_SECONDS, BulkWriter, StreamWriter
from .reading import TIMEOUT_SECONDS
from .redis_keys import Keys
from .runtimes import Resources, kinds
from .shadowing import SHADOW_TIMEOUT_SECONDS, Shadower
from .sticky import STICKY_TIMEOUT_SECONDS, Assignments
from .store import SnapshotStore
from .tokens import Signer


@dataclass(frozen=True, slots=True)
class Process:
    store: SnapshotStore
    stream: StreamWriter
    backlog: Backlog
    spool: Spool
    shipper: Shipper
    rewards: RewardWriter
    signer: Signer
    assignments: Assignments
    shadower: Shadower
    max_rows: int
    """The most rows that a request may bring."""

    def close(self) -> None:
        self.store.stop()
        self.shipper.close()
        self.shadower.close()
        self.stream.close()
        self.spool.close()
        self.rewards.close()


_lock = threading.Lock()
_process: Process | None = None
_made_by = 0


def process() -> Process:
    """This process's parts; a forked child makes its own, for threads and sockets don't survive a fork."""
    global _process, _made_by
    held = _process
    if held is None or _made_by != os.getpid():
        with _lock:
            if _process is None or _made_by != os.getpid():
                _process, _made_by = make(), os.getpid()
            held = _process
    return held


def reset() -> None:
    """Close this process's parts; the next request makes new ones from the settings of that moment."""
    global _process
    with _lock:
        held, _process = _process, None
    if held is not None and _made_by == os.getpid():
        held.close()


def make() -> Process:
    """New parts from the settings, with the store's first read done."""
    keys = Keys(settings.REDIS_PREFIX)
    resources = Resources(artifacts.supplied(), settings)
    stream = StreamWriter(settings.REDIS_URL)
    spool = Spool(settings.SPOOL_DIR, settings.SPOOL_LIMIT)
    database: dict[str, Any] = connection.settings_dict

    store = SnapshotStore(
        client=redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
        ),
        keys=keys,
        load=lambda model: model.load(resources),
        folder=settings.SNAPSHOT_DIR,
        refresh_seconds=settings.REFRESH_SECONDS,
        stale_seconds=settings.STALE_SECONDS,
    )
    for kind in kinds().values():
        kind.prepare()
    store.start()
    bulk = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=BULK_TIMEOUT_SECONDS,
        socket_connect_timeout=BULK_TIMEOUT_SECONDS,
        retry=None,
    )
    backlog = Backlog(bulk, keys, settings.BACKLOG_LIMIT)
    shipper = Shipper(
        spool,
        backlog,
        BulkWriter(settings.REDIS_URL),
        bulk,
        keys,
        lambda: [live.document.name for live in store.endpoints()],
        stream.resume,
    )
    shipper.start()
    sticky = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=STICKY_TIMEOUT_SECONDS,
        socket_connect_timeout=STICKY_TIMEOUT_SECONDS,
        retry=None,
    )
    return Process(
        store,
        stream,
        backlog,
        spool,
        shipper,
        RewardWriter(database, size=settings.REWARD_CONNECTIONS),
        Signer(settings.SECRET_KEY),
        Assignments(sticky, keys, lambda: backlog.has_reserve),
        Shadower(
            redis.Redis.from_url(
                settings.REDIS_URL,
                socket_timeout=SHADOW_TIMEOUT_SECONDS,
                socket_connect_timeout=SHADOW_TIMEOUT_SECONDS,
            ),
            keys,
            lambda: backlog.shadows_have_room,
        ),
        settings.MAX_ROWS,
    )

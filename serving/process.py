"""The parts of the hot path as one process has them: made at the first request, from the settings,
and kept."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connection

from . import artifacts, metrics, redis_clients, stored_snapshots
from .edge import parts as edge_parts
from .edge.parts import Edge
from .gathering import Gatherer
from .key_uses import USES, Teller
from .ledger.backlog import Backlog
from .ledger.decision_log import DecisionLog
from .ledger.decision_queue import QueuedDecisions
from .ledger.rewards import RewardWriter
from .ledger.shipping import Shipper
from .ledger.spool import Spool
from .prediction_cache import PredictionCaches
from .problems import Problem
from .reading import RedisReader, SnapshotReader, Taker
from .redis_keys import Keys
from .runtimes import Resources, kinds
from .shadowing import Shadower
from .sticky import Assignments
from .store import SnapshotStore
from .stored_snapshots import StoredReader
from .streams.kept import ONCE_GROUP, KeptAnswers
from .tokens import Signer


@dataclass(frozen=True, slots=True)
class Process:
    store: SnapshotStore
    log: DecisionLog
    backlog: Backlog
    spool: Spool
    shipper: Shipper
    rewards: RewardWriter
    signer: Signer
    assignments: Assignments
    shadower: Shadower
    gatherer: Gatherer
    edge: Edge
    answered: Callable[[str], KeptAnswers]
    """What was answered to the named requests of an endpoint."""
    teller: Teller
    max_rows: int
    """The most rows that a request may bring."""
    body_limit: int
    """The most bytes that a serving call's body may have."""

    def close(self) -> None:
        self.gatherer.close()
        self.teller.close()
        self.store.stop()
        self.shipper.close()
        self.shadower.close()
        self.log.close()
        self.spool.close()
        self.rewards.close()


class CannotServe(Problem):
    """The parts can't be made as the settings have them: whoever asks for one is told so, and the
    next request tries again. `cause` is why, for those who run the service."""

    def __init__(self, error: Exception) -> None:
        super().__init__(
            503,
            "unavailable",
            "Not available right now",
            "this process can't serve anything with the settings that it has; its log and /readyz say why",
            headers={"Retry-After": "10"},
        )
        self.cause = f"{type(error).__name__}: {error}"


_lock = threading.Lock()
_process: Process | None = None


def process() -> Process:
    """This process's parts. Raises CannotServe."""
    parts = _process
    return _first() if parts is None else parts


def waits(endpoint: str) -> bool:
    """May a request on this endpoint wait for another machine? Quick, and never makes the parts."""
    parts = _process
    return parts is not None and parts.store.waits(endpoint)


def _first() -> Process:
    global _process
    with _lock:
        if _process is None:
            try:
                _process = make()
            except Exception as error:  # whatever a storage's library or the system raises
                raise CannotServe(error) from error
        return _process


def _begin_anew() -> None:
    """A forked child makes its own parts, for threads and sockets don't survive a fork; nor is a
    lock free that was held then."""
    global _lock, _process
    _lock, _process = threading.Lock(), None


os.register_at_fork(after_in_child=_begin_anew)


def reset() -> None:
    """Close this process's parts; the next request makes new ones from the settings of that
    moment."""
    global _process
    with _lock:
        parts, _process = _process, None
    if parts is not None:
        parts.close()


def make() -> Process:
    """New parts from the settings, with the store's first read done."""
    keys = Keys(settings.REDIS_PREFIX)
    resources = Resources(artifacts.supplied(), settings)
    queue = settings.DECISION_QUEUE
    log = DecisionLog(settings.REDIS_URL, keys) if queue is None else QueuedDecisions(queue, settings.REDIS_URL, keys)
    spool = Spool(settings.SPOOL_DIR, settings.SPOOL_LIMIT)
    database: dict[str, Any] = connection.settings_dict

    def reader(taker: Taker) -> SnapshotReader:
        if settings.SNAPSHOTS == "storage":
            return StoredReader(stored_snapshots.supplied(), taker, settings.REFRESH_SECONDS)
        client = redis_clients.client(settings.REDIS_URL, redis_clients.SNAPSHOTS)
        return RedisReader(client, keys, taker, settings.REFRESH_SECONDS)

    store = SnapshotStore(
        reader=reader,
        load=lambda model: model.load(resources),
        folder=settings.SNAPSHOT_DIR,
        refresh_seconds=settings.REFRESH_SECONDS,
        stale_seconds=settings.STALE_SECONDS,
        caches=PredictionCaches(settings.CACHE_BYTES),
    )
    for kind in kinds().values():
        kind.prepare()
    store.start()
    bulk = redis_clients.client(settings.REDIS_URL, redis_clients.SHIPPING)
    backlog = Backlog(bulk, keys, settings.BACKLOG_LIMIT)
    shipper = Shipper(spool, backlog, log, lambda: [live.document.name for live in store.endpoints()])
    if queue is None:
        shipper.start()
    gatherer = Gatherer(metrics.GATHERING)
    gatherer.start()
    teller = Teller(USES, bulk, keys)
    teller.start()
    sticky = redis_clients.client(settings.REDIS_URL, redis_clients.STICKY)
    once = redis_clients.client(settings.REDIS_URL, redis_clients.ONCE)
    return Process(
        store,
        log,
        backlog,
        spool,
        shipper,
        RewardWriter(database, size=settings.REWARD_CONNECTIONS),
        Signer(settings.SECRET_KEY),
        Assignments(sticky, keys, lambda: backlog.has_reserve),
        Shadower(
            redis_clients.client(settings.REDIS_URL, redis_clients.SHADOWS),
            keys,
            lambda: backlog.shadows_have_room,
        ),
        gatherer,
        edge_parts.make(
            settings.SECRET_KEY,
            settings.EDGE,
            redis_clients.client(settings.REDIS_URL, redis_clients.EDGE),
            keys,
            artifacts.supplied,
        ),
        lambda endpoint: KeptAnswers(once, keys, endpoint, ONCE_GROUP),
        teller,
        settings.MAX_ROWS,
        settings.SERVING_BODY_LIMIT,
    )

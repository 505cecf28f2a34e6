"""What `manage.py doctor` finds of Redis: one server or a cluster, and Celery's broker."""

from collections.abc import Iterator

from django.conf import settings

from noregret.redis_client import client
from serving import redis_clients
from serving.clustered_redis import ClusteredRedis
from serving.redis_topology import SLOTS

from .finding import Finding


def state() -> Iterator[Finding]:
    asked = client()
    if isinstance(asked, ClusteredRedis):
        yield from _cluster(asked)
    elif asked.info("cluster").get("cluster_enabled"):
        yield False, "it is a server of a cluster; REDIS_URL has to say so: redis+cluster://host:port,host:port"
    for server in redis_clients.shards(asked):
        policy = server.config_get("maxmemory-policy").get("maxmemory-policy", "unknown")
        yield (
            policy == "noeviction",
            f"answers; maxmemory-policy is {policy}, noeviction is needed: decisions would vanish otherwise",
        )


def _cluster(asked: ClusteredRedis) -> Iterator[Finding]:
    topology = asked.topology
    missing = topology.slots_without_server
    yield (
        not missing,
        f"a cluster; {len(topology.shards)} servers take writes, {missing} of {SLOTS} slots have no server",
    )
    alone = [str(shard.primary) for shard in topology.shards if not shard.replicas]
    if alone:
        yield None, f"without a replica: {', '.join(alone)}; what it holds is away as long as it is"


def broker() -> Iterator[Finding]:
    """Where Celery's queues are, if that is another Redis."""
    url = settings.ENVIRONMENT.broker_url
    if url == settings.REDIS_URL:
        yield True, "Celery's queues are in the same Redis"
        return
    asked = redis_clients.client(url, redis_clients.CONTROL)
    try:
        asked.ping()
    finally:
        asked.close()
    yield True, "the Redis of NOREGRET_BROKER_URL answers"

"""The platform's connection to Redis. Every call has a deadline: nothing here may hang."""

from functools import cache

import redis
from django.conf import settings

from serving import redis_clients
from serving.ledger.decision_log import DecisionLog
from serving.redis_keys import Keys


def client() -> redis.Redis:
    """One pooled client a process; raises redis.RedisError on use when the server is away."""
    return _client(settings.REDIS_URL, redis_clients.CONTROL)


def probing_client() -> redis.Redis:
    """The same for whoever asks how things stand, and would rather hear that nobody answers."""
    return _client(settings.REDIS_URL, redis_clients.PROBE)


@cache
def _client(url: str, use: redis_clients.Use) -> redis.Redis:
    return redis_clients.client(url, use)


def keys() -> Keys:
    """The key names under this process's prefix, read anew each time: tests change it."""
    return Keys(settings.REDIS_PREFIX)


def decision_log() -> DecisionLog:
    """The log that web processes append to, under this process's prefix."""
    return _decision_log(settings.REDIS_URL, settings.REDIS_PREFIX)


@cache
def _decision_log(url: str, prefix: str) -> DecisionLog:
    return DecisionLog(url, Keys(prefix))

"""A stream of requests in Redis and what came of it, as a caller and the ledger see it."""

import json
import secrets
from typing import Any

import redis
from django.conf import settings
from noregret.redis_client import client as own_client


class Streams:
    """Streams of their own for one test, on Noregret's own Redis or another."""

    def __init__(self, client: redis.Redis | None = None) -> None:
        # One hash tag, as a cluster needs it.
        name = f"{{{settings.REDIS_PREFIX}{secrets.token_hex(4)}}}"
        self.source, self.sink, self.aside = f"{name}:in", f"{name}:out", f"{name}:in-dead"
        self.client: redis.Redis = own_client() if client is None else client

    def send(self, *bodies: Any) -> list[str]:
        """The ids of the messages; a body that is no bytes is sent as JSON."""
        sent = []
        for body in bodies:
            text = body if isinstance(body, bytes) else json.dumps(body).encode()
            entry: Any = self.client.xadd(self.source, {"body": text})
            sent.append(entry.decode())
        return sent

    def answers(self) -> list[dict[str, Any]]:
        entries: Any = self.client.xrange(self.sink)
        return [json.loads(fields[b"body"]) for _, fields in entries]

    def set_aside(self) -> list[dict[str, Any]]:
        entries: Any = self.client.xrange(self.aside)
        return [
            {"body": fields[b"body"], "reason": json.loads(fields[b"reason"]), "id": fields[b"id"].decode()}
            for _, fields in entries
        ]

    def pending(self, group: str = "noregret") -> int:
        told: Any = self.client.xpending(self.source, group)
        return int(told["pending"])

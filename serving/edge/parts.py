"""What a process needs for devices."""

from collections.abc import Callable
from dataclasses import dataclass

import redis

from serving.artifacts import ArtifactStore
from serving.redis_keys import Keys

from .allowance import Allowance
from .bundle import Issuer
from .receipt import Receipts
from .rules import EdgeRules
from .signing import BundleSigner


@dataclass(frozen=True, slots=True)
class Edge:
    receipts: Receipts
    signer: BundleSigner
    issuer: Issuer
    allowance: Allowance
    artifacts: Callable[[], ArtifactStore]
    grace_seconds: float
    """So long after a bundle's end events of its lifetime are taken."""


def make(
    secret: str, rules: EdgeRules, client: redis.Redis, keys: Keys, artifacts: Callable[[], ArtifactStore]
) -> Edge:
    """The parts of a process."""
    receipts, signer = Receipts(secret), BundleSigner(secret, rules.seeds)
    return Edge(
        receipts,
        signer,
        Issuer(receipts, signer, artifacts, rules.bundle_seconds),
        Allowance(client, keys, rules.events_per_minute),
        artifacts,
        rules.grace_seconds,
    )

"""Latencies of an arm or an endpoint, as they are told."""

from collections.abc import Sequence

from msgspec import Struct

from serving.ledger import latency


class Latency(Struct, frozen=True):
    """Milliseconds; null where nothing was recorded."""

    p50: float | None
    p99: float | None

    @classmethod
    def of(cls, counts: Sequence[int]) -> "Latency":
        """Of counts by latency (serving.ledger.latency)."""
        return cls(latency.quantile(counts, 0.5), latency.quantile(counts, 0.99))

"""What a rebuild of an experiment consists of, as parts that any process can compute in the
snapshot that all of them read, and who computes them.

Pieces are joined in the order of their parts, whoever computed them: so a rebuild by many processes
adds up as one by itself does. By itself means in the caller's own transaction (`alone`); by Celery
workers: noregret.learning.workers.
"""

from collections.abc import Generator, Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from noregret.experiments.models import Experiment

from . import kept_intervals
from .collector import uncollected
from .kept import KeptSum, Part, Span, kept_sums
from .kept_intervals import Differing
from .kept_watches import Shadowed, Watched
from .resumming import SpanOutcomes, UnitsOutcomes


class Compute(Protocol):
    """Gives the pieces of parts, in their order. `at_once`: how many processes there are."""

    at_once: int

    def __call__(self, experiment: Experiment, parts: Sequence[Part]) -> Generator[Any]: ...


class Alone:
    """Computes them one after another, in the caller's transaction."""

    at_once = 1

    def __call__(self, experiment: Experiment, parts: Sequence[Part]) -> Generator[Any]:
        for part in parts:
            with uncollected():
                piece = part.compute(experiment)
            yield piece


class SpanPiece(msgspec.Struct, frozen=True):
    """By name what `KeptSum.read` gave; and the intervals that differ."""

    sums: dict[str, Any]
    intervals: Differing


class SpanSums(Part, frozen=True, tag="sums"):
    """A span of every kept sum that can be read in pieces; with `compare`, its intervals."""

    start: datetime
    end: datetime
    closed: datetime | None
    compare: bool

    def compute(self, experiment: Experiment) -> SpanPiece:
        span = Span(self.start, self.end, self.closed)
        sums = {kept.name: kept.read(experiment, span) for kept in read_in_pieces(experiment)}
        intervals = kept_intervals.compare(experiment, self.start, self.end) if self.compare else Differing()
        return SpanPiece(sums, intervals)

    def to_bytes(self, piece: SpanPiece) -> bytes:
        sums = {name: msgspec.msgpack.encode(read) for name, read in piece.sums.items()}
        return msgspec.msgpack.encode(SpanPiece(sums, piece.intervals))

    def from_bytes(self, body: bytes) -> SpanPiece:
        piece = msgspec.msgpack.decode(body, type=SpanPiece)
        types = {kept.name: kept.piece for kept in kept_sums()}
        sums = {name: msgspec.msgpack.decode(read, type=types[name]) for name, read in piece.sums.items()}
        return SpanPiece(sums, piece.intervals)


AnyPart = SpanSums | SpanOutcomes | UnitsOutcomes | Watched | Shadowed


def read_in_pieces(experiment: Experiment) -> Iterable[KeptSum[Any]]:
    return (kept for kept in kept_sums() if kept.in_pieces(experiment))

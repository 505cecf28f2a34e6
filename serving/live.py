"""A snapshot made ready to serve: its models, its router. Built off the request's way, then swapped
in whole."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from bandits.context import ContextSchema

from . import snapshot
from .batching import Batching
from .breaker import Breaker
from .deadline import BoundedCaller
from .pace import Pace
from .prediction_cache import PredictionCache
from .routing import OneSeatRouter, Router, Uniform, router
from .runtimes.protocol import Kept
from .runtimes.rows import to_rows
from .runtimes.runtime import Runtime

log = structlog.get_logger(__name__)

LoadRuntime = Callable[[snapshot.Model], Runtime]
BEING_LOADED = "it is being loaded"
NO_EXPERIMENT = 0
"""Stands for the ids of an experiment and its arm where none runs."""
UNRECORDED = snapshot.Baseline(NO_EXPERIMENT, NO_EXPERIMENT, record=0.0)
"""Of a single deployment whose endpoint has no baseline yet."""


@dataclass(frozen=True, slots=True)
class LiveModel:
    """A model version in this process. `runtime` is None when it is not loaded; `problem` then says
    why.

    A model that was loaded and failed on its example rows has both: requests find out whether it
    answers theirs.
    """

    model: snapshot.Model
    runtime: Runtime | None
    caller: BoundedCaller
    problem: str | None = None
    is_loading: bool = False
    pace: Pace = field(default_factory=Pace)
    breaker: Breaker = field(default_factory=Breaker)
    """As an arm, which the champion answers for."""
    patience: Breaker = field(default_factory=Breaker)
    """As a champion, for whom nobody answers: opened by deadlines passed alone, so that its
    requests keep no threads from others."""

    @property
    def payload(self) -> Any:
        """What a decision for this model hands on, where its arm has no payload of its own."""
        return self.model.payload

    @property
    def kept(self) -> Kept:
        """May its answers be kept for the same rows? For a time at most, where it draws them. Only
        those that may be kept always follow from a row alone, whatever is asked beside it."""
        return "for-a-time" if getattr(self.runtime, "draws", False) else self.model.kept


@dataclass(frozen=True, slots=True)
class Seat:
    """Who may answer an endpoint's requests: an arm of its experiment, or the champion of a single
    deployment."""

    live: LiveModel
    payload: Any
    arm_id: int = NO_EXPERIMENT
    arm: str | None = None


@dataclass(frozen=True, slots=True)
class LiveEndpoint:
    """All that a request on one endpoint needs. What follows from the snapshot alone is worked out
    here, once.

    A single deployment is routed like an experiment with one seat.
    """

    document: snapshot.Endpoint
    champion: LiveModel
    arms: list[LiveModel]
    seats: tuple[Seat, ...]
    """By position, as the router counts."""
    router: Router
    schema: ContextSchema | None
    experiment_id: int = NO_EXPERIMENT
    experiment: str | None = None
    strategy: str = "single"
    recorded_share: float = 0.0
    """Of its decisions, how many go into the ledger."""
    shadow_sample: float = 0.0
    is_sticky: bool = False
    enabled_ids: tuple[int, ...] = ()
    """Each seat's arm by id, -1 for one that is disabled: a unit that had it is routed anew."""
    cache: PredictionCache | None = None
    """What is kept of its models' answers; None where every request is computed."""
    batching: Batching | None = None
    """None where each request is a call of its own."""

    @property
    def name(self) -> str:
        return self.document.name

    @property
    def waits(self) -> bool:
        """May a request on it wait for another machine?"""
        return any(live.model.waits for live in self.models())

    @property
    def champion_seat(self) -> Seat:
        """The champion as nobody's arm: it answers requests that no arm is for."""
        return Seat(self.champion, self.champion.payload)

    def models(self) -> Iterator[LiveModel]:
        yield self.champion
        yield from self.arms

    def with_models(self, find: Callable[[snapshot.Model], LiveModel]) -> "LiveEndpoint":
        """The same document, its models as `find` has them now."""
        champion, *arms = map(find, models_of(self.document))
        return replace(self, champion=champion, arms=arms, seats=_seats(self.document, champion, arms))


def models_of(document: snapshot.Endpoint) -> list[snapshot.Model]:
    """Every model that a document names, the champion first."""
    arms = document.experiment.arms if document.experiment else []
    return [document.champion, *(arm.model for arm in arms)]


def load_model(load: LoadRuntime, model: snapshot.Model) -> LiveModel:
    """The model, loaded and warmed, or why it is not. Takes as long as it takes; raises what `load`
    raises."""
    runtime = load(model)
    pace = Pace(model.call_seconds, model.row_seconds)
    problem = _warm(model, runtime, pace)
    return LiveModel(model, runtime, BoundedCaller(model.model), problem=problem, pace=pace)


def not_loaded(model: snapshot.Model, problem: str, *, is_loading: bool = False) -> LiveModel:
    """What stands for a model that is not there."""
    return LiveModel(model, None, BoundedCaller(model.model), problem=problem, is_loading=is_loading)


def _warm(model: snapshot.Model, runtime: Runtime, pace: Pace) -> str | None:
    """What went wrong, or None. The first call allocates and, for some models, compiles: not at a
    request's expense.

    Only with rows that the model answered when it was registered. Rows made up here (zeros, ones)
    are no rows of some models: they hold a category, or a logarithm, that does not exist.
    """
    examples = model.examples or model.example_rows
    if not runtime.bounded or not examples:
        return None
    try:
        rows = to_rows(examples, model)
        runtime.predict(rows)
        began = time.perf_counter()
        runtime.predict(rows[:1])
        pace.took(1, time.perf_counter() - began)
    except Exception as error:
        log.error("model failed on its example rows", model=model.model, error=repr(error))
        return f"failed on its example rows: {type(error).__name__}: {error}"
    return None


def make_live(
    document: snapshot.Endpoint, find: Callable[[snapshot.Model], LiveModel], uniform: Uniform = random.random
) -> LiveEndpoint:
    """The document with its models as `find` has them; arms are drawn by `uniform`. Raises what a
    router raises for a policy that this version of the program does not know."""
    champion, *arms = map(find, models_of(document))
    seats = _seats(document, champion, arms)
    experiment = document.experiment
    if experiment is None:
        baseline = document.baseline or UNRECORDED
        return LiveEndpoint(
            document,
            champion,
            arms,
            seats,
            OneSeatRouter(),
            None,
            experiment_id=baseline.id,
            recorded_share=baseline.record,
        )
    return LiveEndpoint(
        document,
        champion,
        arms,
        seats,
        router(experiment, uniform),
        ContextSchema.from_document(experiment.context) if experiment.context else None,
        experiment_id=experiment.id,
        experiment=experiment.name,
        strategy=experiment.strategy,
        recorded_share=1.0,
        shadow_sample=experiment.shadow_sample,
        is_sticky=experiment.sticky,
        enabled_ids=tuple(arm.id if arm.enabled else -1 for arm in experiment.arms),
    )


def _seats(document: snapshot.Endpoint, champion: LiveModel, arms: Sequence[LiveModel]) -> tuple[Seat, ...]:
    if document.experiment is None:
        baseline = document.baseline or UNRECORDED
        return (Seat(champion, champion.payload, baseline.model_id),)
    return tuple(
        Seat(live, live.payload if arm.payload is None else arm.payload, arm.id, arm.name)
        for arm, live in zip(document.experiment.arms, arms, strict=True)
    )

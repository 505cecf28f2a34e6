"""A snapshot made ready to serve: its models, its router. Built off the request's way, then swapped in whole."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import structlog

from bandits.context import ContextSchema

from . import snapshot
from .breaker import Breaker
from .deadline import BoundedCaller
from .pace import Pace
from .routing import Router, router
from .runtimes.protocol import Runtime

log = structlog.get_logger(__name__)

LoadRuntime = Callable[[snapshot.Model], Runtime]
BEING_LOADED = "it is being loaded"


@dataclass(frozen=True, slots=True)
class LiveModel:
    """A model version in this process. `runtime` is None when it is not loaded; `problem` then says why.

    A model that was loaded and failed on its example rows has both: requests find out whether it answers theirs.
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
    """As a champion, for whom nobody answers: opened by deadlines passed alone, so that its requests keep no threads from others."""


@dataclass(frozen=True, slots=True)
class LiveEndpoint:
    """All that a request on one endpoint needs."""

    document: snapshot.Endpoint
    champion: LiveModel
    arms: list[LiveModel] = field(default_factory=list)
    router: Router | None = None
    schema: ContextSchema | None = None

    def models(self) -> Iterator[LiveModel]:
        yield self.champion
        yield from self.arms


def models_of(document: snapshot.Endpoint) -> list[snapshot.Model]:
    """Every model that a document names, the champion first."""
    arms = document.experiment.arms if document.experiment else []
    return [document.champion, *(arm.model for arm in arms)]


def load_model(load: LoadRuntime, model: snapshot.Model) -> LiveModel:
    """The model, loaded and warmed, or why it is not. Takes as long as it takes; raises what `load` raises."""
    runtime = load(model)
    pace = Pace(model.call_seconds, model.row_seconds)
    problem = _warm(model, runtime, pace)
    return LiveModel(model, runtime, BoundedCaller(model.model), problem=problem, pace=pace)


def not_loaded(model: snapshot.Model, problem: str, *, is_loading: bool = False) -> LiveModel:
    """What stands for a model that is not there."""
    return LiveModel(model, None, BoundedCaller(model.model), problem=problem, is_loading=is_loading)


def _warm(model: snapshot.Model, runtime: Runtime, pace: Pace) -> str | None:
    """What went wrong, or None. The first call allocates and, for some models, compiles: not at a request's expense.

    Only with rows that the model answered when it was registered. Rows made up here (zeros, ones) are no rows of some models:
    they hold a category, or a logarithm, that does not exist.
    """
    if not runtime.bounded or not model.example_rows:
        return None
    try:
        rows = np.array(model.example_rows, dtype=np.float64)
        runtime.predict(rows)
        began = time.perf_counter()
        runtime.predict(rows[:1])
        pace.took(1, time.perf_counter() - began)
    except Exception as error:
        log.error("model failed on its example rows", model=model.model, error=repr(error))
        return f"failed on its example rows: {type(error).__name__}: {error}"
    return None


def make_live(document: snapshot.Endpoint, find: Callable[[snapshot.Model], LiveModel]) -> LiveEndpoint:
    """The document with its models as `find` has them. Raises what a router raises for a policy that this version of the
    program does not know."""
    experiment = document.experiment
    champion, *arms = [find(model) for model in models_of(document)]
    return LiveEndpoint(
        document=document,
        champion=champion,
        arms=arms,
        router=router(experiment) if experiment else None,
        schema=ContextSchema.from_document(experiment.context) if experiment and experiment.context else None,
    )

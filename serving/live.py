"""A snapshot made ready to serve: its models loaded and warmed, its router made. Built off the request's way, then swapped in whole."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import structlog

from bandits.context import ContextSchema

from . import snapshot
from .breaker import Breaker
from .deadline import BoundedCaller
from .ledger import stream
from .redis_keys import Keys
from .routing import Router, router
from .runtimes.protocol import Runtime

log = structlog.get_logger(__name__)

LoadRuntime = Callable[[snapshot.Model], Runtime]


@dataclass(frozen=True, slots=True)
class LiveModel:
    """A model version in this process. `runtime` is None when it could not be loaded; `problem` then says why.

    A model that was loaded and failed on its example rows has both: requests find out whether it answers theirs.
    """

    model: snapshot.Model
    runtime: Runtime | None
    problem: str | None = None
    caller: BoundedCaller | None = None  # of a runtime that may hang
    breaker: Breaker = field(default_factory=Breaker)


@dataclass(frozen=True, slots=True)
class LiveEndpoint:
    """All that a request on one endpoint needs."""

    document: snapshot.Endpoint
    champion: LiveModel
    arms: list[LiveModel] = field(default_factory=list)
    router: Router | None = None
    schema: ContextSchema | None = None
    append_command: bytes = b""


class ModelCache:
    """Loaded models by what they were loaded from; a model that several endpoints serve is loaded once."""

    def __init__(self, load: LoadRuntime) -> None:
        self._load = load
        self._models: dict[tuple[str, str | None], LiveModel] = {}

    def get(self, model: snapshot.Model) -> LiveModel:
        """The model, loaded and warmed. One that can't be loaded is tried again with the next snapshot that names it."""
        key = (model.model, model.sha256)
        held = self._models.get(key)
        if held is None or held.runtime is None:
            held = self._models[key] = self._make(model)
        return held

    def keep_only(self, endpoints: Mapping[str, LiveEndpoint]) -> None:
        """Drop what no endpoint names any more."""
        used = {
            (live.model.model, live.model.sha256)
            for endpoint in endpoints.values()
            for live in (endpoint.champion, *endpoint.arms)
        }
        for key in self._models.keys() - used:
            del self._models[key]

    def _make(self, model: snapshot.Model) -> LiveModel:
        try:
            runtime = self._load(model)
        except Exception as error:
            log.error("model not loaded", model=model.model, error=repr(error))
            return LiveModel(model, None, problem=f"{type(error).__name__}: {error}")
        caller = None if runtime.bounded else BoundedCaller(model.model)
        return LiveModel(model, runtime, problem=_warm(model, runtime), caller=caller)


def _warm(model: snapshot.Model, runtime: Runtime) -> str | None:
    """What went wrong, or None. The first call allocates and, for some models, compiles: not at a request's expense.

    Only with rows that the model answered when it was registered. Rows made up here (zeros, ones) are no rows of some models:
    they hold a category, or a logarithm, that does not exist.
    """
    if not runtime.bounded or not model.example_rows:
        return None
    try:
        rows = np.array(model.example_rows, dtype=np.float64)
        runtime.predict(rows)
        runtime.predict(rows[:1])
    except Exception as error:
        log.error("model failed on its example rows", model=model.model, error=repr(error))
        return f"failed on its example rows: {type(error).__name__}: {error}"
    return None


def make_live(document: snapshot.Endpoint, models: ModelCache, keys: Keys) -> LiveEndpoint:
    """Raises what a router raises for a policy that this version of the program does not know."""
    experiment = document.experiment
    return LiveEndpoint(
        document=document,
        champion=models.get(document.champion),
        arms=[models.get(arm.model) for arm in experiment.arms] if experiment else [],
        router=router(experiment) if experiment else None,
        schema=ContextSchema.from_document(experiment.context) if experiment and experiment.context else None,
        append_command=stream.prepare(keys.decisions(document.name)),
    )

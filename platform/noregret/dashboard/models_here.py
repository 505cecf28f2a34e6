"""How an endpoint's models stand in the web process that makes the page: each process has its own
circuits."""

from collections.abc import Iterator

from serving.live import LiveModel
from serving.process import CannotServe, process


def states_here(endpoint: str) -> list[str]:
    """A sentence each, the champion first; nothing of an endpoint that this process does not
    serve."""
    try:
        live = process().store.endpoint(endpoint)
    except CannotServe as error:
        return [f"none: this process can't serve anything, {error.cause}"]
    if live is None:
        return []
    models = {model.model.model: model for model in live.models()}
    return [f"{name} {', '.join(_state(model, is_champion=model is live.champion))}" for name, model in models.items()]


def _state(model: LiveModel, *, is_champion: bool) -> Iterator[str]:
    if model.runtime is None:
        yield model.problem or "is not loaded"
        return
    # As an arm the champion answers for it; as the champion nobody does.
    circuit = model.patience if is_champion else model.breaker
    yield f"loaded, its circuit is {circuit.state}"
    if model.caller.left:
        yield f"{model.caller.left} of its calls were left and are not back"

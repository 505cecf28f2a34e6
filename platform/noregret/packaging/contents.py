"""An endpoint's snapshot as a package has it: cut to what it chooses, predicts and is checked by.

No key, no secret, no reward of another experiment, and of what was learned only what the choice
needs: the probabilities, or a contextual policy's belief.
"""

import json
from typing import Any, NamedTuple

import msgspec

from bandits.policies import make
from serving import snapshot
from serving.artifacts import ArtifactStore
from serving.live import models_of
from serving.packaged.frozen import FORM, MODELS, SNAPSHOT
from serving.runtimes import Model, onnx_graph
from serving.runtimes.linear import LinearRuntime
from serving.runtimes.onnx import OnnxModel

_POLICIES = "bandits.policies."


class CannotTravel(Exception):
    """What of an endpoint can't be in a package, and why: a sentence each."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class Contents(NamedTuple):
    """Files by their path within the package's folder, and whether any needs ONNX Runtime."""

    files: dict[str, bytes]
    needs_onnxruntime: bool


class Terms(NamedTuple):
    """By what the platform takes the package's events, and until when they may be made."""

    receipt: str | None
    expires_at: float  # Unix time, seconds


def compose(document: snapshot.Endpoint, artifacts: ArtifactStore, terms: Terms) -> Contents:
    """Raises CannotTravel, and ArtifactMissing."""
    reasons = [*_that_stay(document), *_unknown_policy(document.experiment)]
    if reasons:
        raise CannotTravel(reasons)
    models: dict[str, dict[str, Any]] = {}
    files: dict[str, bytes] = {}
    for model in models_of(document):
        if model.model not in models:
            models[model.model] = _model(model, artifacts, files)
    experiment, baseline = document.experiment, document.baseline
    told = {
        "form": FORM,
        "endpoint": document.name,
        "version": document.version,
        "champion": document.champion.model,
        "champion_id": 0 if experiment is not None or baseline is None else baseline.model_id,
        "payload": document.champion.payload,
        "models": models,
        "experiment": None if experiment is None else _experiment(experiment),
        "experiment_id": experiment.id if experiment is not None else 0 if baseline is None else baseline.id,
        "record": 1.0 if experiment is not None else 0.0 if baseline is None else baseline.record,
        "reward": _reward(document),
        "receipt": terms.receipt,
        "expires_at": terms.expires_at,
    }
    body = json.dumps(told, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return Contents({SNAPSHOT: body.encode(), **files}, bool(files))


def _that_stay(document: snapshot.Endpoint) -> list[str]:
    experiment = document.experiment
    seats = [("the champion", document.champion)]
    seats += [(f"arm {arm.name}", arm.model) for arm in experiment.arms] if experiment is not None else []
    return [
        f"{who} can't be in a package: its model {model.model} stays, for {model.stays}"
        for who, model in seats
        if model.stays is not None
    ]


def _unknown_policy(experiment: snapshot.Experiment | None) -> list[str]:
    if experiment is None or experiment.policy is None:
        return []
    name = experiment.policy.name
    if type(make(name, **experiment.policy.params)).__module__.startswith(_POLICIES):
        return []
    return [f"the policy {name} can't be in a package: it is none of those that a package carries"]


def _model(model: Model, artifacts: ArtifactStore, files: dict[str, bytes]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "runtime": model.runtime,
        "outputs": model.outputs,
        "features": model.features,
        "feature_names": model.feature_names,
        "columns": msgspec.to_builtins(model.columns),
        "payload": model.payload,
        "sha256": None,
        "parameters": None,
    }
    if not isinstance(model, OnnxModel):
        return told
    body = artifacts.read(model.sha256)
    # As it is served here: a graph that was compiled here may tell a linear form.
    runtime = None if model.framework == "onnx" else onnx_graph.load(body, model.outputs)
    if isinstance(runtime, LinearRuntime):
        return told | {"parameters": msgspec.to_builtins(runtime.form)}
    files[f"{MODELS}/{model.sha256}.onnx"] = body
    return told | {"sha256": model.sha256}


def _experiment(experiment: snapshot.Experiment) -> dict[str, Any]:
    policy, belief = experiment.policy, experiment.belief
    burn_in = 0 if policy is None else policy.burn_in
    return {
        "id": experiment.id,
        "name": experiment.name,
        "strategy": experiment.strategy,
        "holdout": experiment.holdout,
        "apprentice": experiment.apprentice,
        "sticky": experiment.sticky,
        "context": experiment.context,
        "policy": None if policy is None else msgspec.to_builtins(policy),
        "belief": None if belief is None else msgspec.to_builtins(belief),
        "arms": [
            {
                "id": arm.id,
                "name": arm.name,
                "model": arm.model.model,
                "payload": arm.model.payload if arm.payload is None else arm.payload,
                "propensity": arm.propensity,
                "enabled": arm.enabled,
                "is_control": arm.is_control,
                "count": 0.0,
                # How far past its burn-in an arm is matters to nobody.
                "learned": min(arm.count if arm.learned is None else arm.learned, float(burn_in)),
            }
            for arm in experiment.arms
        ],
    }


def _reward(document: snapshot.Endpoint) -> dict[str, Any] | None:
    experiment = document.experiment
    if experiment is not None:
        reward: snapshot.Reward | None = experiment.reward
    else:
        number = None if document.baseline is None else document.baseline.id
        reward = next((one for one in document.rewards if one.experiment_id == number), None)
    if reward is None:
        return None
    return {
        "metric": reward.metric,
        "kind": reward.kind,
        "minimum": reward.minimum,
        "maximum": reward.maximum,
        "declared": reward.declared,
        "window_seconds": reward.window_seconds,
    }

"""What a model version's page tells beside its row: its other versions, its columns, where it
serves, and how it did in experiments. Reads only, each list at most SHOWN long."""

from typing import Any

from django.http import HttpRequest

from noregret.experiments.models import Arm, Endpoint, Experiment
from noregret.registry.models import ModelVersion

from .pages import may_see

SHOWN = 50


def facts_of(request: HttpRequest, row: ModelVersion) -> dict[str, Any]:
    """For the page's template. Endpoints and experiments are told to who may see theirs."""
    found: dict[str, Any] = {
        "versions": ModelVersion.objects.filter(name=row.name).exclude(pk=row.pk).order_by("-pk")[:SHOWN],
        "columns": columns_of(row.signature)[:SHOWN],
        "more_columns": max(0, len(columns_of(row.signature)) - SHOWN),
        "outputs": ", ".join(row.signature.get("outputs") or ()),
        "classes": row.signature.get("classes"),
        "compiled": compiled_told(row),
        "has_file": bool(row.sha256),
    }
    if may_see(request, "experiments", "endpoint"):
        found["champion_of"] = Endpoint.objects.filter(champion=row).order_by("name")[:SHOWN]
    if may_see(request, "experiments", "experiment"):
        arms = Arm.objects.filter(model=row).select_related(
            "experiment__endpoint", "experiment__promoted_arm", "statistics"
        )
        arms = arms.order_by("-experiment")
        ended = Experiment.Status.COMPLETED
        begun = (Experiment.Status.RUNNING, Experiment.Status.PAUSED)
        found["arms"] = arms.filter(experiment__status__in=begun)[:SHOWN]
        past = arms.filter(experiment__status=ended)[:SHOWN]
        found["past"] = [(arm, getattr(arm, "statistics", None), outcome_told(arm)) for arm in past]
    return found


def columns_of(signature: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """Name, type and an example of each column; unnamed features by their place."""
    example: Any = (signature.get("example_rows") or [[]])[0]
    typed = signature.get("columns")
    if typed is not None:
        known = [(c["name"], f"{c['type']}{', nullable' if c['nullable'] else ''}") for c in typed]
    else:
        names = signature.get("feature_names")
        count = signature.get("features") or 0
        known = [(names[i] if names else f"feature {i + 1}", "number") for i in range(count)]
    return [(name, kind, _example(example, i, name)) for i, (name, kind) in enumerate(known)]


def _example(example: Any, place: int, name: str) -> Any:
    found = example.get(name) if isinstance(example, dict) else example[place] if place < len(example) else None
    return "–" if found is None else found


def compiled_told(row: ModelVersion) -> str:
    """Is it served compiled, and why or why not?"""
    if not row.sha256:
        return "It has no file, so there is nothing to compile."
    note = row.compile_note or "nobody noted why"
    return f"Compiled: {note}." if row.compiled else f"Served as it was registered: {note}."


def outcome_told(arm: Arm) -> str:
    """What came of the experiment, for this arm."""
    experiment = arm.experiment
    if experiment.promoted_arm_id == arm.pk:
        return "promoted"
    if experiment.outcome == Experiment.Outcome.PROMOTED and experiment.promoted_arm is not None:
        return f"{experiment.promoted_arm.name} was promoted"
    return str(experiment.outcome or "").replace("_", " ")

"""Which share of an endpoint's decisions was answered from the cache. Reads only."""

from noregret.experiments.models import Endpoint, Experiment

from .baseline_figures import present_figures
from .models import ArmStatistics


def cached_shares(endpoint: Endpoint) -> dict[str, float]:
    """By arm of the running experiment, or else of the champion's baseline; nothing of who made no
    decision yet."""
    arms = ArmStatistics.objects.filter(
        arm__experiment__endpoint=endpoint, arm__experiment__status=Experiment.Status.RUNNING, decisions__gt=0
    )
    shares = {row.arm.name: row.cached / row.decisions for row in arms.select_related("arm").order_by("arm_id")}
    if shares:
        return shares
    figures = present_figures(endpoint)
    return {} if figures is None or figures.cached is None else {figures.champion: figures.cached}

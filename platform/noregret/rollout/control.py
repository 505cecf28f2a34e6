"""The control of an experiment is the champion of its endpoint, also when the champion changed
since the experiment was made."""

from noregret.experiments.errors import Conflict, Invalid
from noregret.experiments.models import Arm, Endpoint, Experiment
from noregret.registry.models import ModelVersion

from .creation import CONTROL
from .endpoints import check_compatible


def control_is_champion(endpoint: Endpoint, experiment: Experiment, *, begun: bool) -> None:
    """Seat the control anew where the champion changed and nothing was decided yet; under the
    endpoint's lock.

    Raises Conflict where decisions exist, which compare with a model that was champion once, and
    where no arm can take the seat: to go on would serve the former champion to most of the traffic.
    """
    control = experiment.arms.select_related("model").get(is_control=True)
    if control.model_id == endpoint.champion_id:
        return
    champion = endpoint.champion
    told = f"{experiment.name} compares with {control.model.model}, but the champion of {endpoint.name} is {champion.model} now"
    if begun:
        raise Conflict(f"{told}: stop it and make another, or roll the endpoint back")
    seated = experiment.arms.filter(model=champion).first()
    if seated is not None:
        if experiment.strategy in (Experiment.Strategy.CANARY, Experiment.Strategy.SHADOW):
            raise Conflict(f"{told}, its own challenger: there is nothing to compare")
        _check_arms(experiment, champion, told)
        # One after the other: an experiment has one control at any moment.
        Arm.objects.filter(pk=control.pk).update(is_control=False)
        Arm.objects.filter(pk=seated.pk).update(is_control=True)
        return
    if control.name != CONTROL:
        raise Conflict(f"{told}, which none of its arms has: make it anew with an arm for {champion.model}")
    _check_arms(experiment, champion, told, besides=control.pk)
    Arm.objects.filter(pk=control.pk).update(model=champion)


def _check_arms(experiment: Experiment, champion: ModelVersion, told: str, besides: int = 0) -> None:
    """They were held against the champion of before. Raises Conflict."""
    try:
        for arm in experiment.arms.select_related("model").exclude(pk=besides):
            check_compatible(arm.model, champion, f"arms[{arm.position}].model")
    except Invalid as error:
        raise Conflict(f"{told}: {error.message}") from error

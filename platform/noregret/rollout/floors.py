"""The least share of every arm, changed while an experiment goes on.

Nothing that was decided is touched: each decision carries the propensities that it was drawn with,
and what is learned, weighed and rebuilt goes by those. So no history of floors is needed; the audit
trail has one for people.
"""

import msgspec
from django.db import transaction

from bandits.policies.allocation import default_floor
from noregret.experiments.errors import Conflict, Invalid
from noregret.experiments.lifecycle import Status
from noregret.experiments.models import Endpoint, Experiment
from noregret.trail import audit

from .publish import publish_endpoint_on_commit
from .revisions import revised


def change_floor(experiment: Experiment, floor: float | None, *, actor: str, reason: str = "") -> Experiment:
    """Give every arm of a bandit at least `floor` of the traffic from now on; None: what an
    experiment that names none has, which follows the number of arms.

    Raises Invalid where the floors of all arms, those that are taken out too, do not fit into 1:
    an arm that is put back must find its share. Raises Conflict for other strategies, for an
    experiment that has ended, and where the floor is that already.
    """
    with transaction.atomic():
        endpoint = Endpoint.objects.select_for_update().get(pk=experiment.endpoint_id)
        current = Experiment.objects.get(pk=experiment.pk)
        if current.status == Status.COMPLETED:
            raise Conflict(f"{current.name} has ended")
        if current.strategy != Experiment.Strategy.BANDIT:
            raise Conflict(f"{current.name} has the strategy {current.strategy}: only a bandit has a floor")
        before, arms = current.policy_, current.arms.count()
        assert before is not None  # as every bandit's
        if floor is not None and not 0.0 <= floor * arms <= 1.0:
            raise Invalid("floor", f"0 to {1 / arms:g} was expected for {arms} arms")
        least = default_floor(arms) if floor is None else floor
        after = msgspec.structs.replace(before, floor=least, floor_scales=floor is None)
        if after == before:
            follows = ", and follows the number of arms," if floor is None else ""
            raise Conflict(f"the floor of {current.name} is {least:g}{follows} already")
        Experiment.objects.filter(pk=current.pk).update(policy=msgspec.to_builtins(after))
        revised(current)
        audit.record(
            actor=actor,
            action="experiment.floor_changed",
            endpoint=endpoint.name,
            experiment=current.name,
            reason=reason,
            details={"before": before.floor, "floor": after.floor},
        )
        publish_endpoint_on_commit(endpoint.pk)
    return Experiment.objects.select_related("endpoint", "promoted_arm").get(pk=experiment.pk)

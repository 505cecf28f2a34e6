"""What is allowed in an experiment and yet not what most people mean: a plain sentence each, shown where the experiment is.

One small function a warning, listed in `_WARNINGS`. Nothing here refuses anything: what is wrong is refused when it is created.
"""

from collections.abc import Callable

from .models import Experiment

Warn = Callable[[Experiment], str | None]

FLOORS_AT_MOST = 0.2
"""The share of traffic that the floors of all arms may take before it is told."""


def floors_take_much(experiment: Experiment) -> str | None:
    """The policy chooses with what the floors leave: with 100 arms of at least 1 % each nothing is left."""
    floor = float((experiment.policy or {}).get("floor", 0.0))
    arms = sum(arm.enabled for arm in experiment.arms.all())
    taken = floor * arms
    if taken <= FLOORS_AT_MOST + 1e-9:
        return None
    left = f"{1.0 - taken:.0%}" if taken < 1.0 - 1e-9 else "nothing"
    return (
        f"{arms} arms with a floor of {floor:.2%} each take {taken:.0%} of the traffic whatever is learned, "
        f"and leave {left} to the policy: a smaller floor earns more."
    )


_WARNINGS: tuple[Warn, ...] = (floors_take_much,)


def warnings_of(experiment: Experiment) -> list[str]:
    """Every warning of an experiment, a sentence each; empty where there is nothing to say."""
    return [said for warn in _WARNINGS if (said := warn(experiment)) is not None]

"""What came of decisions: which were answered, which count by the default, and which are open.
Reads only."""

from msgspec import Struct

from bandits.delay import BINS
from noregret.experiments.models import Experiment
from noregret.learning.models import ArmStatistics, ExperimentEvidence


class Feedback(Struct, frozen=True):
    """Of all arms together. `answered` + `defaulted` are the rewards; `failed` decisions get none,
    `open` ones have none that counts yet (where silence has a meaning, before their window closes)
    or never will. `delays`: matured feedback by delay, in sixtieths of the window."""

    answered: int
    defaulted: int
    open: int
    failed: int
    delays: list[int]


def feedback(experiment: Experiment) -> Feedback:
    """Counted with the sums of its arms: a default is what matured without feedback."""
    delays = [0] * BINS
    decisions = failed = rewards = 0
    for row in ArmStatistics.objects.filter(arm__experiment=experiment).only(
        "decisions", "failures", "rewards", "delays"
    ):
        decisions, failed, rewards = decisions + row.decisions, failed + row.failures, rewards + row.rewards
        for i, count in enumerate(row.delays):
            delays[i] += count
    defaulted = 0
    if experiment.reward_.default is not None:
        matured = ExperimentEvidence.objects.values_list("matured", flat=True).get(experiment=experiment)
        defaulted = min(max(matured - sum(delays), 0), rewards)
    return Feedback(rewards - defaulted, defaulted, max(decisions - failed - rewards, 0), failed, delays)

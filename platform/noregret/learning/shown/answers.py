"""How often each arm is answered where silence means nothing: shown, and held to be alike until it
is shown not to be.

Arms that are answered at different rates are compared on those who answered alone. The rule of
promotion holds all the same; but whoever reads the table should know, for an arm that loses the
unhappy ones looks better than it is.
"""

from dataclasses import dataclass

import numpy as np

from noregret.experiments.models import Experiment
from noregret.learning.evidence import answers_of
from noregret.learning.models import ExperimentEvidence


@dataclass(frozen=True, slots=True)
class Rates:
    """`shares`: by position, of an arm's decisions whose window is over those that were answered;
    None where there is none.

    `p` bounds the chance to see rates so different though they are alike, however often one looks;
    None while nothing is known.
    """

    shares: list[float | None]
    p: float | None


def rates(experiment: Experiment, held: ExperimentEvidence) -> Rates:
    """What is known of an experiment whose reward has no default; nothing is for others."""
    arms = experiment.arms.count()
    answers = answers_of(experiment, held)
    if answers is None or not answers.matured.count.sum():
        return Rates([None] * arms, None)
    seen = answers.matured
    shares = [float(mean) if count else None for mean, count in zip(seen.mean, seen.count, strict=True)]
    if (seen.count > 0).sum() < 2:
        return Rates(shares, None)
    pairs = answers.e_values()[~np.eye(arms, dtype=np.bool_)]
    # Each pair's evidence has an expectation of at most 1 while rates are alike, and so has their
    # average.
    return Rates(shares, min(1.0, 1.0 / float(pairs.mean())) if pairs.mean() > 0 else 1.0)

"""Off-policy evaluation: what another policy would have earned on logged traffic, from the
propensities in the log."""

from .doubly_robust import dr, switch_dr
from .estimate import Estimate, Unsupported, effective_sample_size
from .importance import ips, snips
from .replay import Evaluation, Log, evaluate, target_probabilities
from .reward_model import fitted_rewards

__all__ = [
    "Estimate",
    "Evaluation",
    "Log",
    "Unsupported",
    "dr",
    "effective_sample_size",
    "evaluate",
    "fitted_rewards",
    "ips",
    "snips",
    "switch_dr",
    "target_probabilities",
]

"""Off-policy evaluation: what another policy would have earned on logged traffic, from the propensities in the log."""

from .doubly_robust import dr, switch_dr
from .estimate import Estimate, Unsupported, effective_sample_size
from .importance import ips, snips

__all__ = ["Estimate", "Unsupported", "dr", "effective_sample_size", "ips", "snips", "switch_dr"]

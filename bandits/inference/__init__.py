"""What can be concluded: which arm is best, when to stop, how sure an estimate is, whether the
split went as logged."""

from .best_arm import expected_loss, potential_value_remaining, probability_best

__all__ = ["expected_loss", "potential_value_remaining", "probability_best"]

"""Seeded simulation: what a policy would lose, how soon a rule would decide, and how often it would
be wrong."""

from .environments import (
    Environment,
    bernoulli,
    contextual_linear,
    contextual_logistic,
    normal,
    poisson,
    retiring,
)
from .intervals import Coverage, simulate_intervals
from .outlook import Outlook, outlook
from .planning import Plan, plan
from .promotion import Promotions, simulate_promotion
from .regret import Simulation, simulate

__all__ = [
    "Coverage",
    "Environment",
    "Outlook",
    "Plan",
    "Promotions",
    "Simulation",
    "bernoulli",
    "contextual_linear",
    "contextual_logistic",
    "normal",
    "outlook",
    "plan",
    "poisson",
    "retiring",
    "simulate",
    "simulate_intervals",
    "simulate_promotion",
]

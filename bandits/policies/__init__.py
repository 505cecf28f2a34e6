"""The policies by name. Adding one: a file whose class says `@register`, and a line here
(docs/adding-a-policy.md)."""

from . import bayes_ucb as bayes_ucb
from . import greedy as greedy
from . import kl_ucb as kl_ucb
from . import linear as linear
from . import logistic as logistic
from . import thompson as thompson
from . import top_two as top_two
from . import ucb1 as ucb1
from . import uniform as uniform
from .protocol import ContextualPolicy, Policy
from .registry import contextual_names, make, make_contextual, names, register, summary

__all__ = ["ContextualPolicy", "Policy", "contextual_names", "make", "make_contextual", "names", "register", "summary"]

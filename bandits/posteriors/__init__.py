"""Posteriors, one family a file: frozen values that update, merge, decay, sample and give
quantiles."""

from .beta_bernoulli import BetaBernoulli
from .gamma_poisson import GammaPoisson
from .gaussian import Gaussian
from .linear import BayesianLinear, LinearStatistics
from .logistic import BayesianLogistic
from .mirrored import Mirrored
from .normal import NormalInverseGamma
from .protocol import Posterior

__all__ = [
    "BayesianLinear",
    "BayesianLogistic",
    "BetaBernoulli",
    "GammaPoisson",
    "Gaussian",
    "LinearStatistics",
    "Mirrored",
    "NormalInverseGamma",
    "Posterior",
]

"""Conjugate posteriors, one family a file: frozen values that update, merge, decay, sample and give quantiles."""

from .beta_bernoulli import BetaBernoulli
from .gamma_poisson import GammaPoisson
from .normal import NormalInverseGamma
from .protocol import Posterior

__all__ = ["BetaBernoulli", "GammaPoisson", "NormalInverseGamma", "Posterior"]

"""Models: what generates the data, prior x structure x emission; one file per model."""

from .constraints import Constraint, interval, ordered, positive, simplex, unconstrained
from .gaussian_hmm import GaussianHMM
from .gaussian_mixture import GaussianMixture
from .mixture import MixtureModel

__all__ = [
    "Constraint",
    "GaussianHMM",
    "GaussianMixture",
    "MixtureModel",
    "interval",
    "ordered",
    "positive",
    "simplex",
    "unconstrained",
]

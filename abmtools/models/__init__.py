"""Models: what generates the data, prior x structure x emission; one file per model."""

from .constraints import (
    Constraint,
    below,
    interval,
    ordered,
    positive,
    positive_ordered,
    simplex,
    unconstrained,
)
from .evidence_hmm import EvidenceAccumulationHMM
from .gaussian_hmm import GaussianHMM
from .gaussian_location_mixture import GaussianLocationMixture
from .gaussian_mixture import GaussianMixture
from .leaky_hmm import LeakyAccumulatorHMM
from .mixture import MixtureModel
from .model_choice import ModelChoice

__all__ = [
    "Constraint",
    "EvidenceAccumulationHMM",
    "GaussianHMM",
    "GaussianLocationMixture",
    "GaussianMixture",
    "LeakyAccumulatorHMM",
    "MixtureModel",
    "ModelChoice",
    "below",
    "interval",
    "ordered",
    "positive",
    "positive_ordered",
    "simplex",
    "unconstrained",
]

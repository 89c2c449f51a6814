"""Inference: estimator, workflow, posterior and trained networks."""

from .checkpoint import load_weights, save_weights
from .comparison_posterior import ComparisonPosterior
from .estimator import MixtureEstimator
from .model_comparison import MixtureComparisonWorkflow
from .optimizer import make_muon
from .posterior import MixturePosterior
from .pretrained import load_card, load_pretrained
from .simulation import simulate_datasets
from .workflow import ExtrapolationWarning, MixtureWorkflow

__all__ = [
    "ComparisonPosterior",
    "ExtrapolationWarning",
    "MixtureComparisonWorkflow",
    "MixtureEstimator",
    "MixturePosterior",
    "MixtureWorkflow",
    "load_card",
    "load_pretrained",
    "load_weights",
    "make_muon",
    "save_weights",
    "simulate_datasets",
]

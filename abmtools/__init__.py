"""Amortized Bayesian mixture models.

The layout is the theory: `structures` and `models` say what generates the data, `networks` and
`inference` learn p(theta | y) and p(z | y, theta), `stan`, `diagnostics` and `plots` check them.
"""

import importlib

import bayesflow  # noqa: F401 (chooses the backend of Keras, so it comes before it)

from .inference import (
    ExtrapolationWarning,
    MixtureComparisonWorkflow,
    MixtureEstimator,
    MixturePosterior,
    MixtureWorkflow,
    load_pretrained,
)
from .models import (
    EvidenceAccumulationHMM,
    GaussianHMM,
    GaussianLocationMixture,
    GaussianMixture,
    LeakyAccumulatorHMM,
    MixtureModel,
    below,
    interval,
    ordered,
    positive,
    positive_ordered,
    simplex,
    unconstrained,
)
from .structures import Independent, Markov, Simulated, persistent

__version__ = "0.1.0"

__all__ = [
    "EvidenceAccumulationHMM",
    "ExtrapolationWarning",
    "GaussianHMM",
    "GaussianLocationMixture",
    "GaussianMixture",
    "Independent",
    "LeakyAccumulatorHMM",
    "Markov",
    "MixtureComparisonWorkflow",
    "MixtureEstimator",
    "MixtureModel",
    "MixturePosterior",
    "MixtureWorkflow",
    "Simulated",
    "below",
    "interval",
    "load_pretrained",
    "ordered",
    "persistent",
    "positive",
    "positive_ordered",
    "simplex",
    "unconstrained",
]


def __getattr__(name: str):
    """Import the parts that need ArviZ, pandas or Stan when they are first used."""
    if name in {"datasets", "diagnostics", "plots", "stan"}:
        return importlib.import_module(f".{name}", __name__)
    modules = {
        "fit_correction": ".heterogeneity",
        "heterogeneous_data": ".heterogeneity",
        "refine": ".refinement",
    }
    if name in modules:
        return getattr(importlib.import_module(modules[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

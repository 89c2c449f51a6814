"""Descriptions: what tells one model from another of the same name, as JSON has it."""

import numpy as np

from .model_choice import ModelChoice

__all__ = ["describe", "describe_prior"]


def describe(model) -> dict:
    """What the data and the parameters of a model are, and which prior these have."""
    return {
        "name": model.name,
        "parameters": model.space.describe(),
        "prior": describe_prior(model),
        "structure": type(model.structure).__name__,
        "num_components": model.num_components,
        "num_features": model.num_features,
        "replicates": model.num_reps is not None,
    }


def describe_prior(model) -> dict:
    """Draws of the prior from a generator of fixed seed, to six digits, or those of each model."""
    if isinstance(model, ModelChoice):
        return {str(name): describe_prior(x) for name, x in model.models.items()}
    draws = model.prior(np.random.default_rng(0), 2)
    return {name: [f"{x:.6g}" for x in np.ravel(values)] for name, values in draws.items()}

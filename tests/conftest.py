"""Shared by all tests: the backend, a small model and a workflow that was trained for a moment."""

import os
import runpy
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import bayesflow  # noqa: F401 (chooses the backend of Keras, so it comes first)
import keras
import matplotlib as mpl
import numpy as np
import pytest
from scipy.stats import gamma, lognorm, norm

from abmtools import (
    GaussianMixture,
    Independent,
    MixtureModel,
    MixtureWorkflow,
    interval,
    ordered,
    positive,
)

mpl.use("agg")
runpy.run_path(str(Path(__file__).parents[1] / "tools" / "strict_tensors.py"))

# How a page with code begins.
FRONT = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

"""


def to_numpy(x) -> np.ndarray:
    return keras.ops.convert_to_numpy(x)


@pytest.fixture
def rng():
    return np.random.default_rng(20250213)


@pytest.fixture(scope="session")
def small_model():
    """Two components, few observations: cheap to train on."""
    return GaussianMixture(2, num_obs=(8, 16), num_reps=(1, 3))


@pytest.fixture(scope="session")
def workflow(small_model):
    """A workflow after a little training. Tests leave its weights as they are."""
    workflow = MixtureWorkflow(small_model, seed=1)
    workflow.fit_online(epochs=4, num_batches_per_epoch=50, batch_size=32, verbose=0)
    return workflow


@pytest.fixture(scope="session")
def simulated(small_model):
    """Five data sets of one size, with their parameters."""
    return small_model.simulate(5, rng=np.random.default_rng(3), num_obs=12, num_reps=2)


def lognormal_model(**changes) -> MixtureModel:
    """A model of one's own: log-normal components, fixed weights, vector and scalar parameters.

    Its emission density is known here, so that tests have something to compare with.
    """

    def prior(rng, batch_size):
        return {
            "locations": np.sort(rng.normal(size=(batch_size, 2)), axis=-1),
            "sigma": rng.gamma(5.0, 0.1, size=batch_size),
            "shift": rng.uniform(0.0, 0.5, size=batch_size),
        }

    def emission(rng, parameters, z):
        location = np.take_along_axis(parameters["locations"], z, axis=1)
        noise = parameters["sigma"][:, None] * rng.normal(size=z.shape)
        return {"y": parameters["shift"][:, None] + np.exp(location + noise)}

    def log_prior(parameters):
        log_locations = norm.logpdf(parameters["locations"]).sum(axis=-1)
        return log_locations + gamma.logpdf(parameters["sigma"], 5.0, scale=0.1)

    def log_emission(data, parameters):
        y = data["y"][:, None, :, None] - parameters["shift"][..., None, None]
        scale = np.exp(parameters["locations"])[:, :, None]
        return lognorm.logpdf(y, parameters["sigma"][..., None, None], scale=scale)

    parts = {
        "prior": prior,
        "structure": Independent([0.3, 0.7]),
        "emission": emission,
        "constraints": {"locations": ordered, "sigma": positive, "shift": interval(0.0, 0.5)},
        "log_prior": log_prior,
        "log_emission": log_emission,
        "num_obs": (10, 20),
        "name": "LogNormalMixture",
    }
    return MixtureModel(**(parts | changes))

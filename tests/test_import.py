"""Importing abmtools changes nothing in the process, and loads only what it needs."""

import os
import subprocess
import sys

import pytest

import abmtools

SIDE_EFFECTS = """
import logging, os, random, sys, warnings
import bayesflow, keras, numpy as np, torch  # what BayesFlow itself does is not abmtools' doing

def state():
    return {
        "random": random.getstate(),
        "numpy": str(np.random.get_state()),
        "torch": torch.get_rng_state().tolist(),
        "floatx": keras.config.floatx(),
        "epsilon": keras.config.epsilon(),
        "image_data_format": keras.config.image_data_format(),
        "torch dtype": torch.get_default_dtype(),
        "torch threads": torch.get_num_threads(),
        "torch grad": torch.is_grad_enabled(),
        "numpy errors": np.geterr(),
        "log level": logging.root.level,
        "log handlers": list(logging.root.handlers),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "path": list(sys.path),
    }

before, loaded = state(), set(sys.modules)
import abmtools
after = state()
for name in before:
    assert before[name] == after[name], name
assert keras.config.floatx() == "float32"
abmtools.GaussianMixture()
added = {name.split(".")[0] for name in set(sys.modules) - loaded}  # to what BayesFlow imports
lazy = "arviz arviz_base arviz_stats arviz_plots cmdstanpy dask ipywidgets jax matplotlib numba "
lazy += "pandas pooch sklearn stanli xarray"
assert not added & set(lazy.split()), added
"""

NAMES = """
from abmtools.structures import Independent
from abmtools import models, structures
import abmtools as abm
for name in ("datasets", "diagnostics", "plots", "stan"):
    assert getattr(abm, name).__name__ == "abmtools." + name
try:
    abm.nonsense
except AttributeError as error:
    assert "module 'abmtools' has no attribute 'nonsense'" in str(error)
else:
    raise AssertionError("abm.nonsense exists")
"""


@pytest.mark.parametrize("code", [SIDE_EFFECTS, NAMES], ids=["side effects", "names"])
def test_fresh_process(code):
    """`NAMES` begins with a module that imports Keras before BayesFlow has chosen its backend."""
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    environment["PYTHONWARNINGS"] = "default"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_public_names():
    assert set(abmtools.__all__) <= set(dir(abmtools))
    for name in abmtools.__all__:
        assert getattr(abmtools, name).__doc__ or name in {"simplex", "ordered"}
    assert sorted(abmtools.__all__) == abmtools.__all__

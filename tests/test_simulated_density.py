"""Emission densities by brute force, against densities that are known."""

import numpy as np
import pytest
from conftest import lognormal_model

from abmtools import EvidenceAccumulationHMM, GaussianHMM
from abmtools.diagnostics import simulated_membership, simulated_scores


@pytest.mark.parametrize(
    "model", [lognormal_model(), EvidenceAccumulationHMM()], ids=lambda x: x.name
)
def test_scores_are_near_exact(model):
    """Two data sets, one observation missing; errors are those of the bins' counts."""
    simulated = model.simulate(2, rng=np.random.default_rng(2), num_obs=20)
    mask = np.ones((2, 20), dtype=bool)
    mask[1, 3] = False
    data = {"y": simulated["y"], "mask": mask}
    theta = {name: simulated[name][:, None] for name in model.parameter_names}
    exact = model.emission_scores(data, theta)[:, 0]
    found = simulated_scores(model, data, simulated, num_draws=300_000, seed=3)
    assert found.shape == exact.shape
    assert not found[1, 3].any()
    likely = exact > exact.max(axis=-1, keepdims=True) - 3
    error = np.abs(found - exact)[likely]
    assert error.mean() < 0.03
    assert error.max() < 0.3


def test_smoothing_from_them_is_near_exact():
    model = EvidenceAccumulationHMM()
    simulated = model.simulate(2, rng=np.random.default_rng(4), num_obs=200)
    theta = {name: simulated[name][:, None] for name in model.parameter_names}
    smoothing = simulated_membership(model, simulated, simulated, num_draws=500_000, seed=5)
    exact = model.exact_membership(simulated, theta)[:, 0]
    np.testing.assert_allclose(smoothing, exact, atol=0.05)


def test_bad_arguments():
    model = lognormal_model()
    simulated = model.simulate(1, rng=np.random.default_rng(1))
    with pytest.raises(ValueError, match="num_draws: expected at least 25000, got 100"):
        simulated_scores(model, simulated, simulated, num_draws=100)
    with pytest.raises(ValueError, match="without replicates, got GaussianHMM"):
        simulated_scores(GaussianHMM(), simulated, simulated)

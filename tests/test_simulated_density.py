"""Emission densities by brute force, against densities that are known."""

import numpy as np
import pytest
from conftest import lognormal_model

from abmtools import EvidenceAccumulationHMM, GaussianHMM, MixtureModel
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


def with_second_column(second) -> MixtureModel:
    """Log-normal observations, and a further column ``second(rng, shape)``."""
    first = lognormal_model().emission

    def emission(rng, parameters, z):
        y = first(rng, parameters, z)["y"]
        return {"y": np.stack([y, second(rng, z.shape)], axis=-1)}

    return lognormal_model(emission=emission, log_emission=None)


def test_columns_after_the_first_are_discrete():
    """A coin adds log(1 / 2) to the scores; a second number cannot be put into categories."""
    model = with_second_column(lambda rng, shape: rng.integers(2, size=shape))
    simulated = model.simulate(1, rng=np.random.default_rng(3), num_obs=15)
    found = simulated_scores(model, simulated, simulated, num_draws=300_000, seed=3)
    plain, theta = lognormal_model(), {x: simulated[x][:, None] for x in model.parameter_names}
    exact = plain.emission_scores({"y": simulated["y"][..., 0]}, theta)[:, 0] + np.log(0.5)
    likely = exact > exact.max(axis=-1, keepdims=True) - 3
    assert np.abs(found - exact)[likely].mean() < 0.04
    model = with_second_column(lambda rng, shape: rng.normal(size=shape))
    simulated = model.simulate(1, rng=np.random.default_rng(3), num_obs=15)
    with pytest.raises(ValueError, match=r"model: .* at most one continuous column, the first"):
        simulated_scores(model, simulated, simulated, num_draws=25_000)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: {k: v[0] for k, v in x.items()}, ValueError, r"data sets, .* got \(\)"),
        (lambda x: {k: v[:1] for k, v in x.items()}, ValueError, r"2 data sets, .* got \(1,\)"),
        (lambda x: {k: v[:, None] for k, v in x.items()}, ValueError, r"got \(2, 1\)"),
        (lambda x: x | {"sigma": -x["sigma"]}, ValueError, r"parameters\['sigma'\]"),
        (lambda x: {"sigma": x["sigma"]}, ValueError, "parameters: expected exactly"),
        (lambda x: x["sigma"], TypeError, "parameters: expected a dictionary .* got ndarray"),
    ],
    ids=["no batch axis", "batch size", "draws", "constraint", "missing", "array"],
)
@pytest.mark.parametrize("function", [simulated_scores, simulated_membership])
def test_bad_parameters(function, change, error, message):
    model = lognormal_model()
    simulated = model.simulate(2, rng=np.random.default_rng(1))
    parameters = {name: simulated[name] for name in model.parameter_names}
    with pytest.raises(error, match=message):
        function(model, {"y": simulated["y"]}, change(parameters), num_draws=25_000)

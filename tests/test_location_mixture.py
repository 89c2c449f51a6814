"""The Gaussian mixture with an unknown scale, for one component and for several."""

import keras
import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.stats import dirichlet, ks_2samp, lognorm, norm

from abmtools import GaussianLocationMixture, MixtureWorkflow, simplex
from abmtools.diagnostics import importance

SIZES = [1, 2, 4]


@pytest.mark.parametrize("size", SIZES)
def test_simulation(size):
    model = GaussianLocationMixture(size, num_obs=(20, 40))
    data = model.simulate(30, rng=np.random.default_rng(1))
    assert data["means"].shape == data["weights"].shape == (30, size)
    assert data["scale"].shape == (30,)
    assert data["y"].shape == data["z"].shape
    assert 20 <= data["y"].shape[1] <= 40
    assert np.all(np.diff(data["means"], axis=1) > 0)
    assert data["z"].max() == size - 1
    assert model.num_unconstrained == 2 * size


def test_simulator_equals_a_loop():
    rng = np.random.default_rng(1)
    model = GaussianLocationMixture(3, means_location=1.0, scale_prior=(-1.0, 0.3), num_obs=9)
    fast = model.simulate(800, rng=rng)["y"]
    slow = np.empty((800, 9))
    for y in slow:
        means, scale = rng.normal(1.0, 3.0, 3), np.exp(rng.normal(-1.0, 0.3))
        y[:] = rng.normal(means[rng.choice(3, size=9, p=rng.dirichlet([2, 2, 2]))], scale)
    for statistic in (np.mean, np.std, np.max):
        pair = (statistic(y, axis=1) for y in (fast, slow))
        assert ks_2samp(*pair).pvalue > 1e-3


@pytest.mark.parametrize("size", SIZES)
def test_density_against_scipy(size):
    """With all constants: marginal likelihoods need them."""
    model = GaussianLocationMixture(size, concentration=1.5, scale_prior=(0.2, 0.4), num_obs=15)
    rng = np.random.default_rng(2)
    data = model.simulate(2, rng=rng)
    flat = model.prior(rng, 10)
    theta = {name: x.reshape(2, 5, *x.shape[1:]) for name, x in flat.items()}
    orders = {1: 1, 2: 2, 4: 24}[size]
    log_prior = np.log(orders) + norm.logpdf(flat["means"], 0, 3).sum(axis=1)
    log_prior += lognorm.logpdf(flat["scale"], 0.4, scale=np.exp(0.2))
    if size > 1:
        log_prior += [dirichlet.logpdf(w, [1.5] * size) for w in flat["weights"]]
    density = np.exp(model.log_emission(data, theta))
    expected = norm.pdf(
        data["y"][:, None, :, None], theta["means"][:, :, None], theta["scale"][..., None, None]
    )
    np.testing.assert_allclose(density, expected, rtol=1e-6)
    mixed = (theta["weights"][:, :, None] * expected).sum(axis=-1)
    log_joint = log_prior.reshape(2, 5) + np.log(mixed).sum(axis=-1)
    np.testing.assert_allclose(model.log_joint(data, theta), log_joint, rtol=1e-8)


def test_prior_integrates_to_one_over_ordered_means():
    """At fixed weight and scale, over the half plane in which the first mean is smaller."""
    model = GaussianLocationMixture(2, means_scale=0.7)

    def density(second, first):
        theta = {
            "weights": np.full((1, 1, 2), 0.5),
            "means": np.array([[[first, second]]]),
            "scale": np.ones((1, 1)),
        }
        return np.exp(model.log_prior(theta)).item()

    total, _ = dblquad(density, -6, 6, lambda first: first, lambda first: 6.0)
    expected = dirichlet.pdf([0.5, 0.5], [2, 2]) * lognorm.pdf(1.0, 0.5)
    np.testing.assert_allclose(total, expected, rtol=1e-6)


def test_one_component_has_no_free_weight():
    model = GaussianLocationMixture(1)
    assert model.unconstrained_names == ["means[0]", "scale"]
    theta = model.prior(np.random.default_rng(1), 5)
    assert np.all(theta["weights"] == 1)
    u = model.unconstrain(theta)
    np.testing.assert_allclose(u, np.stack([theta["means"][:, 0], np.log(theta["scale"])], -1))
    back = model.constrain(u)
    for name, value in theta.items():
        np.testing.assert_allclose(back[name], value, rtol=1e-12)
    np.testing.assert_allclose(model.log_det_jacobian(theta), -np.log(theta["scale"]))


def test_simplex_of_one_element():
    one = np.ones((3, 1))
    u = keras.ops.convert_to_numpy(simplex.unconstrain(one))
    assert u.shape == (3, 0)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(simplex.constrain(u)), one)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(simplex.log_det_jacobian(one)), 0)


def test_workflow_with_one_component(recwarn):
    """The adapter, both factors, and the exact density, with a parameter that takes no room."""
    workflow = MixtureWorkflow(GaussianLocationMixture(1, num_obs=30), seed=1)
    workflow.fit_online(epochs=3, num_batches_per_epoch=50, batch_size=32, verbose=0)
    data = workflow.simulate(20)
    posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=200, seed=1)
    assert posterior.membership.shape == (20, 200, 30, 1)
    assert np.all(posterior.membership == 1)
    assert np.all(posterior.parameters["weights"] == 1)
    assert np.corrcoef(posterior.mean()["means"][:, 0], data["y"].mean(axis=1))[0, 1] > 0.95
    assert np.all(np.isfinite(importance(posterior).log_evidence))
    assert posterior.to_arviz()["posterior"]["weights"].dims[-1] == "component"
    assert not [w for w in recwarn if "softmax" in str(w.message)]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"num_components": 0}, "num_components: expected at least 1, got 0"),
        ({"concentration": 0.0}, "concentration: expected a positive number, got 0.0"),
        ({"means_scale": -1.0}, "means_scale: expected a positive number"),
        ({"means_location": np.inf}, "means_location: expected a finite number, got inf"),
        ({"scale_prior": (0.0, 0.0)}, r"scale_prior\[1\]: expected a positive number"),
        ({"scale_prior": (np.nan, 1.0)}, r"scale_prior\[0\]: expected a finite number"),
    ],
)
def test_wrong_settings(arguments, match):
    with pytest.raises(ValueError, match=match):
        GaussianLocationMixture(**arguments)

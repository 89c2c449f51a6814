"""Independent: every result against an enumeration of all K^N indicator vectors."""

import itertools

import numpy as np
import pytest
import torch
from conftest import to_numpy
from scipy.special import logsumexp
from scipy.stats import chisquare

from abmtools import Independent, MixtureModel, MixtureWorkflow, Simulated


class Enumeration:
    """Brute force over z for one data set: weights (K,), scores (N, K)."""

    def __init__(self, weights, scores):
        self.size, self.num_components = scores.shape
        self.paths = np.array(list(itertools.product(range(self.num_components), repeat=self.size)))
        rows = np.arange(self.size)
        joint = [np.log(weights)[z].sum() + scores[rows, z].sum() for z in self.paths]
        self.log_likelihood = logsumexp(joint)
        self.log_prob = joint - self.log_likelihood

    def membership(self):
        indicator = self.paths[:, :, None] == np.arange(self.num_components)
        return np.einsum("p,pik->ik", np.exp(self.log_prob), indicator)


SIZES = [(k, n) for k in (2, 3) for n in (1, 2, 4, 6)]


@pytest.fixture(params=SIZES, ids=lambda size: f"K{size[0]}-N{size[1]}")
def problem(request, rng):
    """Weights (2, 3, K) and scores (2, 3, N, K)."""
    k, n = request.param
    return rng.dirichlet(np.ones(k), (2, 3)), 3.0 * rng.normal(size=(2, 3, n, k))


def test_enumeration(problem):
    weights, scores = problem
    structure, parameters = Independent("weights"), {"weights": weights}
    log_membership = to_numpy(structure.log_membership(scores, parameters))
    log_likelihood = to_numpy(structure.log_likelihood(scores, parameters))
    assert log_membership.dtype == log_likelihood.dtype == np.float64
    for index in np.ndindex(2, 3):
        oracle = Enumeration(weights[index], scores[index])
        np.testing.assert_allclose(np.exp(log_membership[index]), oracle.membership(), atol=1e-12)
        np.testing.assert_allclose(log_likelihood[index], oracle.log_likelihood, rtol=1e-12)
        tiled = np.broadcast_to(scores[index], (len(oracle.paths), *scores[index].shape))
        log_prob = structure.log_prob(oracle.paths, tiled, {"weights": weights[index]})
        np.testing.assert_allclose(to_numpy(log_prob), oracle.log_prob, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        to_numpy(structure.membership(scores, parameters)), np.exp(log_membership), atol=1e-14
    )


def test_fixed_weights_equal_named_ones(rng):
    weights, scores = np.array([0.2, 0.5, 0.3]), rng.normal(size=(4, 5, 3))
    z = rng.integers(3, size=(4, 5))
    fixed, named = Independent(weights), Independent("pi")
    parameters = {"pi": np.broadcast_to(weights, (4, 3))}
    for method, args in {
        "log_membership": (scores,),
        "membership": (scores,),
        "log_likelihood": (scores,),
        "log_prob": (z, scores),
    }.items():
        np.testing.assert_allclose(
            to_numpy(getattr(fixed, method)(*args, {})),
            to_numpy(getattr(named, method)(*args, parameters)),
            err_msg=method,
        )
    draws = [
        structure.sample(np.random.default_rng(0), parameters, 7) for structure in (fixed, named)
    ]
    np.testing.assert_array_equal(*draws)


def test_single_component(rng):
    """K = 1: membership is certain and the likelihood is that of one distribution."""
    scores = rng.normal(size=(3, 4, 1))
    structure = Independent([1.0])
    np.testing.assert_array_equal(to_numpy(structure.log_membership(scores, {})), 0.0)
    np.testing.assert_allclose(
        to_numpy(structure.log_likelihood(scores, {})), scores.sum(axis=(1, 2))
    )
    assert not structure.draw(scores, {}, rng=rng).any()


def test_relabelling(problem, rng):
    weights, scores = problem
    order = rng.permutation(weights.shape[-1])
    structure = Independent("weights")
    before, after = {"weights": weights}, {"weights": weights[..., order]}
    np.testing.assert_allclose(
        to_numpy(structure.log_likelihood(scores[..., order], after)),
        to_numpy(structure.log_likelihood(scores, before)),
    )
    np.testing.assert_allclose(
        to_numpy(structure.membership(scores[..., order], after)),
        to_numpy(structure.membership(scores, before))[..., order],
    )


def test_constant_per_observation_cancels(problem, rng):
    weights, scores = problem
    structure, parameters = Independent("weights"), {"weights": weights}
    constant = 50.0 * rng.normal(size=(*scores.shape[:-1], 1))
    np.testing.assert_allclose(
        to_numpy(structure.log_membership(scores + constant, parameters)),
        to_numpy(structure.log_membership(scores, parameters)),
        atol=1e-11,
    )


def test_masked_equals_dropped(problem, rng):
    weights, scores = problem
    structure, parameters = Independent("weights"), {"weights": weights}
    size = scores.shape[-2]
    mask = np.ones(size, dtype=bool)
    mask[rng.integers(size, size=size // 2)] = False
    garbage = np.where(mask[:, None], scores, np.nan)
    z = rng.integers(weights.shape[-1], size=scores.shape[:-1])
    np.testing.assert_allclose(
        to_numpy(structure.log_likelihood(garbage, parameters, mask)),
        to_numpy(structure.log_likelihood(scores[..., mask, :], parameters)),
    )
    np.testing.assert_allclose(
        to_numpy(structure.log_prob(z, garbage, parameters, mask)),
        to_numpy(structure.log_prob(z[..., mask], scores[..., mask, :], parameters)),
    )


def test_masks_differ_between_datasets(rng):
    weights, scores = rng.dirichlet([2, 2], (3, 4)), rng.normal(size=(3, 4, 5, 2))
    mask = rng.random((3, 5)) < 0.6
    structure = Independent("weights")
    got = to_numpy(structure.log_likelihood(scores, {"weights": weights}, mask[:, None]))
    for b in range(3):
        alone = structure.log_likelihood(scores[b][:, mask[b]], {"weights": weights[b]})
        np.testing.assert_allclose(got[b], to_numpy(alone))


def test_impossible_components(rng):
    """A score of minus infinity excludes a component exactly."""
    weights, scores = np.array([0.2, 0.3, 0.5]), rng.normal(size=(2, 6, 3))
    scores[:, :3, 2] = -np.inf
    scores[:, 3, :2] = -np.inf
    structure = Independent(weights)
    membership = to_numpy(structure.membership(scores, {}))
    np.testing.assert_array_equal(membership[:, :3, 2], 0.0)
    np.testing.assert_array_equal(membership[:, 3], [[0, 0, 1]] * 2)
    np.testing.assert_allclose(membership.sum(axis=-1), 1.0)
    without = Independent(weights[:2] / weights[:2].sum())
    np.testing.assert_allclose(
        membership[:, :3, :2], to_numpy(without.membership(scores[:, :3, :2], {}))
    )
    impossible = np.array([[2, 0, 0, 2, 0, 0]] * 2)
    assert np.all(to_numpy(structure.log_prob(impossible, scores, {})) == -np.inf)
    draws = structure.draw(np.broadcast_to(scores, (2000, *scores.shape)), {}, rng=rng)
    assert not np.any(draws[..., :3] == 2)
    assert np.all(draws[..., 3] == 2)


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_extreme_scores(problem, scale):
    weights, scores = problem
    structure, parameters = Independent("weights"), {"weights": weights}
    log_membership = to_numpy(structure.log_membership(scale * scores, parameters))
    assert not np.any(np.isnan(log_membership))
    np.testing.assert_allclose(logsumexp(log_membership, axis=-1), 0.0, atol=1e-12)
    np.testing.assert_array_equal(log_membership.argmax(axis=-1), scores.argmax(axis=-1))
    expected = logsumexp(np.log(weights)[..., None, :] + scale * scores, axis=-1).sum(axis=-1)
    np.testing.assert_allclose(
        to_numpy(structure.log_likelihood(scale * scores, parameters)), expected, rtol=1e-12
    )


def test_simulated_indicators_have_the_weights(rng):
    weights = rng.dirichlet([1, 1, 1], 3)
    z = Independent("weights").sample(rng, {"weights": weights}, 20_000)
    assert z.shape == (3, 20_000)
    assert z.dtype.kind == "i"
    for row, expected in zip(z, weights, strict=True):
        assert chisquare(np.bincount(row, minlength=3), 20_000 * expected).pvalue > 1e-3
    pairs = np.bincount(3 * z[0, ::2] + z[0, 1::2], minlength=9)  # and are independent
    assert chisquare(pairs, 10_000 * np.outer(weights[0], weights[0]).ravel()).pvalue > 1e-3


def test_draws_have_the_membership(rng):
    scores = 2.0 * rng.normal(size=(1, 3, 3))
    structure = Independent([0.2, 0.3, 0.5])
    membership = to_numpy(structure.membership(scores, {}))[0]
    draws = structure.draw(np.repeat(scores, 20_000, axis=0), {}, rng=rng)
    assert draws.shape == (20_000, 3)
    for column, expected in zip(draws.T, membership, strict=True):
        assert chisquare(np.bincount(column, minlength=3), 20_000 * expected).pvalue > 1e-3


def test_what_is_no_component_has_probability_zero(rng):
    scores, structure = rng.normal(size=(3, 2, 3)), Independent([0.2, 0.3, 0.5])
    z = np.array([[0, 2], [1, 3], [-1, 0]])
    found = to_numpy(structure.log_prob(z, scores, {}))
    assert np.isfinite(found[0])
    assert np.all(found[1:] == -np.inf)


@pytest.mark.parametrize("value", [-np.inf, np.nan])
def test_an_impossible_observation_has_no_draws(rng, value):
    scores = rng.normal(size=(2, 3))
    scores[1] = value
    with pytest.raises(ValueError, match="scores: an observation is impossible"):
        Independent([0.2, 0.3, 0.5]).draw(scores, {}, rng=rng)


def test_draws_are_repeatable(rng):
    scores = rng.normal(size=(4, 5, 3))
    structure = Independent([0.2, 0.3, 0.5])
    draws = [structure.draw(scores, {}, rng=np.random.default_rng(1)) for _ in range(2)]
    np.testing.assert_array_equal(*draws)


def test_gradient_of_log_prob(rng):
    """The gradient of log q(z | y) in the scores is the indicator minus the membership."""
    scores = torch.tensor(rng.normal(size=(2, 4, 3)), requires_grad=True)
    z, mask = rng.integers(3, size=(2, 4)), rng.random((2, 4)) < 0.7
    structure = Independent([0.2, 0.3, 0.5])
    with torch.enable_grad():
        structure.log_prob(z, scores, {}, mask).sum().backward()
    membership = to_numpy(structure.membership(scores.detach(), {}))
    expected = (np.eye(3)[z] - membership) * mask[..., None]
    np.testing.assert_allclose(to_numpy(scores.grad), expected, atol=1e-12)


@pytest.mark.parametrize(
    "weights", [[0.5, 0.6], [1.5, -0.5], [0.0, 1.0], [[0.5, 0.5]], 1.0, [np.nan, 1.0]], ids=str
)
def test_bad_fixed_weights(weights):
    with pytest.raises(
        ValueError, match="weights: expected a parameter's name or positive numbers"
    ):
        Independent(weights)


def test_number_of_components():
    assert Independent("pi").num_components({"mu": np.ones((3, 2)), "pi": np.ones((3, 4))}) == 4
    assert Independent([0.5, 0.5]).num_components({}) == 2
    with pytest.raises(
        ValueError, match=r"expected a parameter named 'pi' in the prior, got \['mu'\]"
    ):
        Independent("pi").num_components({"mu": np.ones((3, 2))})
    with pytest.raises(ValueError, match=r"'pi' must have shape \(K,\) per data set, got \(\)"):
        Independent("pi").num_components({"pi": np.ones(3)})


def test_repr():
    assert repr(Independent("pi")) == "Independent(weights='pi')"


# --- structures that can only be simulated -----------------------------------------------------


def runs(rng, parameters, num_obs):
    """Two states, three time points each."""
    start = rng.integers(6, size=(len(parameters["mu"]), 1))
    return (start + np.arange(num_obs)) // 3 % 2


@pytest.fixture(scope="module")
def simulated_model():
    def prior(rng, batch_size):
        return {"mu": rng.normal(size=batch_size)}

    def emission(rng, parameters, z):
        return {"y": parameters["mu"][:, None] + 2.0 * z + rng.normal(size=z.shape)}

    return MixtureModel(
        prior=prior, structure=Simulated(runs, 2), emission=emission, num_obs=9, name="Runs",
        log_prior=lambda parameters: parameters["mu"],
        log_emission=lambda data, parameters: np.zeros((*parameters["mu"].shape, 9, 2)),
    )  # fmt: skip


def test_simulated_structure_is_learned_as_a_whole(simulated_model):
    workflow = MixtureWorkflow(simulated_model, seed=1)
    assert workflow.estimator.emission_scorer is None
    workflow.fit_online(epochs=1, num_batches_per_epoch=3, batch_size=8, verbose=0)
    data = workflow.simulate(2)
    posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=300)
    for probabilities in (posterior.filtering, posterior.smoothing):
        assert probabilities.shape == (2, 300, 9, 2)
        np.testing.assert_allclose(probabilities.sum(axis=-1), 1.0, atol=1e-5)
    with pytest.raises(
        ValueError, match="sample_paths: expected draws from a network with a Markov structure"
    ):
        posterior.sample_paths(seed=1)


def test_simulated_structure_has_no_density(simulated_model):
    data = simulated_model.simulate(2, rng=np.random.default_rng(0))
    theta = {"mu": data["mu"][:, None]}
    assert not simulated_model.has_likelihood
    for name in ("exact_membership", "exact_filtering", "log_likelihood"):
        with pytest.raises(ValueError, match=f"{name}: the indicators of Runs can only be sim"):
            getattr(simulated_model, name)(data, theta)


def test_bad_simulated_structures(rng):
    with pytest.raises(TypeError, match="sample: expected a callable, got int"):
        Simulated(3, 2)
    with pytest.raises(
        ValueError, match="num_components: expected an integer of at least 2, got 1"
    ):
        Simulated(runs, 1)
    parameters = {"mu": np.zeros(3)}
    for wrong in (np.zeros((3, 4)), np.zeros((4, 3), int), np.full((3, 4), 2), np.full((3, 4), -1)):
        with pytest.raises(ValueError, match=r"sample: expected integers from 0 to 1 of shape"):
            Simulated(lambda *_, z=wrong: z, 2).sample(rng, parameters, 4)
    assert repr(Simulated(runs, 2)) == "Simulated(num_components=2)"

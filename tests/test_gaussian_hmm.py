"""The Gaussian hidden Markov model: simulator, densities, Stan program, posterior of its chain."""

import itertools

import arviz_stats
import numpy as np
import pytest
import stanli
from conftest import to_numpy
from scipy.special import logsumexp
from scipy.stats import beta, chisquare, kstest, norm

import abmtools as abm
from abmtools import GaussianHMM, MixtureWorkflow
from abmtools.networks import SequenceClassifier
from abmtools.stan import sample
from abmtools.stan.engines import compile_stanli

STAY, MEANS = np.array([[0.8, 0.7]]), np.array([[-0.8, 0.5]])


@pytest.fixture(scope="module")
def model():
    return GaussianHMM(num_obs=(10, 20))


@pytest.fixture(scope="module")
def data(model):
    """One sequence with missing replicates and missing time points."""
    parameters = {"stay": STAY, "means": MEANS}
    simulated = model.simulate_data(parameters, rng=np.random.default_rng(3), num_obs=15)
    mask = np.arange(15) % 5 != 3
    return model.check_data(simulated | {"mask": mask[None]})


@pytest.fixture(scope="module")
def workflow(model):
    """Not trained: what it says of indicators must still be a chain's."""
    return MixtureWorkflow(model, seed=1)


@pytest.fixture(scope="module")
def posterior(workflow, data):
    return workflow.sample(conditions=data, num_samples=40, seed=1)


# --- the simulator ------------------------------------------------------------------------------


def test_defaults_are_the_published_ones():
    model = GaussianHMM()
    assert (model.num_components, model.num_obs, model.num_reps) == (2, (100, 100), (2, 5))
    assert (model.concentration, model.means_scale, model.scale) == (2.0, 1.0, 1.0)
    np.testing.assert_array_equal(model.means_location, [-1, 1])
    assert model.parameter_shapes == {"stay": (2,), "means": (2,)}
    assert model.unconstrained_names == ["stay[0]", "stay[1]", "means[0]", "means[1]"]
    theta = {"stay": STAY, "means": MEANS}
    expected = [np.log(4), np.log(7 / 3), -0.8, np.log(1.3)]
    np.testing.assert_allclose(model.unconstrain(theta)[0], expected)


def test_prior(model, rng):
    draws = model.prior(rng, 4000)
    for k in range(2):
        assert kstest(draws["stay"][:, k], beta(2, 2).cdf).pvalue > 1e-3
    assert np.all(np.diff(draws["means"]) > 0)
    difference = draws["means"][:, 1] - draws["means"][:, 0]  # Normal(2, sqrt 2), positive
    truncated = norm(2, np.sqrt(2))
    cdf = (truncated.cdf(np.sort(difference)) - truncated.cdf(0)) / truncated.sf(0)
    assert kstest(cdf, "uniform").pvalue > 1e-3


def test_numbers_of_replicates(rng):
    data = GaussianHMM().simulate(50, rng=rng)
    count = data["replicate_mask"].sum(axis=2)
    assert data["y"].shape == (50, 100, 5)
    assert chisquare(np.bincount(count.ravel(), minlength=6)[2:]).pvalue > 1e-3
    assert not np.any(data["y"][~data["replicate_mask"]])
    given = GaussianHMM().simulate(5, rng=rng, num_obs=7, num_reps=3)
    assert given["y"].shape == (5, 7, 3)
    assert "replicate_mask" not in given
    assert "replicate_mask" not in GaussianHMM(num_reps=2).simulate(5, rng=rng)


def test_some_sequences_have_the_same_number_of_replicates_everywhere(rng):
    data = GaussianHMM(constant_reps=0.25).simulate(2000, rng=rng, num_obs=30)
    count = data["replicate_mask"].sum(axis=2)
    constant = np.ptp(count, axis=1) == 0
    assert abs(constant.mean() - 0.25) < 0.04
    assert chisquare(np.bincount(count[constant, 0], minlength=6)[2:]).pvalue > 1e-3
    with pytest.raises(ValueError, match=r"constant_reps: expected a share in \[0, 1\], got -1"):
        GaussianHMM(constant_reps=-1)


def test_observations_follow_their_states(rng):
    data = GaussianHMM(scale=1e-3).simulate(20, rng=rng)
    expected = np.take_along_axis(data["means"], data["z"], axis=1)[..., None]
    deviation = (data["y"] - expected)[data["replicate_mask"]]
    assert np.abs(deviation).max() < 0.01


@pytest.mark.parametrize("options", [{"num_components": 1}, {"scale": 0}, {"means_location": [1]}])
def test_bad_settings(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        GaussianHMM(**options)


# --- exact densities ----------------------------------------------------------------------------


def test_log_likelihood_by_enumeration(rng):
    """A loop over all paths with SciPy's densities, K = 3."""
    model = GaussianHMM(3, num_obs=5, scale=0.7)
    simulated = model.simulate(2, rng=rng)
    theta = {name: simulated[name][:, None] for name in model.parameter_names}
    got = model.log_likelihood(simulated, theta)
    for b in range(2):
        stay = simulated["stay"][b]
        transition = np.diag(stay) + (1 - np.eye(3)) * ((1 - stay) / 2)[:, None]
        terms = []
        for z in itertools.product(range(3), repeat=5):
            log_p = -np.log(3) + sum(np.log(transition[j, k]) for j, k in itertools.pairwise(z))
            for t, k in enumerate(z):
                y = simulated["y"][b, t][simulated["replicate_mask"][b, t]]
                log_p += norm.logpdf(y, simulated["means"][b, k], 0.7).sum()
            terms.append(log_p)
        np.testing.assert_allclose(got[b, 0], logsumexp(terms), rtol=1e-7)


def test_exact_filtering_and_smoothing(model, data):
    """They agree at the last time point, and filtering there with what is observed so far."""
    theta = {"stay": STAY[None], "means": MEANS[None]}
    filtering, smoothing = model.exact_filtering(data, theta), model.exact_membership(data, theta)
    np.testing.assert_allclose(filtering[:, :, -1], smoothing[:, :, -1])
    first = {name: value[:, :6] for name, value in data.items()}
    np.testing.assert_allclose(filtering[:, :, :6], model.exact_filtering(first, theta))
    with pytest.raises(ValueError, match=r"exact_filtering: .* GaussianMixture have no order"):
        abm.GaussianMixture().exact_filtering(data, theta)


# --- Stan ---------------------------------------------------------------------------------------


def test_stan_density_is_ours(model, data, rng):
    """Both log densities on the unconstrained scale differ by a constant."""
    stan_data = model.stan_data({name: value[0] for name, value in data.items()})
    program = stanli.Model(
        mir=compile_stanli(model.stan_program.read_text(encoding="utf-8")),
        data={k: np.asarray(v).tolist() for k, v in stan_data.items()},
    )
    u = rng.normal(size=(1, 6, 4))
    ours = abm.diagnostics.exact.log_posterior(model, data, u)[0]
    theirs = [
        program.log_prob_grad(
            program.unconstrain({name: x[0, s].tolist() for name, x in model.constrain(u).items()})
        )[0]
        for s in range(6)
    ]
    difference = np.subtract(theirs, ours)
    np.testing.assert_allclose(difference, difference[0], atol=1e-8)


@pytest.mark.filterwarnings("ignore::abmtools.stan.StanDiagnosticsWarning")
def test_stan_states_are_exact(model, data):
    tree = sample(model, data, engine="stanli", chains=2, draws=300, seed=1)
    draws = tree.posterior
    theta = {name: draws[name].values.reshape(1, 600, 2) for name in model.parameter_names}
    shape = (2, 300, 15, 2)
    for name, exact in {
        "membership": model.exact_membership(data, theta),
        "filtering": model.exact_filtering(data, theta),
    }.items():
        np.testing.assert_allclose(draws[name].values, exact.reshape(shape), atol=1e-8)
    assert draws["path"].dims == ("chain", "draw", "obs")
    path = draws["path"].values
    smoothing = draws["membership"].values[..., 1]
    z = (path - smoothing).mean(axis=(0, 1)) / (smoothing * (1 - smoothing)).mean(
        axis=(0, 1)
    ) ** 0.5
    assert np.abs(z * np.sqrt(600)).max() < 4
    switches = (path[..., 1:] != path[..., :-1]).mean()
    scores = model.emission_scores(data, theta)
    pairs = np.exp(to_numpy(model.structure.log_pairwise_smoothing(scores, theta)))
    assert switches == pytest.approx(pairs[..., 0, 1].mean() + pairs[..., 1, 0].mean(), abs=0.02)


# --- the posterior of a chain -------------------------------------------------------------------


def test_posterior_of_a_chain(posterior, model, data):
    """Filtering, smoothing and paths are those of the network's own scores."""
    structure, theta = model.structure, posterior.parameters
    mask = data["mask"][:, None]
    scores = posterior.scores.astype("float64")
    assert posterior.smoothing is posterior.membership
    np.testing.assert_allclose(
        posterior.filtering, to_numpy(structure.filtering(scores, theta, mask)), atol=1e-5
    )
    np.testing.assert_allclose(
        posterior.smoothing, to_numpy(structure.smoothing(scores, theta, mask)), atol=1e-5
    )
    assert not np.any(posterior.scores[:, :, ~data["mask"][0]])
    best = posterior.most_probable_path()
    log_best = to_numpy(structure.log_prob(best, scores, theta))
    paths = posterior.sample_paths(seed=1)
    assert paths.shape == best.shape == (1, 40, 15)
    assert np.all(to_numpy(structure.log_prob(paths, scores, theta)) <= log_best + 1e-6)
    np.testing.assert_array_equal(posterior.sample_paths(seed=1), paths)
    np.testing.assert_array_equal(posterior.draw_indicators(seed=1), paths)


def test_parts_of_a_posterior(workflow, rng):
    simulated = workflow.simulate(4, num_obs=12)
    together = workflow.sample(conditions=workflow.model.check_data(simulated), num_samples=30)
    one = together[2]
    for name in ("filtering", "smoothing", "scores"):
        np.testing.assert_array_equal(getattr(one, name)[0], getattr(together, name)[2])
    indices = rng.integers(30, size=(4, 10))
    kept = together.resample(indices)
    np.testing.assert_array_equal(kept.filtering[1], together.filtering[1, indices[1]])
    assert kept.sample_paths(seed=1).shape == (4, 10, 12)


def test_workflow_functions(workflow, posterior, data):
    theta = posterior.parameters
    np.testing.assert_allclose(workflow.filtering(data, theta), posterior.filtering, atol=1e-5)
    np.testing.assert_allclose(workflow.membership(data, theta), posterior.smoothing, atol=1e-5)


def test_datatree(posterior, tmp_path):
    tree = posterior.to_arviz()
    draws = tree.posterior
    assert (
        draws["filtering"].dims == draws["membership"].dims == ("chain", "draw", "obs", "component")
    )
    np.testing.assert_array_equal(draws["most_probable_path"][0], posterior.most_probable_path()[0])
    assert draws["path"].dims == ("chain", "draw", "obs")
    arviz_stats.summary(tree, var_names=["stay", "means"])
    tree.to_netcdf(tmp_path / "posterior.nc")
    assert (tmp_path / "posterior.nc").stat().st_size > 0


def test_mixtures_have_no_paths(workflow):
    mixture = MixtureWorkflow(abm.GaussianMixture(2, num_obs=8, num_reps=2), seed=1)
    data = mixture.simulate(1)
    posterior = mixture.sample(conditions={"y": data["y"]}, num_samples=3)
    assert posterior.filtering is None
    for use in (
        lambda: posterior.smoothing,
        lambda: posterior.sample_paths(seed=1),
        posterior.most_probable_path,
    ):
        with pytest.raises(ValueError, match="expected draws from a network with"):
            use()
    with pytest.raises(ValueError, match=r"filtering: the observations .* have no order"):
        mixture.filtering({"y": data["y"]}, posterior.parameters)


def test_a_sequence_classifier_has_no_scores(model):
    workflow = MixtureWorkflow(model, sequence_classifier=SequenceClassifier(2), seed=1)
    data = workflow.simulate(1, num_obs=12)
    parameters = {name: data[name][:, None] for name in ("stay", "means")}
    with pytest.raises(ValueError, match="scores: the networks have a sequence classifier"):
        workflow.scores({name: data[name] for name in ("y", "replicate_mask")}, parameters)


# --- training -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    model = GaussianHMM(num_obs=(20, 30), num_reps=2)
    workflow = MixtureWorkflow(model, initial_learning_rate=1e-2, seed=1)
    workflow.fit_online(epochs=4, num_batches_per_epoch=60, batch_size=32, verbose=0)
    return workflow


@pytest.mark.parametrize("kind", ["membership", "filtering"])
def test_states_are_learned(trained, kind):
    """One scorer, trained by the path likelihood, gives filtering and smoothing; any length."""
    rng = np.random.default_rng(5)
    for num_obs in (5, 25, 200):
        simulated = trained.model.simulate(200, rng=rng, num_obs=num_obs)
        network, exact = abm.diagnostics.membership_losses(trained, simulated, kind=kind)
        assert np.mean(network - exact) == pytest.approx(0.02, abs=0.025)


def test_posterior_is_learned(trained):
    model, rng = trained.model, np.random.default_rng(6)
    simulated = model.simulate(500, rng=rng, num_obs=25)
    u = model.unconstrain({name: simulated[name][:, None] for name in model.parameter_names})
    log_q = trained.log_prob_unconstrained(model.check_data(simulated), u)
    prior = model.unconstrain(model.prior(rng, 4000))
    log_prior = norm.logpdf(u, prior.mean(axis=0), prior.std(axis=0)).sum(axis=-1)
    assert log_q.mean() > log_prior.mean() + 1.0

"""Diagnostics, on posteriors whose errors are known: exact, too narrow, too wide, shifted."""

import pickle
from dataclasses import replace

import arviz_stats as az
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import norm

import abmtools as abm
from abmtools import diagnostics
from abmtools.diagnostics import Draws, importance_sampling
from abmtools.structures.categorical import draw_categorical

WEIGHTS = np.array([0.4, 0.6])
GRID = np.linspace(-9.0, 3.0, 1201)


# --- a mixture with one unknown, whose posterior is known exactly ---------------------------------


def separation_model(**options):
    """Components N(0, 1) and N(d, 1), d ~ Exponential(1): one positive parameter."""

    def prior(rng, batch_size):
        return {"separation": rng.exponential(size=batch_size)}

    def emission(rng, parameters, z):
        return {"y": rng.normal(parameters["separation"][:, None] * z)}

    def log_prior(parameters):
        return -parameters["separation"]

    def log_emission(data, parameters):
        means = parameters["separation"][:, :, None, None] * np.arange(2)
        return norm.logpdf(data["y"][:, None, :, None], means)

    known = {"log_prior": log_prior, "log_emission": log_emission} | options
    return abm.MixtureModel(
        prior=prior,
        structure=abm.Independent(WEIGHTS),
        emission=emission,
        constraints={"separation": abm.positive},
        num_obs=30,
        name="separation",
        **known,
    )


class GridWorkflow:
    """The exact posterior of a model with one parameter, made wider or narrower at will.

    Parameters
    ----------
    model : MixtureModel
    spread : float
        Draws are mean + spread * (exact draw - mean): 1 is exact, 0.5 overconfident.
    sharpness : float
        Membership is the exact one to this power, normalized: 1 is exact, 2 overconfident.
    """

    def __init__(self, model, *, spread=1.0, sharpness=1.0):
        self.model, self.spread, self.sharpness = model, spread, sharpness

    def moments(self, data):
        """Density on the grid, its log normalizer and mean, each with a leading axis B."""
        grid = np.broadcast_to(GRID[:, None], (len(data["y"]), GRID.size, 1))
        log_density = diagnostics.log_posterior(self.model, data, grid)
        log_evidence = logsumexp(log_density, axis=1) + np.log(GRID[1] - GRID[0])
        mass = np.exp(log_density - logsumexp(log_density, axis=1, keepdims=True))
        return mass, log_evidence, mass @ GRID

    def sample(self, *, conditions, num_samples, seed=None):
        data = self.model.check_data(conditions)
        mass, _, mean = self.moments(data)
        levels = np.random.default_rng(seed).random((len(mass), num_samples))
        edges = GRID + (GRID[1] - GRID[0]) / 2
        exact = np.stack(
            [np.interp(x, np.cumsum(m), edges) for x, m in zip(levels, mass, strict=True)]
        )
        u = (mean[:, None] + self.spread * (exact - mean[:, None]))[..., None]
        return abm.MixturePosterior(
            model=self.model,
            data=data,
            unconstrained=u,
            membership=self.membership(data, self.model.constrain(u)),
            log_prob_function=self.log_prob_unconstrained,
        )

    def log_prob_unconstrained(self, data, u):
        data = self.model.check_data(data)
        _, log_evidence, mean = self.moments(data)
        mean = mean[:, None, None]
        exact = diagnostics.log_posterior(self.model, data, mean + (u - mean) / self.spread)
        return exact - log_evidence[:, None] - np.log(self.spread)

    def membership(self, data, parameters):
        powers = self.model.exact_membership(data, parameters) ** self.sharpness
        return powers / powers.sum(axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def model():
    return separation_model()


@pytest.fixture(scope="module")
def simulated(model):
    return model.simulate(400, rng=np.random.default_rng(1), num_obs=30)


@pytest.fixture(scope="module")
def exact(model, simulated):
    few = {"y": simulated["y"][:20]}
    return GridWorkflow(model).sample(conditions=few, num_samples=1000, seed=1)


def few(simulated, size=40):
    return {key: value[:size] for key, value in simulated.items()}


# --- the exact density ----------------------------------------------------------------------------


def test_log_posterior_is_the_joint_density_of_the_unconstrained_parameters(model, simulated):
    u = np.linspace(-3, 2, 7)[None, :, None]
    y = simulated["y"][0]
    d = np.exp(u[0, :, 0])
    components = [norm.pdf(y, d[:, None] * k) for k in range(2)]
    log_likelihood = np.log(np.tensordot(WEIGHTS, components, axes=1)).sum(axis=1)
    by_hand = -d + log_likelihood + np.log(d)
    found = diagnostics.log_posterior(model, {"y": y}, u)
    np.testing.assert_allclose(found[0], by_hand, rtol=1e-6)


def test_log_posterior_does_not_depend_on_how_work_is_split(model, simulated, monkeypatch):
    u = np.random.default_rng(2).normal(size=(5, 17, 1))
    data = {"y": simulated["y"][:5]}
    whole = diagnostics.log_posterior(model, data, u)
    for scores in (1, 300, 1500):
        monkeypatch.setattr(diagnostics.exact, "SCORES_AT_ONCE", scores)
        np.testing.assert_array_equal(diagnostics.log_posterior(model, data, u), whole)


def test_log_posterior_is_zero_density_at_the_boundary():
    model = abm.GaussianMixture()
    data = model.simulate(2, rng=np.random.default_rng(0), num_obs=200, num_reps=3)
    u = np.zeros((2, 4, 5))
    u[0, 1, 0] = 1000  # a weight rounds to zero
    u[0, 2, 3] = -1000  # two means are equal
    u[1, 0, 4] = np.inf
    density = diagnostics.log_posterior(model, {"y": data["y"]}, u)
    expected = np.zeros((2, 4), dtype=bool)
    expected[0, [1, 2]] = expected[1, 0] = True
    np.testing.assert_array_equal(np.isneginf(density), expected)
    assert np.all(np.isfinite(density[~expected]))


@pytest.mark.parametrize(
    ("u", "message"),
    [
        (np.zeros((1, 5)), r"u: expected shape \(1, S, 1\), got \(1, 5\)"),
        (np.zeros((2, 5, 1)), r"u: expected shape \(1, S, 1\), got \(2, 5, 1\)"),
        (np.zeros((1, 5, 3)), r"got \(1, 5, 3\)"),
        (np.full((1, 2, 1), np.nan), "expected numbers, got NaN in 2 draws"),
    ],
    ids=["rank", "datasets", "dimension", "nan"],
)
def test_log_posterior_refuses_bad_parameters(model, simulated, u, message):
    with pytest.raises(ValueError, match=message):
        diagnostics.log_posterior(model, {"y": simulated["y"][:1]}, u)


def test_log_posterior_needs_a_likelihood(simulated):
    model = separation_model(log_prior=None)
    with pytest.raises(ValueError, match="needs a model with log_prior and log_emission"):
        diagnostics.log_posterior(model, {"y": simulated["y"][:1]}, np.zeros((1, 2, 1)))


def test_log_posterior_does_not_hide_a_density_that_is_nan(simulated):
    model = separation_model(log_prior=lambda p: np.full(p["separation"].shape, np.nan))
    with pytest.raises(ValueError, match=r"separation: log_prior or log_emission is nan at"):
        diagnostics.log_posterior(model, {"y": simulated["y"][:1]}, np.zeros((1, 2, 1)))


# --- importance sampling --------------------------------------------------------------------------


def test_evidence_matches_quadrature(model, simulated):
    data = few(simulated, 5)
    wide = GridWorkflow(model, spread=1.5)
    posterior = wide.sample(conditions=data, num_samples=4000, seed=1)
    found = diagnostics.importance(posterior).log_evidence
    for y, log_evidence in zip(data["y"], found, strict=True):

        def joint(d, y=y, scale=log_evidence):
            log_likelihood = np.log(WEIGHTS @ [norm.pdf(y), norm.pdf(y, d)]).sum()
            return np.exp(log_likelihood - d - scale)

        assert np.log(quad(joint, 0, 15)[0]) == pytest.approx(0, abs=0.05)


def test_exact_draws_have_equal_weights(exact):
    result = diagnostics.importance(exact)
    np.testing.assert_allclose(result.log_weights, -np.log(1000), atol=1e-4)
    np.testing.assert_allclose(result.ess, 1000, rtol=1e-4)
    _, log_evidence, _ = GridWorkflow(exact.model).moments(exact.data)
    np.testing.assert_allclose(result.log_evidence, log_evidence, atol=1e-4)


@pytest.mark.parametrize(
    ("spread", "low", "high"),
    [(2.0, 1.0, 1.0), (1.2, 1.0, 1.0), (0.3, 0.0, 0.6)],
    ids=["wide", "wider", "narrow"],
)
def test_pareto_k_tells_narrow_posteriors_from_wide_ones(model, simulated, spread, low, high):
    workflow = GridWorkflow(model, spread=spread)
    posterior = workflow.sample(conditions=few(simulated), num_samples=1000, seed=3)
    result = diagnostics.importance(posterior)
    assert low <= np.mean(result.pareto_k < 0.7) <= high
    assert np.all(result.ess < 990)
    np.testing.assert_allclose(logsumexp(result.log_weights, axis=1), 0, atol=1e-9)


def test_equal_and_hopeless_weights_have_a_pareto_k(exact, monkeypatch):
    log_ratio = np.zeros((20, 1000))
    log_ratio[1, 10:] = -np.inf  # ten draws, equally good
    log_ratio[2] = -1e4 * np.arange(1000)  # one draw
    monkeypatch.setattr(importance_sampling, "log_ratio", lambda *_: log_ratio)
    result = diagnostics.importance(exact)
    assert np.isneginf(result.pareto_k[0])
    assert np.isposinf(result.pareto_k[1:3]).all()
    np.testing.assert_allclose(result.ess[:3], [1000, 10, 1])
    assert not np.isnan(result.log_weights).any()
    assert "largest inf" in str(result)


@pytest.mark.parametrize("depth", [300, 400, 700, 735, 760])
def test_weights_next_to_nothing_have_a_pareto_k(depth):
    """Powers of e that hardly are numbers once made small ones of large k."""
    ratio = np.random.default_rng(1).exponential(size=(1, 1000)) - depth
    ratio[0, 0] = 0.0
    result = importance_sampling.weigh(ratio)
    assert result.pareto_k[0] > 2
    np.testing.assert_allclose(result.ess, 1, rtol=0.05)
    assert not np.isnan(result.log_weights).any()


def test_draws_at_the_boundary_get_weight_zero(exact):
    u = exact.unconstrained.copy()
    u[:, 0] = 1000.0
    posterior = abm.MixturePosterior(
        exact.model, exact.data, u, exact.membership, exact.log_prob_function
    )
    result = diagnostics.importance(posterior)
    assert np.isneginf(result.log_weights[:, 0]).all()
    np.testing.assert_allclose(logsumexp(result.log_weights, axis=1), 0, atol=1e-9)
    resampled = result.resample(posterior, seed=1)
    assert resampled.unconstrained.max() < 10


def test_importance_refuses_a_posterior_without_density(exact):
    hopeless = abm.MixturePosterior(
        exact.model,
        exact.data,
        np.full_like(exact.unconstrained, 1000.0),
        exact.membership,
        lambda data, u: np.zeros(u.shape[:2]),
    )
    with pytest.raises(ValueError, match=r"every draw of data set\(s\) \[0, 1, 2, .* zero exact"):
        diagnostics.importance(hopeless)
    with pytest.raises(ValueError, match="at least 25 draws, got 10"):
        diagnostics.importance(exact.resample(np.zeros((20, 10), dtype=int)))
    with pytest.raises(ValueError, match="without the network"):
        diagnostics.importance(exact.resample(np.zeros((20, 50), dtype=int)))
    infinite = abm.MixturePosterior(
        exact.model,
        exact.data,
        exact.unconstrained,
        exact.membership,
        lambda data, u: np.full(u.shape[:2], np.inf),
    )
    with pytest.raises(ValueError, match="log_prob is not finite at a draw of data set 0"):
        diagnostics.importance(infinite)


def test_resampling_corrects_the_spread(model, simulated, exact):
    wide = GridWorkflow(model, spread=2.0)
    posterior = wide.sample(conditions={"y": simulated["y"][:20]}, num_samples=4000, seed=5)
    corrected = diagnostics.importance(posterior).resample(posterior, 1000, seed=1)
    assert corrected.num_samples == 1000
    before, after, target = (x.unconstrained.std(axis=1) for x in (posterior, corrected, exact))
    assert np.all(before > 1.7 * target)
    np.testing.assert_allclose(after / target, 1, atol=0.15)
    exact_membership = model.exact_membership(corrected.data, corrected.parameters)
    np.testing.assert_allclose(corrected.membership, exact_membership, atol=1e-6)


def test_resampling_copies_each_draw_as_its_weight_says(exact):
    rng = np.random.default_rng(0)
    log_weights = np.log(rng.dirichlet(np.ones(1000), 20))
    zeros = np.zeros(20)
    result = diagnostics.ImportanceResult(log_weights, zeros, zeros, zeros)
    numbered = abm.MixturePosterior(
        exact.model,
        exact.data,
        np.broadcast_to(np.arange(1000.0)[:, None], (20, 1000, 1)),
        exact.membership,
    )
    draws = result.resample(numbered, 500, seed=2).unconstrained[..., 0].astype(int)
    for row, weights in zip(draws, np.exp(log_weights), strict=True):
        copies = np.bincount(row, minlength=1000)
        assert np.all(np.abs(copies - 500 * weights) < 1)
    again = result.resample(numbered, 500, seed=2).unconstrained[..., 0]
    np.testing.assert_array_equal(again, draws)
    assert result.resample(numbered, seed=1).num_samples == 1000
    with pytest.raises(ValueError, match="num_samples: expected a positive integer, got 0"):
        result.resample(numbered, 0, seed=1)
    with pytest.raises(ValueError, match="expected 20 data sets with 1000 draws, got 1 with 1000"):
        result.resample(numbered[0], seed=1)


def test_weights_belong_to_the_draws_that_were_weighed(model, simulated, exact):
    """Also after a way through a file; other draws of the same shape are refused."""
    result = pickle.loads(pickle.dumps(diagnostics.importance(exact)))
    same = abm.MixturePosterior(
        model, exact.data, exact.unconstrained.copy(), exact.membership, exact.log_prob_function
    )
    np.testing.assert_array_equal(result.correct(same).log_weights, result.log_weights)
    assert "fingerprint" not in repr(result)
    again = GridWorkflow(model).sample(
        conditions={"y": simulated["y"][:20]}, num_samples=1000, seed=2
    )
    for function in (result.correct, lambda x: result.resample(x, seed=1)):
        with pytest.raises(ValueError, match="posterior: expected the one whose weights these are"):
            function(again)
        with pytest.raises(TypeError, match=r"posterior: expected a MixturePosterior, .* got dict"):
            function(exact.parameters)
    with pytest.raises(TypeError, match=r"posterior: expected a MixturePosterior, .* got dict"):
        diagnostics.importance(exact.parameters)


NEED_WORKFLOW = {
    "gap": lambda x, simulated: diagnostics.gap_to_exact(x, simulated),
    "membership": lambda x, simulated: diagnostics.membership_losses(x, simulated),
    "calibration": lambda x, simulated: diagnostics.simulation_based_calibration(x, simulated),
    "reliability": lambda x, simulated: diagnostics.predicted_membership(x, simulated),
    "misspecification": lambda x, simulated: diagnostics.misspecification(x, simulated, seed=1),
    "heterogeneity": lambda x, simulated: abm.heterogeneous_data(x, 10, seed=1),
}


@pytest.mark.parametrize("function", NEED_WORKFLOW.values(), ids=NEED_WORKFLOW)
def test_a_model_is_no_workflow(function, model, simulated):
    with pytest.raises(TypeError, match="workflow: expected a MixtureWorkflow, got"):
        function(model, simulated)


# --- the gap to exact -----------------------------------------------------------------------------


def test_exact_factors_have_no_gap(model, simulated):
    gap = diagnostics.gap_to_exact(GridWorkflow(model), few(simulated), num_samples=500, seed=1)
    assert gap.posterior == pytest.approx(0, abs=1e-4)
    assert gap.membership == pytest.approx(0, abs=1e-6)
    assert gap.posterior_se < 1e-4


def test_gap_of_a_wide_posterior_is_the_divergence(model, simulated):
    workflow = GridWorkflow(model, spread=2.0, sharpness=0.5)
    gap = diagnostics.gap_to_exact(workflow, few(simulated, 200), num_samples=500, seed=1)
    divergence = np.log(2.0) + (2.0**-2 - 1) / 2  # of normals, which these are nearly
    assert gap.posterior == pytest.approx(divergence, abs=3 * gap.posterior_se)
    assert gap.posterior_se < 0.05
    assert gap.membership > 5 * gap.membership_se > 0
    assert gap.posterior_loss.shape == gap.pareto_k.shape == (200,)
    assert gap.membership_loss.shape == gap.exact_membership_loss.shape == (200,)


def test_gap_of_a_narrow_posterior_is_large(model, simulated):
    workflow = GridWorkflow(model, spread=0.5, sharpness=2.0)
    gap = diagnostics.gap_to_exact(workflow, few(simulated, 200), num_samples=500, seed=1)
    assert gap.posterior > np.log(0.5) + (0.5**-2 - 1) / 2
    assert gap.posterior > 3 * gap.posterior_se
    assert gap.membership > 5 * gap.membership_se > 0


def test_gap_takes_batches_of_different_sizes_and_masks(model):
    rng = np.random.default_rng(4)
    batches = [model.simulate(3, rng=rng, num_obs=n) for n in (10, 25)]
    mask = np.arange(25) < 10
    batches[1] |= {"mask": np.broadcast_to(mask, (3, 25))}
    workflow = GridWorkflow(model, sharpness=2.0)
    gap = diagnostics.gap_to_exact(workflow, batches, num_samples=100, seed=1)
    assert gap.posterior_loss.shape == gap.membership_loss.shape == (6,)
    short = {key: x[:, :10] if x.ndim > 1 else x for key, x in batches[1].items()}
    unmasked = diagnostics.gap_to_exact(workflow, short, num_samples=100, seed=1)
    np.testing.assert_allclose(gap.membership_loss[3:], unmasked.membership_loss)
    np.testing.assert_allclose(
        gap.exact_posterior_loss[3:], unmasked.exact_posterior_loss, atol=1e-3
    )


def test_gap_reads_as_a_table(model, simulated):
    workflow = GridWorkflow(model, spread=1.5, sharpness=2.0)
    losses = diagnostics.posterior_losses(workflow, few(simulated, 10), num_samples=200, seed=1)
    gap = diagnostics.Gap(*losses, *diagnostics.membership_losses(workflow, simulated))
    lines = str(gap).splitlines()
    assert lines[0].split() == ["loss", "in", "nats", "network", "exact", "gap", "s.e."]
    assert f"{gap.posterior:.5f}" in lines[1]
    assert f"{gap.membership:.5f}" in lines[2]
    assert lines[3].startswith("10 and 400 data sets; Pareto k below 0.7 in 100.0 %")


def test_gap_of_a_workflow():
    """The interface of a real workflow, whose networks have learned nothing yet."""
    model = abm.GaussianMixture(num_obs=20, num_reps=(2, 3))
    workflow = abm.MixtureWorkflow(model, seed=1)
    simulated = model.simulate(12, rng=np.random.default_rng(0))
    gap = diagnostics.gap_to_exact(workflow, simulated, num_samples=200, seed=1)
    assert gap.posterior > 1
    assert gap.membership > 0.05
    again = diagnostics.gap_to_exact(workflow, simulated, num_samples=200, seed=1)
    np.testing.assert_array_equal(gap.exact_posterior_loss, again.exact_posterior_loss)
    sbc = diagnostics.simulation_based_calibration(workflow, simulated, num_samples=50, seed=1)
    assert sbc.estimates["weights"].shape == (12, 50, 3)
    assert sbc.names == [f"{name}[{k}]" for name in ("weights", "means") for k in range(3)]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: [], ValueError, "at least one batch"),
        (lambda x: [x["y"]], TypeError, "expected what model.simulate returns, .* got ndarray"),
        (lambda x: {"y": x["y"], "z": x["z"]}, ValueError, r"\['separation'\] is missing"),
        (lambda x: {"y": x["y"], "separation": x["separation"]}, ValueError, r"\['z'\] is missing"),
    ],
    ids=["empty", "array", "parameters", "z"],
)
def test_gap_needs_the_truth(model, simulated, change, error, message):
    with pytest.raises(error, match=message):
        diagnostics.gap_to_exact(GridWorkflow(model), change(simulated), num_samples=50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: {k: v[0] for k, v in x.items()}, r"simulated\['y'\]: expected a batch of data"),
        (lambda x: x | {"separation": x["separation"][:1]}, "one vector for each of 5 data sets"),
        (lambda x: x | {"separation": -x["separation"]}, r"parameters\['separation'\]: expected"),
        (lambda x: x | {"z": x["z"] - 1}, "z: expected indicators 0 to 1"),
        (lambda x: x | {"z": x["z"] + 1}, "z: expected indicators 0 to 1"),
        (lambda x: x | {"z": x["z"][:, :9]}, r"z: expected .* of shape \(5, 30\), .* \(5, 9\)"),
        (lambda x: x | {"masks": x["z"] > 0}, r"expected .* and masks, got \['masks'\], too"),
    ],
    ids=["batch axis", "batch size", "constraint", "minus one", "one-based", "shape", "key"],
)
@pytest.mark.parametrize(
    "function",
    [
        diagnostics.gap_to_exact,
        diagnostics.membership_losses,
        diagnostics.predicted_membership,
        diagnostics.simulation_based_calibration,
    ],
    ids=lambda x: x.__name__,
)
def test_simulated_data_are_checked(model, simulated, function, change, message):
    batches = [few(simulated, 5), change(few(simulated, 5))]
    with pytest.raises(ValueError, match=message):
        function(GridWorkflow(model), batches)
    with pytest.raises(TypeError, match=r"simulated: expected what model.simulate returns"):
        function(GridWorkflow(model), None)


# --- calibration of parameters --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spread", "inside"), [(1.0, True), (0.6, False), (1.6, False)], ids=["exact", "narrow", "wide"]
)
def test_calibration_tells_exact_from_over_and_underconfident(model, simulated, spread, inside):
    workflow = GridWorkflow(model, spread=spread)
    sbc = diagnostics.simulation_based_calibration(workflow, simulated, num_samples=99, seed=1)
    ranks = sbc.ranks["separation"]
    assert ranks.shape == (400, 1)
    assert ranks.min() >= 0
    assert ranks.max() <= 99
    assert sbc.inside["separation"] == inside
    assert (sbc.log_gamma["separation"] >= 0) == inside
    extreme = np.mean((ranks < 10) | (ranks >= 90))
    assert (extreme > 0.3) == (spread < 1)
    assert (extreme < 0.1) == (spread > 1)
    table = str(sbc)
    assert "400 data sets x 99 draws" in table
    assert str(inside) in table


def global_state():
    return np.random.get_state()[1].copy()  # noqa: NPY002


def test_calibration_is_repeatable_and_leaves_the_global_generator_alone(model, simulated):
    state = global_state()
    workflow, data = GridWorkflow(model), few(simulated)
    first, second = (
        diagnostics.simulation_based_calibration(workflow, data, num_samples=50, seed=3)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.ranks["separation"], second.ranks["separation"])
    assert first.log_gamma.equals(second.log_gamma)
    np.testing.assert_array_equal(global_state(), state)


def test_ranks_of_the_likelihood_notice_a_posterior_that_ignores_the_data(model, simulated):
    class PriorWorkflow(GridWorkflow):
        def sample(self, *, conditions, num_samples, seed=None):
            posterior = super().sample(conditions=conditions, num_samples=num_samples, seed=seed)
            draws = np.random.default_rng(seed).exponential(size=posterior.unconstrained.shape)
            return abm.MixturePosterior(
                self.model, posterior.data, np.log(draws), posterior.membership
            )

    sbc = diagnostics.simulation_based_calibration(
        PriorWorkflow(model), simulated, num_samples=99, log_likelihood=True, seed=1
    )
    assert sbc.names == ["separation", "log_likelihood"]
    assert sbc.inside.to_dict() == {"separation": True, "log_likelihood": False}


# --- calibration of membership --------------------------------------------------------------------


@pytest.mark.parametrize("at", ["truth", "draws"])
def test_exact_membership_is_calibrated(model, simulated, at):
    p, z = diagnostics.predicted_membership(
        GridWorkflow(model), simulated, at=at, num_samples=100, seed=1
    )
    assert p.shape == (400 * 30, 2)
    result = diagnostics.membership_calibration(p, z)
    assert result.expected_calibration_error < 0.015
    assert np.all(result.error < 0.015)
    assert result.counts.sum(axis=1).tolist() == [12_000, 12_000]


@pytest.mark.parametrize(("sharpness", "sign"), [(3.0, -1), (0.4, 1)], ids=["over", "under"])
def test_over_and_underconfident_membership_is_seen(model, simulated, sharpness, sign):
    p, z = diagnostics.predicted_membership(GridWorkflow(model, sharpness=sharpness), simulated)
    result = diagnostics.membership_calibration(p, z)
    assert result.expected_calibration_error > 0.03
    high = np.nanmean((result.observed - result.predicted)[:, 7:])
    assert np.sign(high) == sign
    assert f"{result.expected_calibration_error:.4f}" in str(result)


def test_membership_calibration_by_hand():
    # one bin below and one above one half: component 0 is predicted 0.75 on average above, and
    # true there in one of two; below 0.2 on average, and never true
    p = np.array([0.9, 0.6, 0.3, 0.1])
    p = np.stack([p, 1 - p], axis=-1).reshape(2, 2, 2)
    z = np.array([[0, 1], [1, 1]])
    result = diagnostics.membership_calibration(p, z, num_bins=2)
    np.testing.assert_allclose(result.predicted, [[0.2, 0.75], [0.25, 0.8]])
    np.testing.assert_allclose(result.observed, [[0, 0.5], [0.5, 1]])
    np.testing.assert_array_equal(result.counts, 2)
    np.testing.assert_allclose(result.error, [0.5 * 0.2 + 0.5 * 0.25] * 2)
    empty = diagnostics.membership_calibration(p[:1], z[:1], num_bins=4)
    np.testing.assert_array_equal(np.isnan(empty.observed), empty.counts == 0)


def test_calibrated_errors_are_those_of_right_probabilities(rng):
    """Not larger than what right probabilities have, and smaller than what sharpened ones have."""
    p = rng.dirichlet([1.0, 1.0, 1.0], size=2000)
    right = draw_categorical(rng, p)
    errors = diagnostics.calibrated_errors(p.reshape(4, 500, 3), num_draws=100, seed=1)
    assert errors.shape == (100, 3)
    low, high = np.quantile(errors, [0.005, 0.995], axis=0)
    for probabilities, is_right in ((p, True), (p**3 / (p**3).sum(1, keepdims=True), False)):
        error = diagnostics.membership_calibration(probabilities, right).error
        assert np.all((low <= error) & (error <= high)) == is_right
    np.testing.assert_array_equal(errors[:1], diagnostics.calibrated_errors(p, num_draws=1, seed=1))
    certain = np.eye(3)[right]
    np.testing.assert_array_equal(diagnostics.calibrated_errors(certain, num_draws=2), 0)


@pytest.mark.parametrize(
    ("p", "num_draws", "message"),
    [
        (np.ones((3, 2)), 5, "numbers that sum to one"),
        (np.ones(2) / 2, 5, r"expected shapes \(\.\.\., K\)"),
        (np.ones((3, 2)) / 2, 0, "num_draws: expected a positive integer, got 0"),
    ],
    ids=["sum", "shape", "draws"],
)
def test_calibrated_errors_refuse(p, num_draws, message):
    with pytest.raises(ValueError, match=message):
        diagnostics.calibrated_errors(p, num_draws=num_draws)


def test_masked_observations_are_left_out(model):
    data = model.simulate(5, rng=np.random.default_rng(0), num_obs=30)
    data["mask"] = np.random.default_rng(1).random((5, 30)) < 0.5
    p, z = diagnostics.predicted_membership(GridWorkflow(model), data)
    assert len(p) == len(z) == data["mask"].sum()


@pytest.mark.parametrize(
    ("p", "z", "num_bins", "message"),
    [
        (np.ones((3, 2)) / 2, np.zeros(4, dtype=int), 10, r"got \(3, 2\) and \(4,\)"),
        (np.ones((0, 2)) / 2, np.zeros(0, dtype=int), 10, "at least one observation"),
        (np.ones((3, 2)), np.zeros(3, dtype=int), 10, "numbers that sum to one"),
        (np.tile([1.5, -0.5], (3, 1)), np.zeros(3, dtype=int), 10, "non-negative"),
        (np.ones((3, 2)) / 2, np.array([0, 1, 2]), 10, "z: expected integers from 0 to 1"),
        (np.ones((3, 2)) / 2, np.zeros(3), 10, "z: expected integers"),
        (np.ones((3, 2)) / 2, np.zeros(3, dtype=int), 0, "num_bins: expected a positive integer"),
    ],
    ids=["shapes", "empty", "sum", "negative", "z too large", "z not integers", "bins"],
)
def test_membership_calibration_refuses(p, z, num_bins, message):
    with pytest.raises(ValueError, match=message):
        diagnostics.membership_calibration(p, z, num_bins=num_bins)


def test_predicted_membership_refuses(model, simulated):
    with pytest.raises(ValueError, match="at: expected 'truth' or 'draws', got 'mean'"):
        diagnostics.predicted_membership(GridWorkflow(model), simulated, at="mean")


# --- comparison of two posteriors -----------------------------------------------------------------


@pytest.fixture(scope="module")
def gaussian():
    """Two independent sets of draws from normals on the unconstrained scale of a real model."""
    model = abm.GaussianMixture(num_obs=20, num_reps=2)
    data = model.check_data({"y": model.simulate(1, rng=np.random.default_rng(0))["y"]})
    rng = np.random.default_rng(1)

    def posterior(shift=0.0, scale=1.0, num_samples=1000):
        noise = rng.normal(size=(1, num_samples, 5))
        u = np.array([0.2, -0.3, -2.0, 0.5, 0.6]) + np.array(shift) + 0.3 * scale * noise
        membership = model.exact_membership(data, model.constrain(u))
        return abm.MixturePosterior(model, data, u, membership)

    return posterior


def test_a_posterior_does_not_differ_from_itself(gaussian):
    posterior = gaussian()
    result = diagnostics.compare(posterior, posterior.to_arviz(), c2st=False)
    np.testing.assert_allclose(result.differences, 0, atol=1e-6)
    assert result.membership == pytest.approx(0, abs=1e-6)
    assert result.largest == pytest.approx(0, abs=1e-6)
    assert np.isnan(result.c2st)
    assert "C2ST" not in str(result)


def test_differences_are_in_standard_deviations_of_the_reference(gaussian):
    reference = gaussian()
    model = reference.model
    theta = {name: x.copy() for name, x in reference.parameters.items()}
    sd = theta["means"][0].std(axis=0, ddof=1)
    theta["means"] = theta["means"] + 0.5 * sd[0]  # all three, so that they stay in order
    u = model.unconstrain(theta)
    membership = model.exact_membership(reference.data, theta)
    shifted = abm.MixturePosterior(model, reference.data, u, membership)
    result = diagnostics.compare(shifted, reference, c2st=False)
    assert list(result.differences) == ["mean", "q05", "q25", "q50", "q75", "q95"]
    for k in range(3):
        row = result.differences.loc[f"means[{k}]"]
        np.testing.assert_allclose(row, 0.5 * sd[0] / sd[k], rtol=1e-3)
        np.testing.assert_allclose(result.differences.loc[f"weights[{k}]"], 0, atol=1e-4)
    expected = np.abs(membership.mean(axis=1) - reference.membership.mean(axis=1)).max()
    assert result.membership == pytest.approx(expected)


def test_c2st_tells_posteriors_apart(gaussian):
    same = diagnostics.compare(gaussian(), gaussian(num_samples=1500), seed=1)
    assert same.num_draws == 1000
    assert 0.5 <= same.c2st < 0.54
    shifted = diagnostics.compare(gaussian(shift=[0, 0, 0.6, 0, 0]), gaussian(), seed=1)
    assert shifted.c2st == pytest.approx(norm.cdf(1), abs=0.04)  # two standard deviations
    again = diagnostics.compare(gaussian(), gaussian(), num_draws=100, seed=1)
    assert again.num_draws == 100
    text = str(shifted)
    assert text.startswith(f"C2ST {shifted.c2st:.3f}, with 1000 draws of each")
    assert "means[2]" in text
    html = shifted._repr_html_()
    assert "<table" in html
    assert f"{shifted.c2st:.3f}" in html


def test_c2st_of_a_reference_whose_bounds_depend_on_its_data():
    workflow = abm.load_pretrained("evidence_hmm")
    data = workflow.model.simulate(1, rng=np.random.default_rng(1), num_obs=100)
    posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=2000, seed=1)
    again = workflow.sample(conditions={"y": data["y"]}, num_samples=1000, seed=2)
    reference = again.to_arviz()  # as NUTS: parameters and data, nothing unconstrained
    known = diagnostics.compare(posterior, again, seed=1)
    result = diagnostics.compare(posterior, reference, model=workflow.model, seed=1)
    assert result.c2st == pytest.approx(known.c2st, abs=0.01)


def test_c2st_leaves_autograd_as_it_was(gaussian):
    torch = pytest.importorskip("torch")
    before = torch.is_grad_enabled()
    diagnostics.compare(gaussian(num_samples=100), gaussian(num_samples=100), seed=1)
    assert torch.is_grad_enabled() == before


def test_two_runs_of_stan_agree():
    model = abm.GaussianMixture()
    theta = {"weights": np.array([[0.3, 0.5, 0.2]]), "means": np.array([[-2.5, 0.0, 2.5]])}
    y = model.simulate_data(theta, rng=np.random.default_rng(3), num_obs=150, num_reps=3)["y"]
    runs = [abm.stan.sample(model, {"y": y}, engine="stanli", seed=seed) for seed in (1, 2)]
    result = diagnostics.compare(*runs, model=model)
    assert result.num_draws == 2000
    worst = min(
        float(x.min())
        for x in az.ess(runs[1].posterior.to_dataset()[["weights", "means"]]).values()
    )
    assert result.reference_ess == pytest.approx(worst)
    assert f"size of the reference {worst:.0f}" in str(result)
    assert result.c2st < 0.55
    assert result.largest < 0.25
    assert result.membership < 0.03
    with pytest.raises(ValueError, match="model: expected a MixtureModel, because neither"):
        diagnostics.compare(*runs)


def test_compare_refuses(gaussian, exact):
    one = gaussian(num_samples=50)
    with pytest.raises(ValueError, match=r"posterior of one data set, got 20; .* posterior\[0\]"):
        diagnostics.compare(exact, one)
    with pytest.raises(TypeError, match="reference: expected a MixturePosterior, a DataTree or"):
        diagnostics.compare(one, one.unconstrained)
    with pytest.raises(ValueError, match=r"reference: expected the parameters \['weights', 'means"):
        diagnostics.compare(one, exact[0])
    tree = one.to_arviz()
    with pytest.raises(ValueError, match=r"group 'posterior', got the groups \['observed_data'\]"):
        diagnostics.compare(one, tree.filter(lambda node: node.name != "posterior"))
    with pytest.raises(ValueError, match="expected the dimensions chain and draw and one data set"):
        diagnostics.compare(one, exact.to_arviz())
    tree["posterior"] = tree["posterior"].to_dataset().isel(obs=slice(5))
    with pytest.raises(ValueError, match="membership of 20 observations and 3 components"):
        diagnostics.compare(one, tree, c2st=False)


def test_compare_refuses_posteriors_of_different_data(gaussian):
    """What only one of the two has observed may differ."""
    posterior = gaussian(num_samples=50)
    y, mask = posterior.data["y"].copy(), np.ones((1, 20), dtype=bool)
    y[0, 3, 1] += 0.5
    other = replace(posterior, data={"y": y})
    for reference in (other, other.to_arviz()):
        with pytest.raises(ValueError, match=r"reference: .* others at 1 of 40 values"):
            diagnostics.compare(posterior, reference, c2st=False)
    mask[0, 3] = False
    masked = replace(posterior, data={"y": y, "mask": mask})
    assert diagnostics.compare(posterior, masked, c2st=False).largest == 0
    shorter = replace(posterior, data={"y": y[:, :9]})
    with pytest.raises(ValueError, match=r"y of shape \(20, 2\), got shape \(9, 2\)"):
        diagnostics.compare(posterior, shorter, c2st=False)
    rounded = replace(posterior, data={"y": posterior.data["y"].astype("float32")})
    assert diagnostics.compare(posterior, rounded, c2st=False).largest == 0


def test_compare_refuses_other_labels_and_no_draws(gaussian):
    one, rng = gaussian(num_samples=50), np.random.default_rng(1)
    two, five = (
        {"weights": rng.dirichlet(np.ones(k), 50), "means": np.sort(rng.normal(size=(50, k)))}
        for k in (2, 5)
    )
    for pair in ((two, five), (five, two), (one, two), (five, one)):
        with pytest.raises(
            ValueError, match=r"reference: expected \['weights\[0\]', 'weights\[1\]'"
        ):
            diagnostics.compare(*pair, model=one.model, c2st=False)
    for number in (0, 2.5):
        with pytest.raises(ValueError, match=f"num_draws: expected a positive .* got {number}"):
            diagnostics.compare(one, one, num_draws=number)


def test_compare_without_membership_or_variation(gaussian):
    posterior = gaussian(num_samples=100)
    dataset = posterior.to_arviz()["posterior"].to_dataset().drop_vars("membership")
    dataset["weights"] = dataset["weights"] * 0 + 1 / 3
    reference = posterior.to_arviz()
    reference["posterior"] = dataset
    result = diagnostics.compare(posterior, reference, c2st=False)
    assert np.isnan(result.membership)
    assert result.differences.loc["weights[0]"].isna().all()
    assert np.isfinite(result.largest)


# --- misspecification -----------------------------------------------------------------------------


def test_part_of_a_misspecification():
    null = np.arange(12.0).reshape(3, 4)
    result = diagnostics.Misspecification(np.array([1.0, 5.5, 8.0]), null, np.array([7, 8, 9]))
    np.testing.assert_array_equal(result[-1].mmd, [8.0])
    np.testing.assert_array_equal(result[1:].p_value, result.p_value[1:])
    assert len(result[:2]) == 2
    with pytest.raises(IndexError, match="dataset 3 is out of range for 3 data sets"):
        result[3]


# --- draws ----------------------------------------------------------------------------------------


def test_draws_are_the_same_from_a_posterior_and_its_tree(gaussian):
    posterior = gaussian(num_samples=50)
    ours, theirs = Draws.of(posterior), Draws.of(posterior.to_arviz())
    assert list(ours.columns) == [f"{n}[{k}]" for n in ("weights", "means") for k in range(3)]
    assert ours.num_samples == theirs.num_samples == 50
    for label, column in ours.columns.items():
        np.testing.assert_allclose(theirs.columns[label], column)
    np.testing.assert_allclose(ours.membership, theirs.membership)
    np.testing.assert_allclose(ours.data["y"], theirs.data["y"])
    np.testing.assert_allclose(
        ours.on_real_line(posterior.model), theirs.on_real_line(posterior.model), atol=1e-4
    )


def test_draws_of_a_prior_and_of_scalars(model):
    prior = model.prior(np.random.default_rng(0), 10)
    draws = Draws.of(prior)
    assert list(draws.columns) == ["separation"]
    assert draws.membership is None
    assert Draws.of(draws) is draws

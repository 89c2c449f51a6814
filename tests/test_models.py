"""Models: simulation against closed forms and loops, exact densities against SciPy, bad input."""

import numpy as np
import pytest
from conftest import lognormal_model
from scipy.special import softmax
from scipy.stats import beta, dirichlet, ks_2samp, kstest, norm

from abmtools import GaussianMixture, Independent, MixtureModel, positive, simplex
from abmtools.models.names import RESERVED

MEANS, WEIGHTS = np.array([-1.8, -0.5, 1.2]), np.array([0.3, 0.5, 0.2])


def with_samples(parameters, names):
    """Parameters (B, ...) as one draw per data set, (B, 1, ...)."""
    return {name: parameters[name][:, None] for name in names}


# --- the Gaussian mixture's simulator --------------------------------------------------------


def test_defaults_are_the_published_ones():
    model = GaussianMixture()
    assert model.num_components == 3
    assert (model.num_obs, model.num_reps) == ((150, 250), (2, 4))
    assert (model.concentration, model.means_scale, model.scale) == (2.0, 1.0, 1.0)
    np.testing.assert_array_equal(model.means_location, [-2, 0, 2])
    np.testing.assert_array_equal(GaussianMixture(4).means_location, [-3, -1, 1, 3])
    assert model.parameter_shapes == {"weights": (3,), "means": (3,)}
    assert model.parameter_dims == {"weights": ("component",), "means": ("component",)}
    assert model.num_unconstrained == 5
    assert model.has_likelihood


def test_moments(rng):
    """Mean, variance and covariance of replicates: E y = m, Var y = v + s^2, Cov(y, y') = v."""
    model = GaussianMixture(scale=0.7)
    size = 400
    parameters = {"weights": np.tile(WEIGHTS, (size, 1)), "means": np.tile(MEANS, (size, 1))}
    y = model.simulate_data(parameters, rng=rng, num_obs=250, num_reps=2)["y"]
    first, second = y.astype("float64").reshape(-1, 2).T
    mean = WEIGHTS @ MEANS
    between = WEIGHTS @ (MEANS - mean) ** 2
    n = len(first)
    assert first.mean() == pytest.approx(mean, abs=4 * np.sqrt((between + 0.49) / n))
    assert first.var() == pytest.approx(between + 0.49, rel=4 * np.sqrt(2 / n))
    assert np.cov(first, second)[0, 1] == pytest.approx(between, abs=4 * 1.5 / np.sqrt(n))


def test_observations_follow_their_indicators(rng):
    model = GaussianMixture(scale=1e-3)
    data = model.simulate(20, rng=rng, num_obs=30, num_reps=2)
    expected = np.take_along_axis(data["means"], data["z"], axis=1)
    np.testing.assert_allclose(data["y"], expected[..., None] * [1, 1], atol=0.01)


def test_prior(rng):
    """Ordered means follow the conditioned normals, weights the Dirichlet."""
    model = GaussianMixture()
    prior = model.prior(rng, 4000)
    assert np.all(np.diff(prior["means"], axis=1) > 0)
    np.testing.assert_allclose(prior["weights"].sum(axis=1), 1.0)
    for k in range(3):
        assert kstest(prior["weights"][:, k], beta(2, 4).cdf).pvalue > 1e-3
        assert kstest(prior["means"][:, k], conditioned_cdf(k)).pvalue > 1e-3


def conditioned_cdf(k):
    """CDF of mu_k under Normal((-2, 0, 2), 1) given mu_1 < mu_2 < mu_3, by quadrature."""
    grid = np.linspace(-9, 9, 3001)
    density = norm.pdf(grid, [[-2], [0], [2]], 1)
    below = norm.cdf(grid, -2, 1)  # mu_1 < x
    above = norm.sf(grid, 2, 1)  # mu_3 > x
    step = grid[1] - grid[0]
    middle_above = np.cumsum((density[1] * above)[::-1])[::-1] * step  # x < mu_2 < mu_3
    middle_below = np.cumsum(density[1] * below) * step  # mu_1 < mu_2 < x
    marginal = [density[0] * middle_above, density[1] * below * above, density[2] * middle_below][k]
    cdf = np.cumsum(marginal)
    return lambda x: np.interp(x, grid, cdf / cdf[-1])


def loop_simulation(rng, model, num_obs, num_reps):
    """One data set, number by number, as the formulas say."""
    location = model.means_location
    while True:
        means = [rng.normal(m, model.means_scale) for m in location]
        if means == sorted(means):
            break
    weights = rng.dirichlet([model.concentration] * len(location))
    y = np.empty((num_obs, num_reps))
    for i in range(num_obs):
        z = rng.choice(len(location), p=weights)
        for j in range(num_reps):
            y[i, j] = rng.normal(means[z], model.scale)
    return y


def test_simulator_equals_a_loop(rng):
    model = GaussianMixture(concentration=1.5, means_scale=0.8, scale=0.5)
    fast = model.simulate(600, rng=rng, num_obs=12, num_reps=3)["y"]
    slow = np.stack([loop_simulation(rng, model, 12, 3) for _ in range(600)])
    statistics = {
        "mean": lambda y: y.mean(axis=(1, 2)),
        "spread": lambda y: y.std(axis=(1, 2)),
        "within": lambda y: y.std(axis=2).mean(axis=1),
        "largest": lambda y: y.max(axis=(1, 2)),
        "first": lambda y: y[:, 0, 0],
    }
    for name, statistic in statistics.items():
        assert ks_2samp(statistic(fast), statistic(slow)).pvalue > 1e-3, name


def test_sizes_are_drawn_from_their_ranges(rng):
    model = GaussianMixture(num_obs=(3, 5), num_reps=(1, 2))
    shapes = {model.simulate(2, rng=rng)["y"].shape[1:] for _ in range(100)}
    assert shapes == {(n, r) for n in (3, 4, 5) for r in (1, 2)}
    fixed = model.simulate(2, rng=rng, num_obs=40, num_reps=7)
    assert fixed["y"].shape == (2, 40, 7)
    assert fixed["z"].shape == (2, 40)
    assert set(np.unique(fixed["z"])) <= {0, 1, 2}


def test_simulation_is_repeatable():
    model = GaussianMixture()
    first, second = (model.simulate(3, rng=np.random.default_rng(8)) for _ in range(2))
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])


# --- exact densities --------------------------------------------------------------------------


@pytest.fixture
def model():
    return GaussianMixture(num_obs=9, num_reps=3, scale=0.6, concentration=1.7, means_scale=1.3)


@pytest.fixture
def simulated(model, rng):
    return model.simulate(4, rng=rng)


@pytest.fixture
def parameters(model, rng):
    """Seven draws for each of four data sets."""
    draws = model.prior(rng, 28)
    return {name: value.reshape(4, 7, 3) for name, value in draws.items()}


def test_emission_integrates_to_one(parameters):
    """The grid is a data set: each of its observations has a density under each component."""
    model = GaussianMixture(num_reps=1, scale=0.6)
    grid = np.linspace(-15, 15, 4001)
    density = np.exp(model.emission_scores({"y": np.tile(grid[:, None], (4, 1, 1))}, parameters))
    np.testing.assert_allclose(np.trapezoid(density, grid, axis=2), 1.0, rtol=1e-6)


def test_emission_with_two_replicates_integrates_to_one():
    model = GaussianMixture(2, num_reps=2)
    axis = np.linspace(-8, 8, 161)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(1, -1, 2)
    parameters = {"weights": np.array([[[0.5, 0.5]]]), "means": np.array([[[-1.0, 0.5]]])}
    density = np.exp(model.emission_scores({"y": grid}, parameters)).reshape(161, 161, 2)
    total = np.trapezoid(np.trapezoid(density, axis, axis=0), axis, axis=0)
    np.testing.assert_allclose(total, 1.0, rtol=1e-6)


def log_normal_density(y, parameters, scale):
    """log p(y_i | z_i = k), by SciPy, replicate by replicate: (B, S, N, K)."""
    y, means = y[:, None, :, None, :], parameters["means"][:, :, None, :, None]
    return norm.logpdf(y, means, scale).sum(axis=-1)


def test_densities_against_scipy(model, simulated, parameters):
    scores = log_normal_density(simulated["y"].astype("float64"), parameters, 0.6)
    np.testing.assert_allclose(model.emission_scores(simulated, parameters), scores, rtol=1e-10)
    joint = np.log(parameters["weights"])[:, :, None] + scores
    membership = model.exact_membership(simulated, parameters)
    assert membership.dtype == np.float64
    np.testing.assert_allclose(membership, softmax(joint, axis=-1), atol=1e-12)
    log_likelihood = np.logaddexp.reduce(joint, axis=-1).sum(axis=-1)
    np.testing.assert_allclose(model.log_likelihood(simulated, parameters), log_likelihood)
    log_prior = norm.logpdf(parameters["means"], [-2, 0, 2], 1.3).sum(axis=-1)
    flat = parameters["weights"].reshape(-1, 3)
    log_prior += np.reshape([dirichlet.logpdf(w, [1.7] * 3) for w in flat], (4, 7))
    difference = model.log_joint(simulated, parameters) - (log_prior + log_likelihood)
    np.testing.assert_allclose(difference, difference[0, 0], rtol=1e-8)  # the prior's constant


def test_membership_of_one_observation_by_hand():
    """Two components at -1 and 1, one replicate at 0.5: odds exp(2 * 0.5) times prior odds."""
    model = GaussianMixture(2, num_reps=1)
    parameters = {"weights": np.array([[[0.75, 0.25]]]), "means": np.array([[[-1.0, 1.0]]])}
    odds = np.exp(1.0) / 3
    expected = [1 / (1 + odds), odds / (1 + odds)]
    membership = model.exact_membership({"y": np.array([[0.5]])}, parameters)
    np.testing.assert_allclose(membership, [[[expected]]])


def test_masked_observations_equal_dropped_ones(model, simulated, parameters, rng):
    keep = np.array([0, 2, 3, 7])
    mask = np.isin(np.arange(9), keep)
    garbage = np.where(mask[:, None], simulated["y"], np.nan)
    masked, dropped = (
        {"y": garbage, "mask": np.tile(mask, (4, 1))},
        {"y": simulated["y"][:, keep]},
    )
    for method in (model.log_likelihood, model.log_joint):
        np.testing.assert_allclose(method(masked, parameters), method(dropped, parameters))
    membership = model.exact_membership(masked, parameters)
    np.testing.assert_allclose(
        membership[:, :, keep], model.exact_membership(dropped, parameters), atol=1e-12
    )
    prior = np.broadcast_to(parameters["weights"][:, :, None], membership.shape)
    np.testing.assert_allclose(membership[:, :, ~mask], prior[:, :, ~mask])


def test_masked_replicates_equal_dropped_ones(model, simulated, parameters, rng):
    mask = np.tile([True, False, True], (4, 9, 1))
    garbage = np.where(mask, simulated["y"], np.inf)
    masked, dropped = {"y": garbage, "replicate_mask": mask}, {"y": simulated["y"][:, :, [0, 2]]}
    for method in (model.emission_scores, model.exact_membership, model.log_joint):
        np.testing.assert_allclose(method(masked, parameters), method(dropped, parameters))


def test_replicates_may_differ_in_number(model, simulated, parameters):
    """Observation i keeps its first i % 4 replicates; those with none are masked."""
    mask = np.tile(np.arange(3) < (np.arange(9) % 4)[:, None], (4, 1, 1))
    data = {"y": simulated["y"], "replicate_mask": mask}
    np.testing.assert_array_equal(model.check_data(data)["mask"], mask.any(axis=2))
    scores = model.emission_scores(data, parameters)
    for i in range(9):
        number = i % 4
        if number == 0:
            np.testing.assert_array_equal(scores[:, :, i], 0.0)
            continue
        alone = {"y": simulated["y"][:, [i], :number]}
        np.testing.assert_allclose(scores[:, :, [i]], model.emission_scores(alone, parameters))


def test_one_data_set_has_the_same_density(model, simulated, parameters):
    first = {name: value[:1] for name, value in parameters.items()}
    np.testing.assert_allclose(
        model.log_joint({"y": simulated["y"][0]}, first),
        model.log_joint(simulated, parameters)[:1],
    )


def test_unconstrained_space(model, simulated):
    u = model.unconstrain({name: simulated[name] for name in model.parameter_names})
    assert u.shape == (4, 5)
    means = simulated["means"]
    np.testing.assert_allclose(u[:, 2], means[:, 0])
    np.testing.assert_allclose(u[:, 3:], np.log(np.diff(means, axis=1)), rtol=1e-10)
    for name, value in model.constrain(u).items():
        np.testing.assert_allclose(value, simulated[name], rtol=1e-10)


def test_prior_integrates_on_the_unconstrained_scale():
    """exp(log_prior - log_det_jacobian) has a finite integral with the right mean: E w_1 = 1/2."""
    model = GaussianMixture(2, concentration=3.0, means_location=[0.0, 0.0])
    grid = np.linspace(-6, 6, 61)
    u = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), axis=-1).reshape(1, -1, 3)
    parameters = model.constrain(u)
    density = np.exp(model.log_prior(parameters) - model.log_det_jacobian(parameters))
    density /= density.sum()
    assert (density * parameters["weights"][..., 0]).sum() == pytest.approx(0.5, abs=1e-3)
    second_moment = (density * parameters["weights"][..., 0] ** 2).sum()
    assert second_moment == pytest.approx(beta(3, 3).moment(2), abs=1e-3)
    # of two ordered standard normals the larger has mean 1 / sqrt(pi)
    assert (density * parameters["means"][..., 1]).sum() == pytest.approx(np.pi**-0.5, abs=5e-3)


def test_stan_data(model, simulated):
    mask, replicate_mask = np.arange(9) != 4, np.ones((9, 3), dtype=bool)
    replicate_mask[0, 1:] = False
    data = {"y": simulated["y"][0], "mask": mask, "replicate_mask": replicate_mask}
    data = {name: value[0] for name, value in model.check_data(data).items()}
    stan = model.stan_data(data)
    assert (stan["N"], stan["K"]) == (8, 3)
    np.testing.assert_array_equal(stan["n_reps"], [1, 3, 3, 3, 3, 3, 3, 3])
    assert stan["y_mean"][0] == pytest.approx(simulated["y"][0, 0, 0])
    np.testing.assert_allclose(stan["y_mean"][1:], simulated["y"][0, [1, 2, 3, 5, 6, 7, 8]].mean(1))
    np.testing.assert_array_equal(stan["concentration"], [1.7] * 3)
    np.testing.assert_array_equal(stan["location"], model.means_location)
    assert (stan["prior_scale"], stan["scale"]) == (1.3, 0.6)
    assert model.stan_program.is_file()


# --- a model of one's own ---------------------------------------------------------------------


def test_own_model(rng):
    model = lognormal_model()
    assert model.parameter_names == ["locations", "sigma", "shift"]
    assert model.parameter_dims == {"locations": ("component",), "sigma": (), "shift": ()}
    assert model.unconstrained_names == ["locations[0]", "locations[1]", "sigma", "shift"]
    assert model.num_components == 2
    assert repr(model.structure) == "Independent(weights=array([0.3, 0.7]))"
    data = model.simulate(500, rng=rng, num_obs=40)
    assert (data["z"] == 1).mean() == pytest.approx(0.7, abs=0.02)
    parameters = with_samples(data, model.parameter_names)
    assert model.log_joint(data, parameters).shape == (500, 1)
    membership = model.exact_membership(data, parameters)[:, 0]
    chosen = np.take_along_axis(membership, data["z"][..., None], axis=-1)
    assert chosen.mean() == pytest.approx((membership**2).sum(axis=-1).mean(), abs=0.01)


def test_vector_observations(rng):
    """Observations with two features: rank, shapes and the message say so."""

    def prior(rng, batch_size):
        return {"centre": rng.normal(size=(batch_size, 2))}

    def emission(rng, parameters, z):
        sign = 2 * z[..., None] - 1
        return {"y": rng.normal(sign * parameters["centre"][:, None], 1.0)}

    model = MixtureModel(
        prior=prior, structure=Independent([0.5, 0.5]), emission=emission, num_obs=6
    )
    assert model.num_features == 2
    assert not model.has_likelihood
    data = model.simulate(3, rng=rng)
    assert data["y"].shape == (3, 6, 2)
    assert model.check_data({"y": data["y"][0]})["y"].shape == (1, 6, 2)
    with pytest.raises(ValueError, match=r"expected shape \(B, N, 2\).* got \(3, 6, 3\)"):
        model.check_data({"y": np.zeros((3, 6, 3))})
    with pytest.raises(ValueError, match="has no log_emission: its emission can only be simulated"):
        model.exact_membership(data, with_samples(data, ["centre"]))


def test_no_log_prior(simulated):
    with pytest.raises(ValueError, match="LogNormalMixture has no log_prior"):
        lognormal_model(log_prior=None).log_joint({"y": np.ones(3)}, {})


# --- data -------------------------------------------------------------------------------------


def test_check_data_copies_and_completes(model, simulated):
    y = simulated["y"][0].copy()
    y[0] = np.nan
    mask = np.arange(9) > 0
    checked = model.check_data({"y": y, "mask": mask.astype(int)})
    assert checked["y"].shape == (1, 9, 3)
    assert checked["y"].dtype == np.float64
    assert checked["mask"].dtype == bool
    np.testing.assert_array_equal(checked["y"][0, 0], 0.0)
    assert np.isnan(y[0]).all()
    assert set(model.check_data(simulated)) == {"y"}  # parameters and z are let through, and left


Y = np.zeros((2, 9, 3))
NAN, INF = Y.copy(), Y.copy()
NAN[1, 2, 0], INF[0, 8, 1] = np.nan, -np.inf
BAD_DATA = {
    "NaN": (
        {"y": NAN},
        ValueError,
        r"data\['y'\]: .* got nan at index \[1, 2, 0\].*data\['mask'\]",
    ),
    "infinity": (
        {"y": INF},
        ValueError,
        r"finite numbers where observed, got -inf at index \[0, 8",
    ),
    "NaN in one data set": ({"y": NAN[1]}, ValueError, "got nan"),
    "too few axes": ({"y": Y[0, 0]}, ValueError, r"expected shape \(B, N, R\).* got \(3,\)"),
    "too many axes": ({"y": Y[None]}, ValueError, r"got \(1, 2, 9, 3\)"),
    "number": ({"y": 1.0}, ValueError, r"expected shape \(B, N, R\).* got \(\)"),
    "ragged": (
        {"y": [[1.0], [1.0, 2.0]]},
        ValueError,
        r"data\['y'\]: expected an array of numbers",
    ),
    **{
        name: ({"y": y}, ValueError, rf"data\['y'\]: expected an array of numbers: {match}")
        for name, (y, match) in {
            "text": ([["a"]], "got text"),
            "numbers as text": (Y.astype(str), "got text"),
            "some as text": ([["1", None]], "got text"),
            "bytes": (Y.astype("S"), "got text"),
            "complex": (Y + 1j, "got complex128"),
            "complex in a list": ([[1j]], "got complex128"),
            "dates": (Y.astype("datetime64[D]"), "got datetime64"),
            "times": (Y.astype("timedelta64[s]"), "got timedelta64"),
            "dictionary": ({"a": 1}, "float.* not 'dict'"),
            "set": ({1.0, 2.0}, "float.* not 'set'"),
            "generator": ((x for x in Y), "float.* not 'generator'"),
        }.items()
    },
    **{
        f"masked {name}": (
            data,
            ValueError,
            rf"data\['{key}'\]: expected an array without a mask of its own.*data\['mask'\]",
        )
        for name, key, data in [
            ("array", "y", {"y": np.ma.masked_array(Y, mask=Y == 0)}),
            ("array without a mask", "y", {"y": np.ma.masked_array(Y)}),
            ("arrays in a list", "y", {"y": [np.ma.masked_array(y) for y in Y]}),
            ("number", "y", {"y": [1.0, np.ma.masked]}),
            ("mask", "mask", {"y": Y, "mask": np.ma.masked_array(np.ones((2, 9)))}),
        ]
    },
    "no y": ({}, ValueError, r"expected the key 'y' .*got \[\]"),
    "y is None": ({"y": None}, ValueError, r"expected shape"),
    "unknown key": ({"y": Y, "x": 1}, ValueError, r"expected the key 'y' .*got \['x', 'y'\]"),
    "not a mapping": (Y, TypeError, "data: expected a dictionary with key 'y', got ndarray"),
    "no observations": (
        {"y": Y[:, :0]},
        ValueError,
        r"at least one observation, got shape \(2, 0, 3",
    ),
    "no replicates": ({"y": Y[:, :, :0]}, ValueError, "at least one observation"),
    "no data sets": ({"y": Y[:0]}, ValueError, "at least one observation"),
    "mask shape": (
        {"y": Y, "mask": np.ones((2, 8))},
        ValueError,
        r"data\['mask'\]: expected shape \(2, 9\), got \(2, 8\)",
    ),
    "mask of one data set": (
        {"y": Y, "mask": np.ones(9)},
        ValueError,
        r"data\['mask'\]: expected shape \(2, 9\), got \(9,\)",
    ),
    "replicate mask shape": (
        {"y": Y, "replicate_mask": np.ones((2, 9))},
        ValueError,
        r"data\['replicate_mask'\]: expected shape \(2, 9, 3\), got \(2, 9\)",
    ),
    "mask values": (
        {"y": Y, "mask": np.full((2, 9), 0.5)},
        ValueError,
        r"data\['mask'\]: expected booleans \(True = observed\)",
    ),
    "all masked": (
        {"y": Y, "mask": np.arange(2)[:, None] * np.ones((2, 9))},
        ValueError,
        r"every observation is masked in data set\(s\) \[0\]",
    ),
    "all replicates masked": (
        {"y": Y, "replicate_mask": np.zeros(Y.shape)},
        ValueError,
        r"every observation is masked in data set\(s\) \[0, 1\]",
    ),
}


@pytest.mark.parametrize(("data", "error", "match"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data(model, data, error, match):
    with pytest.raises(error, match=match):
        model.check_data(data)


@pytest.mark.parametrize("y", [[1, 2], [True, False], [1.0, 2.0], np.array([1, 2], dtype=object)])
def test_whatever_is_a_number_is_one(y):
    assert lognormal_model().check_data({"y": y})["y"].dtype == np.float64


def test_replicate_mask_without_replicates():
    with pytest.raises(ValueError, match="LogNormalMixture has no replicates"):
        lognormal_model().check_data({"y": np.ones(3), "replicate_mask": np.ones(3)})
    with pytest.raises(ValueError, match="num_reps: LogNormalMixture has no replicates, got 2"):
        lognormal_model().simulate(2, rng=np.random.default_rng(0), num_reps=2)


BAD_DRAWS = {
    "number of components": (
        {"weights": np.full((4, 7, 4), 0.25)},
        r"parameters\['weights'\]: expected shape \(\.\.\., 3\), got \(4, 7, 4\)",
    ),
    "weights": ({"weights": np.full((4, 7, 3), 0.3)}, "sum to one .* got .0.3 0.3 0.3"),
    "order": ({"means": np.zeros((4, 7, 3))}, r"parameters\['means'\]: .*increase strictly"),
    "missing": ({"means": None}, r"expected exactly \['weights', 'means'\], got \['weights'\]"),
    "other draws": ({"means": np.ones((4, 6, 3)).cumsum(-1)}, r"leading axes \(4, 7\) as in"),
}


@pytest.mark.parametrize(("change", "match"), BAD_DRAWS.values(), ids=BAD_DRAWS)
def test_bad_draws(model, simulated, parameters, change, match):
    for method in (model.exact_membership, model.log_likelihood, model.log_joint):
        with pytest.raises(ValueError, match=match):
            method(simulated, {k: v for k, v in (parameters | change).items() if v is not None})


def test_draws_without_sample_axis(model, simulated):
    parameters = {name: simulated[name] for name in model.parameter_names}
    with pytest.raises(ValueError, match=r"parameters: expected leading axes \(B, S\), got \(4,\)"):
        model.log_joint(simulated, parameters)


# --- bad models -------------------------------------------------------------------------------

BAD_GAUSSIAN = {
    "one component": ({"num_components": 1}, "num_components: expected at least 2, got 1"),
    "scale": ({"scale": 0.0}, "scale: expected a positive number, got 0.0"),
    "means_scale": ({"means_scale": np.inf}, "means_scale: expected a positive number, got inf"),
    "concentration": ({"concentration": -1}, "concentration: expected a positive number, got -1"),
    "NaN": ({"scale": np.nan}, "scale: expected a positive number, got nan"),
    "K locations": (
        {"means_location": [0.0, 1.0]},
        "means_location: expected 3 finite non-decreasing",
    ),
    "order": (
        {"means_location": [2.0, 1.0, 0.0]},
        "means_location: expected 3 finite non-decreasing",
    ),
    "location NaN": ({"means_location": [0.0, 1.0, np.nan]}, "means_location: expected 3"),
    "num_obs": ({"num_obs": 0}, "num_obs: expected a positive integer or an increasing pair"),
    "range": ({"num_obs": (20, 10)}, r"num_obs: .* got \(20, 10\)"),
    "three numbers": ({"num_obs": (1, 2, 3)}, r"num_obs: .* got \(1, 2, 3\)"),
    "fraction": ({"num_reps": 1.5}, "num_reps: .* got 1.5"),
    "text": ({"num_obs": "many"}, "num_obs: .* got 'many'"),
}


@pytest.mark.parametrize(("arguments", "match"), BAD_GAUSSIAN.values(), ids=BAD_GAUSSIAN)
def test_bad_gaussian_mixture(arguments, match):
    with pytest.raises(ValueError, match=match):
        GaussianMixture(**arguments)


def prior_with(**values):
    """The log-normal model's prior with some parameters replaced by functions of the size."""
    prior = lognormal_model().prior
    return lambda rng, size: prior(rng, size) | {name: f(size) for name, f in values.items()}


def simplex_prior(weights):
    return {
        "prior": prior_with(weights=lambda size: np.tile(weights, (size, 1))),
        "structure": Independent("weights"),
        "constraints": {"weights": simplex},
    }


OTHER = np.random.default_rng(0)  # no generator of a model
BAD_MODELS = {
    "prior is no function": ({"prior": {}}, TypeError, "prior: expected a callable, got dict"),
    "emission is no function": ({"emission": None}, TypeError, "emission: expected a callable"),
    "structure": (
        {"structure": "weights"},
        TypeError,
        "structure: expected .*Independent.* got str",
    ),
    "prior returns an array": (
        {"prior": lambda rng, size: np.zeros((size, 2))},
        TypeError,
        "prior: expected a dictionary of arrays, got ndarray",
    ),
    "prior returns nothing": ({"prior": lambda rng, size: {}}, TypeError, "prior: expected a dict"),
    "no batch axis": (
        {"prior": prior_with(sigma=lambda size: 1.0)},
        ValueError,
        r"prior: expected 'sigma' of shape \(batch_size, ...\), here \(2, ...\), got \(\)",
    ),
    "batch size ignored": (
        {"prior": prior_with(sigma=lambda size: np.ones(2))},
        ValueError,
        r"'sigma' of shape \(batch_size, ...\), here \(3, ...\), got \(2,\)",
    ),
    "shape changes": (
        {"prior": prior_with(sigma=lambda size: np.ones((size, size)))},
        ValueError,
        "prior: shapes change with the batch size",
    ),
    "matrix": (
        {"prior": prior_with(sigma=lambda size: np.ones((size, 2, 2)))},
        ValueError,
        "prior: parameter 'sigma' .* must be a scalar or a vector",
    ),
    "constraint of no parameter": (
        {"constraints": {"scale": positive}},
        ValueError,
        r"constraints: expected parameters of the prior .* got \['scale'\]",
    ),
    "prior outside of its constraint": (
        {"prior": prior_with(sigma=lambda size: -np.ones(size))},
        ValueError,
        r"parameters\['sigma'\]: expected positive values, got -1",
    ),
    "prior returns NaN": (
        {"prior": prior_with(sigma=lambda size: np.full(size, np.nan))},
        ValueError,
        r"parameters\['sigma'\]: expected finite numbers",
    ),
    "weights": (
        simplex_prior([0.5, 0.6]),
        ValueError,
        r"'weights'\]: .*sum to one.* got \[0\.5 0\.6",
    ),
    "weights without simplex": (
        simplex_prior([0.5, 0.5]) | {"constraints": {}},
        ValueError,
        "constraints: expected abmtools.simplex for 'weights'",
    ),
    "K that does not match": (
        simplex_prior([0.1, 0.1, 0.8]),
        ValueError,
        r"emission: failed with parameters of shapes .*'locations': \(2,\).* indicators 0 to 2: ",
    ),
    "weights that are missing": (
        {"structure": Independent("pi")},
        ValueError,
        "structure: expected a parameter named 'pi' in the prior",
    ),
    "emission without y": (
        {"emission": lambda rng, parameters, z: {"x": z}},
        ValueError,
        r"emission: expected the key \"y\" .*\"replicate_mask\", got \['x'\]",
    ),
    "emission with another key": (
        {"emission": lambda rng, parameters, z: {"y": z * 1.0, "x": z}},
        ValueError,
        r"emission: expected the key \"y\" .*\"replicate_mask\", got \['x', 'y'\]",
    ),
    "emission of a parameter": (
        {"emission": lambda rng, parameters, z: {"y": z * 1.0, "sigma": np.ones(len(z))}},
        ValueError,
        r"got \['sigma', 'y'\]",
    ),
    "emission returns an array": (
        {"emission": lambda rng, parameters, z: z * 1.0},
        TypeError,
        "emission: expected a dictionary of arrays, got ndarray",
    ),
    "emission returns nothing": (
        {"emission": lambda rng, parameters, z: None},
        TypeError,
        "emission: expected a dictionary of arrays, got NoneType",
    ),
    "y of text": (
        {"emission": lambda rng, parameters, z: {"y": z.astype(str)}},
        ValueError,
        r"emission: .*data\['y'\]: expected an array of numbers: got text",
    ),
    "y of complex numbers": (
        {"emission": lambda rng, parameters, z: {"y": z + 1j}},
        ValueError,
        r"emission: .*data\['y'\]: expected an array of numbers: got complex128",
    ),
    "y of NaN": (
        {"emission": lambda rng, parameters, z: {"y": np.full(z.shape, np.nan)}},
        ValueError,
        r"emission: .*data\['y'\]: expected finite numbers where observed, got nan",
    ),
    "mask of the wrong shape": (
        {"emission": lambda rng, parameters, z: {"y": z, "mask": np.ones(z.shape[1], bool)}},
        ValueError,
        r"emission: .*data\['mask'\]: expected shape \(3, 10\), got \(10,\)",
    ),
    "replicate mask without replicates": (
        {"emission": lambda rng, parameters, z: {"y": z, "replicate_mask": z < 2}},
        ValueError,
        r"emission: .*LogNormalMixture has no replicates",
    ),
    "shape of y": (
        {"emission": lambda rng, parameters, z: {"y": z[:, 0]}},
        ValueError,
        r"emission: expected \"y\" of shape \(B, N\[, D\]\) = \(3, 10, ...\).* got \(3,\)",
    ),
    "y transposed": (
        {"emission": lambda rng, parameters, z: {"y": z.T}},
        ValueError,
        r"emission: expected \"y\" .* got \(10, 3\)",
    ),
    "feature axis of length one": (
        {"emission": lambda rng, parameters, z: {"y": z[..., None]}},
        ValueError,
        r"emission: .* without an axis D of length one, got \(3, 10, 1\)",
    ),
    "replicates that emission ignores": (
        {"num_reps": 2},
        ValueError,
        "emission: expected emission.* exactly when the model has num_reps, got num_reps=",
    ),
    "features of a data set alone": (
        {"dataset_features": lambda data: data["y"][..., None]},
        ValueError,
        "dataset_features: expected observation_features beside it",
    ),
    "features of the wrong shape": (
        {"observation_features": lambda data: data["y"]},
        ValueError,
        r"observation_features: expected shape \(B, N, F\)",
    ),
    "features that are not finite": (
        {"observation_features": lambda data: np.full((*data["y"].shape, 2), np.inf)},
        ValueError,
        "observation_features: expected finite numbers",
    ),
    "features of other observations": (
        {"observation_features": lambda data: data["y"][..., None] - data["y"].mean()},
        ValueError,
        "observation_features: expected each row to be a function of its own observation",
    ),
    "prior with random numbers of its own": (
        {"prior": lambda rng, batch_size: {"weights": OTHER.dirichlet([2, 2], batch_size)}},
        ValueError,
        "prior: expected the same 'weights' from generators with the same seed",
    ),
    "emission with random numbers of its own": (
        {"emission": lambda rng, parameters, z: {"y": OTHER.normal(z)}},
        ValueError,
        "emission: expected the same 'y' from generators with the same seed",
    ),
    "emission wants replicates": (
        {"emission": lambda rng, parameters, z, num_reps: {"y": z}},
        ValueError,
        "got num_reps=None and a fourth argument",
    ),
}


@pytest.mark.parametrize(("parts", "error", "match"), BAD_MODELS.values(), ids=BAD_MODELS)
def test_bad_model(parts, error, match):
    with pytest.raises(error, match=match):
        lognormal_model(**parts)


def test_emission_that_masks_whole_data_sets():
    def emission(rng, parameters, z):
        observed = np.arange(len(z))[:, None] + 0 * z > 0
        return {"y": np.where(observed, z, np.nan), "mask": observed}

    match = r"emission: it returns bad data, data: every observation is masked in .* \[0\]"
    with pytest.raises(ValueError, match=match):
        lognormal_model(emission=emission)


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_reserved_names(name):
    with pytest.raises(ValueError, match=rf"prior: expected names that .* got \['{name}'\]"):
        lognormal_model(prior=prior_with(**{name: np.ones}))


def test_name_of_a_dimension():
    """A vector of another length than K has a dimension of its own."""
    prior = prior_with(slopes=lambda size: np.ones((size, 3)), slopes_dim_0=np.ones)
    with pytest.raises(ValueError, match=r"prior: expected names that .* got \['slopes_dim_0'\]"):
        lognormal_model(prior=prior)


@pytest.mark.parametrize("size", [(20, 60), [20], 2.0, "20", 0, -1], ids=repr)
def test_a_simulation_has_one_size(model, size):
    for argument in ("num_obs", "num_reps"):
        with pytest.raises(ValueError, match=f"{argument}: expected one positive integer, got"):
            model.simulate(2, rng=np.random.default_rng(0), **{argument: size})


@pytest.mark.parametrize(
    "log_prior",
    [
        lambda parameters: 0.0,
        lambda parameters: parameters["locations"].sum(),
        lambda parameters: parameters["sigma"][:, :1],
    ],
    ids=["constant", "no axis", "one draw"],
)
def test_log_prior_of_the_wrong_shape(rng, log_prior):
    model = lognormal_model(log_prior=log_prior)
    data = model.simulate(2, rng=rng, num_obs=5)
    parameters = {name: np.stack([data[name]] * 3, axis=1) for name in model.parameter_names}
    with pytest.raises(ValueError, match=r"log_prior: expected shape \(B, S\) = \(2, 3\), got"):
        model.log_joint({"y": data["y"]}, parameters)


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"weights": [[30.0, 50, 20]], "means": [[-1.8, -0.5, 1.2]]}, "parameters\\['weights'\\]"),
        ({"weights": [[0.3, 0.5, 0.2]], "means": np.zeros((4, 3))}, "expected leading axes"),
        ({"weights": [0.3, 0.5, 0.2], "means": [-1.8, -0.5, 1.2]}, "expected one leading axis"),
        ({"weights": [[0.3, 0.5, 0.2]]}, "expected exactly"),
    ],
)
def test_parameters_to_simulate_from_are_checked(parameters, match):
    model = GaussianMixture()
    with pytest.raises(ValueError, match=match):
        model.simulate_data(
            {name: np.array(x) for name, x in parameters.items()}, rng=np.random.default_rng(1)
        )


def test_the_class_of_a_structure_is_none():
    with pytest.raises(TypeError, match=r"structure: expected a structure such as .*Independent"):
        MixtureModel(
            prior=lambda rng, size: {"mean": rng.normal(size=size)},
            structure=Independent,
            emission=lambda rng, parameters, z: {"y": rng.normal(size=z.shape)},
        )


def test_a_seed_is_no_generator():
    model = GaussianMixture()
    theta = model.prior(np.random.default_rng(1), 2)
    for simulate in (
        lambda: model.simulate(2, rng=1),
        lambda: model.simulate_data(theta, rng=1),
    ):
        with pytest.raises(TypeError, match=r"rng: expected a generator such as .*, got 1"):
            simulate()


def test_log_emission_of_the_wrong_shape(rng):
    model = lognormal_model(log_emission=lambda data, parameters: np.zeros((2, 1, 5, 3)))
    data = model.simulate(2, rng=rng, num_obs=5)
    with pytest.raises(ValueError, match=r"log_emission: expected shape \(2, 1, 5, 2\), got"):
        model.exact_membership(data, with_samples(data, model.parameter_names))

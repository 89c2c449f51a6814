"""Stan: the programs against NumPy and grids, the DataTree, the warnings, the engines."""

import sys
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from unittest.mock import create_autospec

import arviz_base
import arviz_stats
import cmdstanpy
import h5py
import numpy as np
import pytest
import stanli
import xarray
from scipy.special import logsumexp, softmax
from scipy.stats import beta, dirichlet, lognorm, norm

from abmtools import Markov
from abmtools.models import GaussianLocationMixture, GaussianMixture
from abmtools.stan import StanDiagnosticsWarning, checks, engines, sample
from abmtools.stan.engines import compile_stanli

PROGRAMS = files("abmtools.stan") / "programs"
short = pytest.mark.filterwarnings("ignore::abmtools.stan.StanDiagnosticsWarning")
WEIGHTS, MEANS = np.array([0.3, 0.5, 0.2]), np.array([-1.8, -0.5, 1.2])


@dataclass
class Structure:
    """Stands in for Independent."""

    weights: object = "weights"
    exchangeable: bool = True


@dataclass
class Model:
    """The part of a MixtureModel that Stan needs, for programs that are no model of abmtools."""

    stan_program: object
    hyperparameters: dict = field(default_factory=dict)
    parameter_shapes: dict = field(default_factory=lambda: {"weights": (2,), "means": (2,)})
    num_components: int = 2
    structure: Structure = field(default_factory=Structure)
    num_reps: int | None = None
    name: str = "ToyModel"

    @property
    def parameter_names(self):
        return list(self.parameter_shapes)

    @property
    def parameter_dims(self):
        return {name: ("component",) * len(s) for name, s in self.parameter_shapes.items()}

    @property
    def observation_dims(self):
        return ("obs",) if self.num_reps is None else ("obs", "replicate")

    def check_data(self, data):
        return {key: np.asarray(value)[None] for key, value in data.items()}

    def stan_data(self, data):
        observed = data.get("mask", np.ones(len(data["y"]), dtype=bool))
        return {"N": observed.sum(), "y": data["y"][observed]} | self.hyperparameters


def gaussian(y, num_components, **prior):
    """The shipped Gaussian program with any K (GaussianMixture needs two components)."""
    model = Model(
        PROGRAMS / "gaussian_mixture.stan",
        parameter_shapes={"weights": (num_components,), "means": (num_components,)},
        num_components=num_components,
    )
    model.stan_data = lambda data: {
        "N": len(y),
        "K": num_components,
        "y_mean": data["y"],
        "n_reps": np.ones(len(y), dtype=int),
        "scale": 1.0,
        **prior,
    }
    return model


def lognormal(num_components, **hyperparameters):
    return Model(
        PROGRAMS / "lognormal_mixture.stan",
        hyperparameters={"K": num_components} | hyperparameters,
        parameter_shapes=dict.fromkeys(("weights", "locations", "scales"), (num_components,)),
        num_components=num_components,
    )


@pytest.fixture(scope="module")
def model():
    return GaussianMixture()


@pytest.fixture(scope="module")
def data(model):
    parameters = {"weights": WEIGHTS[None], "means": MEANS[None]}
    rng = np.random.default_rng(3)
    return {"y": model.simulate_data(parameters, rng=rng, num_obs=60, num_reps=3)["y"]}


@pytest.fixture(scope="module")
def tree(model, data):
    return sample(model, data, engine="stanli", chains=4, draws=500, seed=2)


# --- the programs' densities --------------------------------------------------------------------


def differences(program, stan_data, points, log_density):
    """Stan's log density on the unconstrained scale minus a reference, at several points."""
    mir = compile_stanli(Path(program).read_text(encoding="utf-8"))
    compiled = stanli.Model(mir=mir, data=stan_data)
    return np.array(
        [
            compiled.log_prob_grad(
                compiled.unconstrain({name: value.tolist() for name, value in theta.items()})
            )[0]
            - log_density(**theta)
            for theta in points
        ]
    )


@pytest.mark.parametrize("num_components", [1, 2, 3, 5])
def test_gaussian_program_has_the_density_of_its_model(num_components):
    rng = np.random.default_rng(num_components)
    replicates = [rng.normal(0, 2, size=rng.integers(1, 5)) for _ in range(30)]
    prior = {
        "concentration": rng.uniform(0.5, 3, num_components),
        "location": np.sort(rng.normal(size=num_components)),
        "prior_scale": 1.3,
        "scale": 0.8,
    }
    stan_data = prior | {
        "N": 30,
        "K": num_components,
        "y_mean": [y.mean() for y in replicates],
        "n_reps": [y.size for y in replicates],
    }

    def log_density(weights, means):
        log_joint = np.log(weights) + [
            norm.logpdf(y[:, None], means, prior["scale"]).sum(axis=0) for y in replicates
        ]
        log_jacobian = np.log(weights).sum() + np.log(np.diff(means)).sum()
        log_weights_prior = ((prior["concentration"] - 1) * np.log(weights)).sum()
        log_means_prior = norm.logpdf(means, prior["location"], prior["prior_scale"]).sum()
        return (
            logsumexp(log_joint, axis=1).sum() + log_weights_prior + log_means_prior + log_jacobian
        )

    points = [
        {
            "weights": rng.dirichlet(np.ones(num_components)),
            "means": np.sort(rng.normal(0, 3, num_components)),
        }
        for _ in range(6)
    ]
    found = differences(PROGRAMS / "gaussian_mixture.stan", stan_data, points, log_density)
    np.testing.assert_allclose(found, found[0], rtol=0, atol=1e-8)


@pytest.mark.parametrize("num_components", [1, 2, 4])
def test_lognormal_program_has_the_density_of_its_model(num_components):
    rng = np.random.default_rng(num_components)
    y = rng.lognormal(-0.5, 0.7, size=40)
    concentration = rng.uniform(0.5, 3, num_components)
    location = np.sort(rng.normal(size=num_components))
    stan_data = {
        "N": 40,
        "K": num_components,
        "y": y,
        "concentration": concentration,
        "location": location,
        "location_scale": 0.6,
        "scale_median": 0.3,
        "scale_sigma": 0.5,
    }

    def log_density(weights, locations, scales):
        log_joint = np.log(weights) + lognorm.logpdf(y[:, None], scales, scale=np.exp(locations))
        log_prior = (
            dirichlet.logpdf(weights, concentration) if num_components > 1 else 0.0
        ) + norm.logpdf(locations, location, 0.6).sum()
        log_prior += lognorm.logpdf(scales, 0.5, scale=0.3).sum()
        steps = np.log(np.diff(locations)).sum()
        log_jacobian = np.log(weights).sum() + steps + np.log(scales).sum()
        return logsumexp(log_joint, axis=1).sum() + log_prior + log_jacobian

    points = [
        {
            "weights": rng.dirichlet(np.ones(num_components)),
            "locations": np.sort(rng.normal(size=num_components)),
            "scales": rng.lognormal(np.log(0.3), 0.5, size=num_components),
        }
        for _ in range(6)
    ]
    found = differences(PROGRAMS / "lognormal_mixture.stan", stan_data, points, log_density)
    np.testing.assert_allclose(found, found[0], rtol=0, atol=1e-8)


def test_lognormal_program_refuses_data_that_are_not_positive():
    model = lognormal(
        1,
        concentration=[1.0],
        location=[0.0],
        location_scale=1.0,
        scale_median=1.0,
        scale_sigma=1.0,
    )
    with pytest.raises(RuntimeError, match="y: expected positive numbers, got 0"):
        sample(model, {"y": [1.0, 0.0]}, engine="stanli")


def test_gaussian_mixture_has_the_log_joint_of_its_program(model, data):
    rng = np.random.default_rng(0)
    y = np.where(rng.random(data["y"].shape) < 0.2, np.nan, data["y"])
    checked = model.check_data({"y": y, "replicate_mask": ~np.isnan(y)})
    single = {key: value[0] for key, value in checked.items()}

    def log_density(**theta):
        theta = {name: value[None, None] for name, value in theta.items()}
        jacobian = model.log_det_jacobian(theta)
        return (model.log_joint(checked, theta) - jacobian).item()

    points = [{key: value[0] for key, value in model.prior(rng, 1).items()} for _ in range(5)]
    found = differences(model.stan_program, model.stan_data(single), points, log_density)
    np.testing.assert_allclose(found, found[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("num_components", [1, 2, 4])
def test_location_mixture_has_the_log_joint_of_its_program(num_components):
    model = GaussianLocationMixture(num_components, concentration=1.7, scale_prior=(0.3, 0.6))
    rng = np.random.default_rng(num_components)
    y = rng.normal(0, 2, size=(1, 40))
    checked = model.check_data({"y": y, "mask": rng.random(y.shape) < 0.8})
    single = {key: value[0] for key, value in checked.items()}

    def log_density(**theta):
        theta = {name: value[None, None] for name, value in theta.items()}
        return (model.log_joint(checked, theta) - model.log_det_jacobian(theta)).item()

    points = [{key: value[0] for key, value in model.prior(rng, 1).items()} for _ in range(5)]
    found = differences(model.stan_program, model.stan_data(single), points, log_density)
    np.testing.assert_allclose(found, found[0], rtol=0, atol=1e-6)


@short
def test_membership_of_the_location_mixture():
    model = GaussianLocationMixture(2)
    y = np.concatenate([np.linspace(-4, -2, 15), np.linspace(1, 3, 25)])
    tree = sample(model, {"y": y}, engine="stanli", chains=2, draws=50, seed=3)
    theta = {name: tree.posterior[name].values[:1] for name in model.parameter_names}
    exact = model.exact_membership({"y": y}, theta)
    np.testing.assert_allclose(tree.posterior["membership"].values[:1], exact, atol=1e-6)


# --- the draws ----------------------------------------------------------------------------------


def assert_moments(draws, mean, sd):
    """Within what some 2,000 effective draws allow."""
    np.testing.assert_allclose(draws.mean(), mean, atol=0.09 * sd)
    np.testing.assert_allclose(draws.std(), sd, rtol=0.07)


def test_one_component_matches_the_conjugate_posterior():
    y = np.random.default_rng(1).normal(0.7, 1.0, size=10)
    model = gaussian(y, 1, concentration=[2.0], location=[-1.0], prior_scale=0.5)
    posterior = sample(model, {"y": y}, engine="stanli", chains=2, draws=2000).posterior
    precision = 1 / 0.5**2 + 10
    assert_moments(
        posterior["means"].values, (-1.0 / 0.5**2 + y.sum()) / precision, precision**-0.5
    )
    assert np.all(posterior["weights"] == 1)
    assert np.all(posterior["membership"] == 1)


def test_separate_components_match_the_conjugate_posterior():
    rng = np.random.default_rng(2)
    low, high = rng.normal(-15, 1, size=12), rng.normal(15, 1, size=5)
    y = np.concatenate([low, high])
    model = gaussian(y, 2, concentration=[2.0, 3.0], location=[-14.0, 14.0], prior_scale=1.0)
    posterior = sample(model, {"y": y}, engine="stanli", chains=2, draws=2000).posterior
    weight = beta(2 + 12, 3 + 5)
    assert_moments(posterior["weights"].values[..., 0], weight.mean(), weight.std())
    for k, (location, group) in enumerate([(-14.0, low), (14.0, high)]):
        precision = 1 + group.size
        mean = (location + group.sum()) / precision
        assert_moments(posterior["means"].values[..., k], mean, precision**-0.5)
    expected = np.eye(2)[(y > 0).astype(int)]
    np.testing.assert_allclose(posterior["membership"].mean(("chain", "draw")), expected, atol=1e-9)


def test_overlapping_components_match_a_grid():
    y = np.array([-1.9, -1.1, -0.8, -0.3, 0.1, 0.4, 0.9, 1.6, 2.2, 2.5])
    model = gaussian(y, 2, concentration=[2.0, 2.0], location=[-1.0, 1.0], prior_scale=0.7)
    posterior = sample(model, {"y": y}, engine="stanli", draws=2000, seed=4).posterior

    w, first, second = np.meshgrid(
        np.linspace(0.005, 0.995, 50),
        np.linspace(-4.5, 3, 70),
        np.linspace(-3, 4.5, 70),
        indexing="ij",
    )
    scores = [
        np.stack([np.log(w) + norm.logpdf(yi, first), np.log1p(-w) + norm.logpdf(yi, second)])
        for yi in y
    ]
    log_prior = np.log(w * (1 - w)) + norm.logpdf(first, -1, 0.7) + norm.logpdf(second, 1, 0.7)
    log_density = log_prior + sum(logsumexp(s, axis=0) for s in scores)
    p = softmax(np.where(first < second, log_density, -np.inf))
    grid = {("weights", 0): w, ("means", 0): first, ("means", 1): second}
    for (name, k), values in grid.items():
        mean = (p * values).sum()
        assert_moments(
            posterior[name].values[..., k], mean, np.sqrt((p * (values - mean) ** 2).sum())
        )
    membership = [(p * softmax(s, axis=0)[0]).sum() for s in scores]
    found = posterior["membership"].mean(("chain", "draw")).values[:, 0]
    np.testing.assert_allclose(found, membership, atol=0.015)


def test_lognormal_program_matches_a_grid():
    y = np.random.default_rng(5).lognormal(-0.5, 0.4, size=12)
    model = lognormal(
        1,
        concentration=[1.0],
        location=[0.0],
        location_scale=0.5,
        scale_median=0.3,
        scale_sigma=0.5,
    )
    posterior = sample(model, {"y": y}, engine="stanli", draws=2000, seed=4).posterior
    location, scale = np.meshgrid(
        np.linspace(-1.5, 0.5, 300), np.linspace(0.1, 1.5, 300), indexing="ij"
    )
    log_density = norm.logpdf(location, 0, 0.5) + lognorm.logpdf(scale, 0.5, scale=0.3)
    log_density += sum(norm.logpdf(np.log(yi), location, scale) for yi in y)
    p = softmax(log_density)
    for name, values in {"locations": location, "scales": scale}.items():
        mean = (p * values).sum()
        assert_moments(posterior[name].values, mean, np.sqrt((p * (values - mean) ** 2).sum()))


def test_membership_is_that_of_the_model(model, data, tree):
    parameters = {
        name: tree.posterior[name].values.reshape(1, -1, 3) for name in model.parameter_names
    }
    expected = model.exact_membership(data, parameters)[0]
    found = tree.posterior["membership"].values.reshape(expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@short
def test_a_seed_repeats_a_run_on_any_number_of_cores(model, data):
    def draws(**options):
        settings = {"engine": "stanli", "chains": 2, "warmup": 200, "draws": 250}
        return sample(model, data, **settings | options).posterior["means"].values

    first = draws(seed=7, cores=1)
    np.testing.assert_array_equal(first, draws(seed=7, cores=2))
    assert not np.array_equal(first, draws(seed=8))
    assert not np.array_equal(first[0], first[1])


# --- the DataTree -------------------------------------------------------------------------------


def test_tree_has_named_dimensions(tree):
    assert set(tree.children) == {"posterior", "sample_stats", "observed_data"}
    assert {name: variable.dims for name, variable in tree.posterior.data_vars.items()} == {
        "weights": ("chain", "draw", "component"),
        "means": ("chain", "draw", "component"),
        "membership": ("chain", "draw", "obs", "component"),
    }
    sizes = {"chain": 4, "draw": 500, "obs": 60, "component": 3}
    assert dict(tree.posterior.sizes) == sizes
    for dim, size in sizes.items():
        np.testing.assert_array_equal(tree.posterior[dim], np.arange(size))
    assert tree.observed_data["y"].dims == ("obs", "replicate")


def test_tree_has_sampler_statistics(tree):
    statistics = tree.sample_stats
    assert {name: variable.dtype.kind for name, variable in statistics.data_vars.items()} == {
        "lp": "f",
        "acceptance_rate": "f",
        "step_size": "f",
        "energy": "f",
        "tree_depth": "i",
        "n_steps": "i",
        "diverging": "b",
        "reached_max_treedepth": "b",
    }
    assert all(variable.dims == ("chain", "draw") for variable in statistics.data_vars.values())
    assert np.all(statistics["n_steps"] < 2 ** (statistics["tree_depth"] + 1))
    np.testing.assert_allclose(statistics["acceptance_rate"].mean(), 0.85, atol=0.1)
    # The energy is -lp plus a kinetic energy.
    assert np.all(statistics["energy"] > -statistics["lp"])


def test_tree_says_how_it_was_made(tree):
    for attrs in (tree.attrs, tree.posterior.attrs):
        assert attrs["engine"] == "stanli"
        assert attrs["stanli_version"] == stanli.__version__
        assert attrs["program"] == "gaussian_mixture"
        assert (attrs["seed"], attrs["num_warmup"]) == (2, 1000)
        assert 0 < attrs["compile_time"] < 10
        assert 0 < attrs["sampling_time"] < 60


def test_arviz_takes_the_tree_as_it_is(tree):
    summary = arviz_stats.summary(tree, var_names=["weights", "means"])
    assert list(summary.index) == [
        f"{name}[{k}]" for name in ("weights", "means") for k in range(3)
    ]
    assert not arviz_stats.diagnose(tree, var_names=["weights", "means"], show_diagnostics=False)


def test_tree_survives_netcdf(tree, tmp_path):
    tree.to_netcdf(tmp_path / "fit.nc")
    with xarray.open_datatree(tmp_path / "fit.nc") as loaded:
        assert loaded.identical(tree)
        assert loaded.sample_stats["diverging"].dtype == bool
        assert loaded.posterior.attrs == tree.posterior.attrs
    with h5py.File(tmp_path / "fit.nc") as file:  # NetCDF has no booleans
        assert file["sample_stats/diverging"].dtype == "int8"


@short
def test_a_batch_of_one_is_a_data_set(model, data):
    single = {"y": data["y"][0]}
    options = {"engine": "stanli", "chains": 2, "warmup": 200, "draws": 250}
    batched, alone = (sample(model, d, **options) for d in (data, single))
    np.testing.assert_array_equal(batched.posterior["means"], alone.posterior["means"])


def test_generated_quantities_that_are_no_parameters_are_left_out():
    code = """parameters { vector[2] means; }
    model { means ~ normal(0, 1); }
    generated quantities { real total = sum(means); }"""
    model = Model(code, parameter_shapes={"means": (2,)})
    tree = sample(model, {"y": np.zeros(3)}, engine="stanli", chains=2)
    assert list(tree.posterior.data_vars) == ["means"]
    assert tree.attrs["program"] == "ToyModel"
    model = Model(code, parameter_shapes={"means": (2,), "total": ()})
    tree = sample(model, {"y": np.zeros(3)}, engine="stanli", chains=2)
    np.testing.assert_allclose(tree.posterior["total"], tree.posterior["means"].sum("component"))


# --- masks --------------------------------------------------------------------------------------


@short
def test_masked_observations_have_the_weights_as_membership(model, data):
    mask = np.ones(60, dtype=bool)
    mask[[0, 17, 59]] = False
    y = np.where(mask[:, None], data["y"][0], np.nan)
    options = {"engine": "stanli", "chains": 2, "warmup": 300, "draws": 300}
    masked = sample(model, {"y": y, "mask": mask}, **options)
    without = sample(model, {"y": y[mask]}, **options)
    membership = masked.posterior["membership"]
    assert membership.shape == (2, 300, 60, 3)
    np.testing.assert_array_equal(masked.posterior["means"], without.posterior["means"])
    np.testing.assert_array_equal(membership[:, :, mask], without.posterior["membership"])
    for i in np.flatnonzero(~mask):
        np.testing.assert_array_equal(membership[:, :, i], masked.posterior["weights"])
    np.testing.assert_array_equal(masked.observed_data["mask"], mask)


TOY = """data { int N; vector[N] y; }
parameters { vector[2] means; }
model { means ~ normal(0, 1); }
generated quantities { matrix[%s] membership = rep_matrix(0.5, %s); }"""


def test_masked_observations_have_fixed_weights_as_membership():
    model = Model(
        TOY % ("N, 2", "N, 2"),
        parameter_shapes={"means": (2,)},
        structure=Structure(np.array([0.25, 0.75])),
    )
    data = {"y": np.zeros(3), "mask": np.array([True, False, True])}
    membership = sample(model, data, engine="stanli", chains=2).posterior["membership"].values
    assert np.all(membership[:, :, [0, 2]] == 0.5)
    assert np.all(membership[:, :, 1] == [0.25, 0.75])


def test_a_program_may_treat_masked_observations_itself():
    """If it gives them their weights, and not what zeros in their place would have."""
    data = {"y": np.zeros(3), "mask": np.array([True, False, True])}
    right, wrong = (
        Model(
            TOY % ("N + 1, 2", "N + 1, 2"),
            parameter_shapes={"means": (2,)},
            structure=Structure(np.array(weights)),
        )
        for weights in ([0.5, 0.5], [0.25, 0.75])
    )
    membership = sample(right, data, engine="stanli", chains=2).posterior["membership"]
    assert membership.shape[2:] == (3, 2)
    assert np.all(membership == 0.5)
    with pytest.raises(ValueError, match="stan_data: expected that missing observations"):
        sample(wrong, data, engine="stanli", chains=2)


def test_membership_that_is_no_probability_is_refused():
    program = (TOY % ("N, 2", "N, 2")).replace("rep_matrix(0.5", "rep_matrix(-0.7")
    model = Model(program, parameter_shapes={"means": (2,)})
    with pytest.raises(
        ValueError, match=r"'membership' with probabilities in its rows, got .* -0.7"
    ):
        sample(model, {"y": np.zeros(3)}, engine="stanli", chains=2)


@pytest.mark.parametrize("shape", ["N + 2, 2", "N, 3"])
def test_membership_of_another_shape_is_refused(shape):
    model = Model(TOY % (shape, shape), parameter_shapes={"means": (2,)})
    with pytest.raises(ValueError, match=r"'membership' of shape \(3, 2\).*got"):
        sample(model, {"y": np.zeros(3)}, engine="stanli", chains=1)


CHAIN = """data { int N; vector[N] y; }
parameters { vector[2] means; }
model { means ~ normal(0, 1); }
generated quantities {
  matrix[N, 2] membership = rep_matrix(0.5, N, 2);
  %s
}"""


@pytest.mark.parametrize(
    ("declaration", "match"),
    [
        ("matrix[2, N] filtering = rep_matrix(0.5, 2, N);", r"'filtering' of shape \(3, 2\), also"),
        ("matrix[1, 2] filtering = rep_matrix(0.5, 1, 2);", r"'filtering' of .* got \(1, 2\)"),
        ("array[2] int path = {1, 2};", r"'path' of shape \(3,\), also .* got \(2,\)"),
        ("array[3] int path = {0, 1, 0};", "'path' with states 1 to 2, got 0 to 1"),
    ],
    ids=["transposed", "few rows", "short path", "from zero"],
)
def test_states_of_another_shape_are_refused(declaration, match):
    model = Model(CHAIN % declaration, parameter_shapes={"means": (2,)})
    with pytest.raises(ValueError, match=match):
        sample(model, {"y": np.zeros(3)}, engine="stanli", chains=1)


def test_a_chain_needs_the_membership_of_missing_observations(data):
    model = Model(
        TOY % ("N, 2", "N, 2"), parameter_shapes={"means": (2,)}, structure=Markov(np.eye(2))
    )
    masked = {"y": np.zeros(3), "mask": np.array([True, False, True])}
    with pytest.raises(ValueError, match=r"'membership' of shape \(3, 2\), also where .* missing"):
        sample(model, masked, engine="stanli", chains=1)


# --- warnings -----------------------------------------------------------------------------------

BIMODAL = """parameters { real x; }
model { target += log_mix(0.5, normal_lpdf(x | -40, 1), normal_lpdf(x | 40, 1)); }"""
FUNNEL = """parameters { real v; vector[9] x; }
model { v ~ normal(0, 3); x ~ normal(0, exp(v / 2)); }"""
NARROW = """parameters { vector[2] x; }
model { x[1] ~ normal(0, 1); x[2] ~ normal(x[1], 1e-4); }"""
NORMAL = """parameters { real x; }
model { x ~ normal(0, 1); }"""


def run_toy(code, shapes, **options):
    model = Model(code, parameter_shapes=shapes)
    return sample(model, {"y": np.zeros(1)}, engine="stanli", **options)


def test_warns_of_divergences():
    shapes = {"v": (), "x": (9,)}
    with pytest.warns(StanDiagnosticsWarning) as caught:
        tree = run_toy(FUNNEL, shapes, adapt_delta=0.6, chains=2, seed=1)
    count = int(tree.sample_stats["diverging"].sum())
    text = [str(warning.message) for warning in caught]
    assert any(f"{count} of 2000 draws ended in a divergence" in line for line in text)
    assert all(warning.filename == __file__ for warning in caught)


def test_warns_of_trees_of_maximal_depth():
    with pytest.warns(StanDiagnosticsWarning) as caught:
        tree = run_toy(NARROW, {"x": (2,)}, chains=2, warmup=100, draws=20)
    count = int((tree.sample_stats["tree_depth"] == engines.MAX_TREE_DEPTH).sum())
    assert any(
        f"{count} of 40 draws reached the maximal tree depth" in str(w.message) for w in caught
    )


def test_warns_of_chains_that_disagree():
    with pytest.warns(StanDiagnosticsWarning) as caught:
        run_toy(BIMODAL, {"x": ()}, chains=4, seed=3)
    assert any("R-hat is above 1.01 for x (worst" in str(w.message) for w in caught)


def test_warns_of_few_effective_draws():
    with pytest.warns(StanDiagnosticsWarning) as caught:
        run_toy(NORMAL, {"x": ()}, chains=4, draws=30)
    for method in ("bulk", "tail"):
        text = f"{method} effective sample size is below 400 (100 per chain) for x (lowest"
        assert any(text in str(w.message) for w in caught)


def test_warns_where_there_are_too_few_draws_for_diagnostics():
    with pytest.warns(StanDiagnosticsWarning) as caught:
        run_toy(NORMAL, {"x": ()}, chains=2, draws=2)
    assert any("R-hat is above 1.01 for x (worst: nan for x)" in str(w.message) for w in caught)
    assert any("(lowest: nan for x)" in str(w.message) for w in caught)


def test_a_good_run_does_not_warn(recwarn):
    run_toy(NORMAL, {"x": ()}, chains=4)
    run_toy(NORMAL, {"x": ()}, chains=1)
    assert not recwarn.list


def make_tree(**posterior):
    flags = np.zeros((2, 1000), dtype=bool)
    return arviz_base.from_dict(
        {
            "posterior": posterior,
            "sample_stats": {"diverging": flags, "reached_max_treedepth": flags},
        }
    )


def test_problems_name_the_scalars_concerned():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 1000, 2, 2))
    x[0, :, 1, 0] += 5
    found = checks.problems(make_tree(x=x), ["x"])
    assert len(found) == 3  # R-hat, bulk ESS, tail ESS
    assert all("x[1,0]" in line and "x[0,0]" not in line for line in found[:2])


def test_problems_are_those_of_the_parameters_that_vary():
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(size=(2, 1000, 5)), axis=1)
    tree = make_tree(x=rng.normal(size=(2, 1000)), membership=walk, one=np.ones((2, 1000, 1)))
    assert checks.problems(tree, ["x", "one"]) == []
    assert checks.problems(tree, ["one"]) == []
    assert checks.problems(tree, ["membership"])


# --- bad input ----------------------------------------------------------------------------------


def test_a_model_without_a_program_is_refused(data):
    model = GaussianMixture()
    model.stan_program = None
    with pytest.raises(ValueError, match="GaussianMixture has no stan_program"):
        sample(model, data, engine="stanli")
    model = GaussianMixture()
    model.stan_data = None
    with pytest.raises(ValueError, match="GaussianMixture has no stan_data"):
        sample(model, data, engine="stanli")


def test_a_program_that_does_not_exist_is_named(data, tmp_path):
    for program in (str(tmp_path / "none.stan"), tmp_path / "none.stan"):
        with pytest.raises(FileNotFoundError, match=r"ToyModel.*none\.stan"):
            sample(Model(program), {"y": np.zeros(3)}, engine="stanli")


def test_a_program_may_be_a_path_written_as_a_string(tmp_path):
    (tmp_path / "normal.stan").write_text(NORMAL)
    tree = run_toy(str(tmp_path / "normal.stan"), {"x": ()}, chains=2)
    assert tree.attrs["program"] == "normal"


def test_a_program_that_does_not_compile_is_refused():
    with pytest.raises(RuntimeError, match=r"(?s)emantic error.*foo"):
        run_toy("parameters { real x; }\nmodel { x ~ foo(0, 1); }", {"x": ()})


def test_data_that_do_not_fit_the_program_are_refused():
    model = Model("data { vector[2] y; }\nparameters { real x; }\nmodel { x ~ normal(0, 1); }")
    with pytest.raises(RuntimeError, match="y"):
        sample(model, {"y": np.zeros(3)}, engine="stanli")


def test_a_program_must_have_the_parameters_of_the_model():
    with pytest.raises(ValueError, match=r"ToyModel.*no \['other'\].*has \['x'\]"):
        run_toy(NORMAL, {"x": (), "other": ()}, chains=1)
    with pytest.raises(ValueError, match=r"'x' of shape \(2,\).*got \(\)"):
        run_toy(NORMAL, {"x": (2,)}, chains=1)


def test_several_data_sets_are_refused(model, data):
    with pytest.raises(ValueError, match=r"expected one data set, got 3.*sample_each"):
        sample(model, {"y": np.repeat(data["y"], 3, axis=0)}, engine="stanli")


def test_data_are_checked_by_the_model(model):
    with pytest.raises(ValueError, match="expected finite numbers"):
        sample(model, {"y": np.full((5, 2), np.nan)}, engine="stanli")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"engine": "jags"},
            r"engine: expected one of \['auto', 'stanli', 'cmdstanpy'\], got 'jags'",
        ),
        ({"chains": 0}, "chains: expected an integer of at least 1, got 0"),
        ({"warmup": 0}, "warmup: expected an integer of at least 1, got 0"),
        ({"draws": 10.5}, "draws: expected an integer of at least 1, got 10.5"),
        ({"draws": True}, "draws: expected an integer of at least 1, got True"),
        ({"cores": 0}, "cores: expected an integer of at least 1, got 0"),
        ({"seed": -1}, "seed: expected an integer of at least 0 and at most 4294967295, got -1"),
        ({"seed": 2**32}, "seed: expected an integer .* got 4294967296"),
        ({"adapt_delta": 1.0}, "adapt_delta: expected a number between 0 and 1, got 1.0"),
        ({"adapt_delta": "high"}, "adapt_delta: expected a number between 0 and 1, got 'high'"),
    ],
)
def test_arguments_are_checked(model, data, options, match):
    with pytest.raises(ValueError, match=match):
        sample(model, data, **options)


# --- engines ------------------------------------------------------------------------------------


@pytest.fixture
def no_cmdstan(monkeypatch, tmp_path):
    monkeypatch.delenv("CMDSTAN", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))


@pytest.fixture
def fake_cmdstan(monkeypatch, tmp_path):
    """CmdStan is found, and its compiled programs are played by stanli, CSV files included."""
    monkeypatch.setattr(cmdstanpy, "cmdstan_path", lambda: "/opt/cmdstan-2.38.0")
    monkeypatch.setattr(cmdstanpy, "cmdstan_version", lambda: (2, 38))
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache" / project)
    model_class = create_autospec(cmdstanpy.CmdStanModel)
    monkeypatch.setattr(cmdstanpy, "CmdStanModel", model_class)

    def play(data, chains, seed, iter_warmup, iter_sampling, adapt_delta, **options):
        source = model_class.call_args.kwargs["stan_file"]
        mir = compile_stanli(Path(source).read_text(encoding="utf-8"))
        fit = stanli.Model(mir=mir, data=data).sample(
            chains=chains,
            seed=seed,
            warmup=iter_warmup,
            samples=iter_sampling,
            delta=adapt_delta,
            refresh=0,
        )
        return cmdstanpy.from_csv([write_csv(fit, c, iter_warmup, tmp_path) for c in range(chains)])

    model_class.return_value.sample.side_effect = play
    return model_class


def write_csv(fit, chain, num_warmup, folder):
    """Write a chain as CmdStan does."""
    config = {"model": "mixture_model", "method": "sample", "num_samples": fit.n_draws}
    config |= {"num_warmup": num_warmup, "save_warmup": "false", "thin": 1, "algorithm": "hmc"}
    config |= {"metric": "diag_e", "max_depth": 10, "id": chain + 1}
    names = [name.replace("[", ".").replace(",", ".").rstrip("]") for name in fit.names]
    rows = np.concatenate([fit.sampler_stats[chain], fit.draws()[chain]], axis=1)
    lines = [f"# {key} = {value}" for key, value in config.items()]
    lines += [",".join([*stanli.SAMPLER_COLUMNS, *names]), "# Adaptation terminated"]
    lines += [f"# Step size = {fit.step_size[chain]}"]
    lines += ["# Diagonal elements of inverse mass matrix:"]
    lines += ["# " + ", ".join(map(str, fit.inv_metric[chain]))]
    lines += [",".join(f"{value:.12g}" for value in row) for row in rows]
    lines += [
        "# ",
        "#  Elapsed Time: 0.1 seconds (Warm-up)",
        "#                0.1 seconds (Sampling)",
    ]
    lines += ["#                0.2 seconds (Total)", "# "]
    path = folder / f"chain_{chain}.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@short
def test_cmdstanpy_gives_the_same_tree(fake_cmdstan, model, data):
    options = {"chains": 2, "warmup": 300, "draws": 300, "seed": 5, "adapt_delta": 0.9}
    found = sample(model, data, **options)  # engine="auto", and CmdStan is there
    expected = sample(model, data, engine="stanli", **options)
    for group in expected.children:
        xarray.testing.assert_allclose(found[group].to_dataset(), expected[group].to_dataset())
        for name, variable in expected[group].data_vars.items():
            assert found[group][name].dtype == variable.dtype
    assert found.attrs["engine"] == "cmdstanpy"
    assert found.attrs["cmdstan_version"] == "2.38"
    assert found.attrs["cmdstanpy_version"] == cmdstanpy.__version__


def test_cmdstanpy_gets_all_settings(fake_cmdstan, model, data, recwarn):
    sample(model, data, engine="cmdstanpy", chains=3, cores=2, show_progress=True, draws=500)
    options = fake_cmdstan.return_value.sample.call_args.kwargs
    assert (options["chains"], options["parallel_chains"]) == (3, 2)
    assert (options["iter_warmup"], options["iter_sampling"]) == (1000, 500)
    assert options["max_treedepth"] == engines.MAX_TREE_DEPTH
    assert options["show_progress"] is True


@short
def test_chains_start_where_they_are_told(fake_cmdstan, model, data, monkeypatch):
    inits = {
        "weights": np.array([[0.2, 0.3, 0.5], [0.1, 0.8, 0.1]]),
        "means": np.array([[-2.0, 0.0, 1.0], [-1.0, 0.5, 0.75]]),
    }
    options = {"chains": 2, "warmup": 5, "draws": 5, "inits": inits}
    sample(model, data, engine="cmdstanpy", **options)
    told = fake_cmdstan.return_value.sample.call_args.kwargs["inits"]
    assert told == [{name: x[c].tolist() for name, x in inits.items()} for c in range(2)]
    run, starts = stanli.Model.sample, []

    def recorded(compiled, **settings):
        starts.append(settings["inits"])
        return run(compiled, **settings)

    monkeypatch.setattr(stanli.Model, "sample", recorded)
    sample(model, data, engine="stanli", **options)
    np.testing.assert_allclose(starts[0][:, 2], inits["means"][:, 0])
    np.testing.assert_allclose(starts[0][:, 3:], np.log(np.diff(inits["means"])))


@pytest.mark.parametrize(
    ("inits", "match"),
    [
        ({"means": np.zeros((2, 3))}, r"inits: expected exactly \['weights', 'means'\], got"),
        (
            {"weights": np.full((2, 3), 1 / 3), "means": np.zeros(3)},
            r"inits\['means'\]: expected shape \(2, 3\), one row for each chain, got \(3,\)",
        ),
        ({"weights": np.full((2, 3), 1 / 3), "means": np.zeros((2, 3))}, "means"),
    ],
)
def test_starts_are_checked(model, data, inits, match):
    with pytest.raises(ValueError, match=match):
        sample(model, data, engine="stanli", chains=2, inits=inits)


@short
def test_cmdstanpy_compiles_in_a_cache(fake_cmdstan, model, data, tmp_path):
    before = sorted(PROGRAMS.iterdir())
    options = {"engine": "cmdstanpy", "chains": 2, "draws": 500}
    sources = []
    for _ in range(2):
        sample(model, data, **options)
        sources.append(fake_cmdstan.call_args.kwargs["stan_file"])
    assert sources[0] == sources[1]
    assert sources[0].is_relative_to(tmp_path / "cache" / "abmtools" / "stan")
    assert sources[0].name == "gaussian_mixture.stan"
    assert sources[0].read_text() == (PROGRAMS / "gaussian_mixture.stan").read_text()
    assert [path.name for path in sources[0].parent.iterdir()] == ["gaussian_mixture.stan"]
    assert sorted(PROGRAMS.iterdir()) == before

    toy = Model(NORMAL, parameter_shapes={"x": ()}, name="my model, v. 2")
    sample(toy, {"y": np.zeros(1)}, **options)
    other = fake_cmdstan.call_args.kwargs["stan_file"]
    assert other.name == "my_model_v_2.stan"
    assert other.parent != sources[0].parent


def test_cmdstanpy_without_cmdstan_says_what_to_install(no_cmdstan, model, data):
    with pytest.raises(RuntimeError, match=r"needs CmdStan, which was not found.*conda install"):
        sample(model, data, engine="cmdstanpy")


def test_auto_is_stanli_without_cmdstan(no_cmdstan):
    assert engines.select_engine("auto") == "stanli"


@pytest.mark.parametrize("engine", ["stanli", "cmdstanpy"])
def test_an_engine_that_is_not_installed_says_what_to_install(monkeypatch, model, data, engine):
    monkeypatch.setitem(sys.modules, engine, None)
    with pytest.raises(ImportError, match=rf"needs the package {engine}.*pip install {engine}"):
        sample(model, data, engine=engine)


def test_auto_without_any_engine_says_what_to_install(monkeypatch, model, data):
    monkeypatch.setitem(sys.modules, "stanli", None)
    monkeypatch.setitem(sys.modules, "cmdstanpy", None)
    with pytest.raises(ImportError, match=r"neither CmdStan nor stanli.*pip install stanli"):
        sample(model, data)


def test_progress_is_shown_on_request(capsys):
    run_toy(NORMAL, {"x": ()}, chains=2)
    assert capsys.readouterr().out == ""
    run_toy(NORMAL, {"x": ()}, chains=2, show_progress=True)
    assert "Iteration:" in capsys.readouterr().out


def test_chains_share_the_cores_of_the_process():
    assert engines.Settings(chains=4, cores=2).parallel_chains == 2
    assert engines.Settings(chains=2, cores=8).parallel_chains == 2
    assert 1 <= engines.Settings(chains=4).parallel_chains <= 4

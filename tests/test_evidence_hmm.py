"""The evidence accumulation hidden Markov model: simulator, densities, bound, Stan program."""

import numpy as np
import pytest
import stanli
from conftest import to_numpy
from scipy.special import logit
from scipy.stats import beta, binomtest, expon, kstest, truncnorm

import abmtools as abm
from abmtools import EvidenceAccumulationHMM
from abmtools.stan import sample
from abmtools.stan.engines import compile_stanli

THETA = {  # the published test data
    "stay": np.array([[0.9, 0.9]]),
    "threshold": np.array([[0.7, 2.5]]),
    "guessing_drift": np.array([4.0]),
    "controlled_drift": np.array([[3.0, 6.0]]),
    "non_decision_time": np.array([0.2]),
}


@pytest.fixture(scope="module")
def model():
    return EvidenceAccumulationHMM(num_obs=(20, 40))


@pytest.fixture(scope="module")
def data(model):
    """Thirty trials, every seventh missing; what a mask hides is no response time at all."""
    simulated = model.simulate_data(THETA, rng=np.random.default_rng(3), num_obs=30)
    mask = np.arange(30) % 7 != 4
    y = np.where(mask[:, None], simulated["y"], [-1.0, 0.5])
    return model.check_data({"y": y, "mask": mask[None]})


def prior_draws(model, data, rng, num_samples):
    """Parameters (1, S, ...) with a non-decision time that these data allow."""
    draws = {name: value[None] for name, value in model.prior(rng, num_samples).items()}
    fastest = data["y"][data["mask"], 0].min()
    return draws | {"non_decision_time": fastest * rng.uniform(0.05, 0.99, (1, num_samples))}


def one_draw(theta=THETA):
    return {name: value[:, None] for name, value in theta.items()}


# --- parameters ---------------------------------------------------------------------------------


def test_defaults_are_the_published_ones():
    model = EvidenceAccumulationHMM()
    assert (model.num_components, model.num_obs, model.num_reps) == (2, (100, 1000), None)
    assert model.stay_prior == (16, 4)
    assert model.normals == {
        "guessing_threshold": (0.5, 0.3),
        "threshold_difference": (1.5, 0.5),
        "guessing_drift": (5.5, 1.0),
        "incorrect_drift": (2.5, 0.5),
        "drift_difference": (2.5, 1.0),
    }
    assert model.non_decision_time == 0.2
    assert list(model.parameter_names) == list(THETA)
    assert model.parameter_shapes == {name: value.shape[1:] for name, value in THETA.items()}
    assert model.parameter_dims["threshold"] == ("component",)
    assert model.parameter_dims["controlled_drift"] == ("accumulator",)


def test_unconstrained_coordinates_are_the_published_ones(model, data):
    fastest = data["y"][0, data["mask"][0], 0].min()
    expected = [
        *logit([0.9, 0.9]),
        *np.log([0.7, 1.8]),
        np.log(4.0),
        *np.log([3.0, 3.0]),
        logit(0.2 / (fastest + 0.001)),
    ]
    np.testing.assert_allclose(model.unconstrain(THETA, data)[0], expected)


def test_round_trip_with_bounds_of_the_data(model, rng):
    """Each data set bounds its own non-decision time, by its fastest observed response."""
    simulated = model.simulate(6, rng=rng, num_obs=20)
    data = model.check_data({"y": simulated["y"], "mask": rng.random((6, 20)) < 0.8})
    parameters = {name: simulated[name] for name in model.parameter_names}
    u = model.unconstrain(parameters, data)
    for name, value in model.constrain(u, data).items():
        np.testing.assert_allclose(value, parameters[name], rtol=1e-10)
    times = np.where(data["mask"], data["y"][..., 0], np.inf)
    far = model.constrain(np.full((6, 8), 40.0), data)["non_decision_time"]
    np.testing.assert_allclose(far, times.min(axis=1) + 0.001)
    with pytest.raises(ValueError, match=r"data: .* bounds \['non_decision_time'\], got None"):
        model.unconstrain(parameters)


def test_log_det_jacobian_is_numerical(model, data):
    u = model.unconstrain(THETA, data)
    step = 1e-5 * np.eye(8)

    def theta(u):
        return np.concatenate([np.ravel(x) for x in model.constrain(u, data).values()])

    columns = [(theta(u + h) - theta(u - h)) / 2e-5 for h in step]
    expected = -np.linalg.slogdet(np.stack(columns))[1]
    np.testing.assert_allclose(model.log_det_jacobian(THETA, data), expected, rtol=1e-7)


def test_prior(model, rng):
    draws = model.prior(rng, 4000)
    threshold, drift = draws["threshold"], draws["controlled_drift"]
    cases = [
        (draws["stay"][:, 0], beta(16, 4)),
        (draws["stay"][:, 1], beta(16, 4)),
        (threshold[:, 0], positive_normal(0.5, 0.3)),
        (threshold[:, 1] - threshold[:, 0], positive_normal(1.5, 0.5)),
        (draws["guessing_drift"], positive_normal(5.5, 1.0)),
        (drift[:, 0], positive_normal(2.5, 0.5)),
        (drift[:, 1] - drift[:, 0], positive_normal(2.5, 1.0)),
        (draws["non_decision_time"], expon(scale=0.2)),
    ]
    for values, distribution in cases:
        assert kstest(values, distribution.cdf).pvalue > 1e-3


def positive_normal(location, scale):
    return truncnorm(-location / scale, np.inf, loc=location, scale=scale)


def test_log_prior_is_the_prior(model, rng):
    draws = model.prior(rng, 5)
    threshold, drift = draws["threshold"], draws["controlled_drift"]
    expected = (
        beta(16, 4).logpdf(draws["stay"]).sum(axis=-1)
        + positive_normal(0.5, 0.3).logpdf(threshold[:, 0])
        + positive_normal(1.5, 0.5).logpdf(threshold[:, 1] - threshold[:, 0])
        + positive_normal(5.5, 1.0).logpdf(draws["guessing_drift"])
        + positive_normal(2.5, 0.5).logpdf(drift[:, 0])
        + positive_normal(2.5, 1.0).logpdf(drift[:, 1] - drift[:, 0])
        + expon(scale=0.2).logpdf(draws["non_decision_time"])
    )
    np.testing.assert_allclose(model.log_prior(draws), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"stay_prior": (16, 0)},
        {"stay_prior": (-1, 4)},
        {"guessing_threshold": (0.5, -0.3)},
        {"threshold_difference": 1.5},
        {"guessing_drift": (np.nan, 1.0)},
        {"incorrect_drift": (2.5, 0.5, 1.0)},
        {"drift_difference": (2.5, np.inf)},
        {"non_decision_time": 0.0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_bad_settings(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        EvidenceAccumulationHMM(**options)


# --- data ---------------------------------------------------------------------------------------


def test_numbers_of_trials_are_log_uniform(rng):
    model = EvidenceAccumulationHMM()
    sizes = np.array([model.simulate(1, rng=rng)["y"].shape[1] for _ in range(300)])
    assert sizes.min() >= 100
    assert sizes.max() <= 1000
    assert kstest(np.log(sizes / 100) / np.log(10), "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    ("row", "match"),
    [([-0.1, 1.0], "positive response times in column 0, got -0.1"), ([0.4, 2.0], "got 2.0")],
    ids=["time", "response"],
)
def test_bad_data(model, row, match):
    with pytest.raises(ValueError, match=match):
        model.check_data({"y": np.array([[0.5, 1.0], row])})


# --- emission density ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def curves(model):
    """Densities on a grid of times after tau, (T, response, state), and the grid's step."""
    log_t, step = np.linspace(-12, 5, 8001, retstep=True)
    t = np.exp(log_t)
    densities = []
    for response in (0.0, 1.0):
        y = np.stack([0.2 + t, np.full(len(t), response)], axis=-1)
        densities.append(np.exp(model.emission_scores({"y": y[None]}, one_draw())[0, 0]))
    return t, np.stack(densities, axis=1) * t[:, None, None], step


def test_emission_integrates_to_one(curves):
    """Over times and both responses, in each state; while guessing, half for either response."""
    _, density, step = curves
    probabilities = density.sum(axis=0) * step
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(probabilities[:, 0], 0.5, atol=1e-6)


def test_simulator_follows_the_emission(model, curves, rng):
    """Times by their probability integral transform, given state and response, and responses."""
    t, density, step = curves
    simulated = model.simulate_data(THETA, rng=rng, num_obs=20_000)
    time, response, z = simulated["y"][0, :, 0] - 0.2, simulated["y"][0, :, 1], simulated["z"][0]
    distribution = np.cumsum(density, axis=0) * step
    for state in (0, 1):
        correct = int(response[z == state].sum())
        expected = distribution[-1, 1, state]
        assert binomtest(correct, int((z == state).sum()), expected).pvalue > 1e-3
        for given in (0, 1):
            curve = distribution[:, given, state] / distribution[-1, given, state]
            chosen = time[(z == state) & (response == given)]
            assert kstest(np.interp(chosen, t, curve), "uniform").pvalue > 1e-3


def test_chain_starts_anywhere_and_stays_as_told(model, rng):
    size = 500
    theta = {name: np.repeat(value, size, axis=0) for name, value in THETA.items()}
    theta["stay"] = np.tile([0.95, 0.7], (size, 1))
    z = model.simulate_data(theta, rng=rng, num_obs=40)["z"]
    assert binomtest(int(z[:, 0].sum()), size, 0.5).pvalue > 1e-3
    for state, stay in enumerate((0.95, 0.7)):
        followed = z[:, 1:][z[:, :-1] == state]
        assert binomtest(int((followed == state).sum()), followed.size, stay).pvalue > 1e-3


def test_no_response_comes_before_the_non_decision_time(model, data):
    """Between the fastest response and the bound, a millisecond later, the density is zero."""
    u = model.unconstrain(THETA, data)[:, None]
    assert np.all(np.isfinite(abm.diagnostics.exact.log_posterior(model, data, u)))
    u[..., -1] = 12.0  # 1e-6 below the bound
    assert np.all(abm.diagnostics.exact.log_posterior(model, data, u) == -np.inf)


def test_missing_trials(model, data):
    """At the end they change nothing; elsewhere only the chain goes through them."""
    y, mask = data["y"], data["mask"]
    theta = one_draw()
    longer = {
        "y": np.concatenate([y, np.ones((1, 3, 2))], axis=1),
        "mask": np.concatenate([mask, np.zeros((1, 3), dtype=bool)], axis=1),
    }
    np.testing.assert_allclose(
        model.log_likelihood(longer, theta), model.log_likelihood(data, theta)
    )
    assert not np.any(model.emission_scores(data, theta)[0, 0, ~mask[0]])
    filtering, smoothing = model.exact_filtering(data, theta), model.exact_membership(data, theta)
    np.testing.assert_allclose(filtering[:, :, -1], smoothing[:, :, -1])
    before, there = filtering[0, 0, 3], filtering[0, 0, 4]
    np.testing.assert_allclose(there, before @ [[0.9, 0.1], [0.1, 0.9]])


# --- Stan ---------------------------------------------------------------------------------------


def test_stan_density_is_ours(model, data, rng):
    """Both log densities of the parameters differ by a constant.

    Stan's bound of the non-decision time is the fastest response itself, so that it proposes none
    at which the density is zero.
    """
    stan_data = model.stan_data({name: value[0] for name, value in data.items()})
    program = stanli.Model(
        mir=compile_stanli(model.stan_program.read_text(encoding="utf-8")),
        data={k: np.asarray(v).tolist() for k, v in stan_data.items()},
    )
    theta = prior_draws(model, data, rng, 20)
    ours = model.log_joint(data, theta)[0]
    bounds = {"non_decision_time": np.array([stan_data["fastest"]])}
    jacobian = model.space.log_det_jacobian(theta, bounds)[0]
    theirs = [
        program.log_prob_grad(program.unconstrain({k: x[0, s].tolist() for k, x in theta.items()}))
        for s in range(20)
    ]
    difference = np.array([density for density, _ in theirs]) + jacobian - ours
    assert np.ptp(ours) > 100
    np.testing.assert_allclose(difference, difference[0], atol=1e-8)


def test_stan_data_are_of_observed_trials(model, data):
    stan_data = model.stan_data({name: value[0] for name, value in data.items()})
    assert stan_data["T"] == 30
    assert stan_data["fastest"] == data["y"][0, data["mask"][0], 0].min()
    np.testing.assert_array_equal(stan_data["observed"], data["mask"][0])


@pytest.mark.filterwarnings("ignore::abmtools.stan.StanDiagnosticsWarning")
def test_stan_states_are_exact(model, data):
    tree = sample(model, data, engine="stanli", chains=2, warmup=300, draws=200, seed=1)
    draws = tree.posterior
    theta = {
        name: draws[name].values.reshape(1, 400, *shape)
        for name, shape in model.parameter_shapes.items()
    }
    for name, exact in {
        "membership": model.exact_membership(data, theta),
        "filtering": model.exact_filtering(data, theta),
    }.items():
        np.testing.assert_allclose(draws[name].values, exact.reshape(2, 200, 30, 2), atol=1e-8)
    path, smoothing = draws["path"].values, draws["membership"].values[..., 1]
    error = np.sqrt((smoothing * (1 - smoothing)).mean(axis=(0, 1)) / 400)
    assert np.abs((path - smoothing).mean(axis=(0, 1)) / error).max() < 4
    fastest = data["y"][data["mask"], 0].min()
    assert draws["non_decision_time"].values.max() < fastest


# --- networks -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workflow():
    return abm.load_pretrained("evidence_hmm")


@pytest.fixture(scope="module")
def batch(workflow):
    return workflow.model.simulate(4, rng=np.random.default_rng(5), num_obs=120)


def test_networks_see_the_parameters_of_the_model(workflow, batch):
    """The adapter's unconstrained parameters and Jacobian, with bounds, are the model's."""
    model = workflow.model
    parameters = {name: batch[name] for name in model.parameter_names}
    u = model.unconstrain(parameters, batch)
    adapted = workflow.adapter(batch)["inference_variables"]
    np.testing.assert_allclose(to_numpy(adapted), u, rtol=1e-5, atol=1e-5)
    found = workflow.log_prob_unconstrained(batch, u[:, None])[:, 0]
    jacobian = model.log_det_jacobian(parameters, batch)
    np.testing.assert_allclose(found, workflow.estimator.log_prob(batch) - jacobian, rtol=1e-4)


def test_filtering_sees_no_future(workflow):
    """Though the unconstrained tau is relative to the fastest of all responses."""
    model, rng = workflow.model, np.random.default_rng(7)
    theta = model.prior(rng, 100)
    first, second = (model.simulate_data(theta, rng=rng, num_obs=200)["y"] for _ in range(2))
    second[:, :100] = first[:, :100]
    parameters = {name: value[:, None] for name, value in theta.items()}
    now, then = (workflow.filtering({"y": y}, parameters)[:, 0, :100] for y in (first, second))
    np.testing.assert_allclose(now, then, atol=1e-4)


def test_missing_trials_change_nothing_at_the_end(workflow, batch):
    y = np.concatenate([batch["y"], np.full((4, 30, 2), np.nan)], axis=1)
    mask = np.arange(150) < 120
    padded = {"y": y, "mask": np.broadcast_to(mask, (4, 150))}
    alone = workflow.sample(conditions={"y": batch["y"]}, num_samples=50, seed=1)
    longer = workflow.sample(conditions=padded, num_samples=50, seed=1)
    np.testing.assert_allclose(longer.unconstrained, alone.unconstrained, atol=2e-3)
    np.testing.assert_allclose(longer.smoothing[:, :, :120], alone.smoothing, atol=1e-2)

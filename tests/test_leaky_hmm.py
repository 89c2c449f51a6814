"""The leaky accumulator hidden Markov model: races, prior, states, and what it does not have."""

import sys

import numpy as np
import pytest
from scipy.stats import kstest

import abmtools as abm
from abmtools import EvidenceAccumulationHMM, LeakyAccumulatorHMM
from abmtools.models import leaky_accumulators
from abmtools.models.leaky_accumulators import DEADLINE, race


@pytest.fixture(scope="module")
def model():
    return LeakyAccumulatorHMM(num_obs=(20, 40))


def simulate_races(rng, inputs, *, leak=0.0, inhibition=0.0, threshold=1.5, size=20_000, **options):
    """Races of one parameter vector."""
    numbers = [np.array([float(x)]) for x in (leak, inhibition, threshold)]
    return race(rng, np.array([inputs]), *numbers, np.zeros(size, dtype=int), **options)


# --- the race -----------------------------------------------------------------------------------


def test_finer_steps_change_nothing(rng):
    """The continuity correction leaves no error that 20,000 races would show."""
    options = {"leak": 2.0, "inhibition": 1.5, "threshold": 1.5}
    coarse, fine = (simulate_races(rng, [3.0, 5.0], step=x, **options) for x in (0.002, 0.0002))
    assert kstest(coarse[0], fine[0]).pvalue > 1e-3
    assert abs(coarse[1].mean() - fine[1].mean()) < 4 * np.sqrt(0.5 / 20_000)


def test_mean_time_of_reflected_motion(rng):
    """Without leak and a rival a reflected Brownian motion, whose mean first passage is known.

    From zero to a with drift v: a / v - (1 - exp(-2 v a)) / (2 v^2) (solve m''/2 + v m' = -1 with
    m'(0) = 0 and m(a) = 0).
    """
    drift, threshold, size = 3.0, 1.0, 40_000
    times, won = simulate_races(rng, [drift, -50.0], threshold=threshold, size=size)
    expected = threshold / drift - (1 - np.exp(-2 * drift * threshold)) / (2 * drift**2)
    assert not won.any()
    assert abs(times.mean() - expected) < 4 * times.std() / np.sqrt(size) + 2e-4


def test_leak_inhibition_and_inputs_act_as_they_should(rng):
    plain, _ = simulate_races(rng, [3.0, 4.0])
    leaky, _ = simulate_races(rng, [3.0, 4.0], leak=2.0)
    inhibited, won = simulate_races(rng, [3.0, 4.0], inhibition=2.0)
    assert leaky.mean() > 1.1 * plain.mean()
    assert inhibited.mean() > 1.1 * plain.mean()
    assert won.mean() > 0.6
    even, won = simulate_races(rng, [3.0, 3.0], leak=1.0, inhibition=1.0)
    assert kstest(even[won], even[~won]).pvalue > 1e-3
    assert abs(won.mean() - 0.5) < 4 * np.sqrt(0.25 / len(won))


def test_who_never_arrives_answers_at_the_deadline(rng):
    times, _ = simulate_races(rng, [1.0, 1.0], leak=20.0, threshold=5.0, size=20)
    np.testing.assert_allclose(times, DEADLINE, atol=leaky_accumulators.STEP)


def test_generator_makes_races_repeatable():
    first, second = (simulate_races(np.random.default_rng(4), [3.0, 4.0], size=50) for _ in "12")
    np.testing.assert_array_equal(first, second)


def test_without_numba(monkeypatch):
    leaky_accumulators._compiled.cache_clear()
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ImportError, match=r"pip install 'abmtools\[cognitive\]'"):
        LeakyAccumulatorHMM()
    leaky_accumulators._compiled.cache_clear()


# --- the model ----------------------------------------------------------------------------------


def test_parameters_and_defaults(model):
    assert LeakyAccumulatorHMM().num_obs == (100, 1000)
    assert model.num_components == 2
    assert model.parameter_shapes == {
        "stay": (2,),
        "threshold": (2,),
        "guessing_drift": (),
        "input": (2,),
        "leak": (),
        "inhibition": (),
        "non_decision_time": (),
    }
    assert model.parameter_dims["input"] == ("accumulator",)
    shared = EvidenceAccumulationHMM()
    assert model.stay_prior == shared.stay_prior
    assert model.non_decision_time == shared.non_decision_time
    for name in ("guessing_threshold", "threshold_difference", "guessing_drift"):
        assert model.normals[name] == shared.normals[name]


def test_prior_lets_the_correct_accumulator_arrive(model, rng):
    draws = model.prior(rng, 5000)
    asymptote = draws["input"][:, 1] / draws["leak"]
    assert np.all(asymptote > draws["threshold"][:, 1])
    assert np.all(draws["leak"] > 0)
    assert np.all(draws["inhibition"] > 0)
    # A half-normal that the condition does not concern, as inhibition is not in it.
    assert kstest(draws["inhibition"] / 2, "halfnorm").pvalue > 1e-3


def test_responses_are_those_of_the_states(rng):
    """Who only guesses is a Wald model's guesser; who never does is a race's winner."""
    size, model = 4000, LeakyAccumulatorHMM()
    theta = {name: np.repeat(x, 1, axis=0) for name, x in model.prior(rng, 1).items()}
    for state in (0, 1):
        z = np.full((1, size), state)
        y = model.emission(rng, theta, z)["y"][0]
        times = y[:, 0] - theta["non_decision_time"]
        if state == 0:
            drift, threshold = theta["guessing_drift"], theta["threshold"][0, 0]
            other = rng.wald(threshold / drift, threshold**2, size)
            assert abs(y[:, 1].mean() - 0.5) < 4 * np.sqrt(0.25 / size)
        else:
            names = ("leak", "inhibition")
            options = {name: theta[name][0] for name in names}
            threshold = theta["threshold"][0, 1]
            other, won = simulate_races(
                rng, theta["input"][0], threshold=threshold, size=size, **options
            )
            assert abs(y[:, 1].mean() - won.mean()) < 4 * np.sqrt(0.5 / size)
        assert kstest(times, other).pvalue > 1e-3


def test_it_has_no_likelihood_and_says_so(model, rng):
    assert not model.has_likelihood
    simulated = model.simulate(2, rng=rng)
    parameters = {name: simulated[name][:, None] for name in model.parameter_names}
    with pytest.raises(ValueError, match="LeakyAccumulatorHMM has no log_emission"):
        model.exact_membership(simulated, parameters)
    with pytest.raises(ValueError, match="LeakyAccumulatorHMM has no stan_program"):
        abm.stan.sample(model, {"y": simulated["y"][0]})


@pytest.mark.parametrize("name", ["incorrect_input", "input_difference", "leak", "inhibition"])
def test_bad_settings(name):
    with pytest.raises(ValueError, match=name):
        LeakyAccumulatorHMM(**{name: (1.0, -1.0)})

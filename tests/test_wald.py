"""The Wald distribution against high precision, far into both tails."""

import mpmath
import numpy as np
import pytest

from abmtools.models.wald import log_density, log_survival

THRESHOLDS = (0.02, 0.1, 0.5, 1.5, 2.5, 5.0)
DRIFTS = (0.1, 0.5, 2.0, 5.0, 8.0, 12.0)
TIMES = np.geomspace(1e-4, 1e3, 22)
GRID = np.array(np.meshgrid(TIMES, THRESHOLDS, DRIFTS)).reshape(3, -1)
some = pytest.mark.parametrize(
    ("threshold", "drift"), [(0.02, 12.0), (0.5, 5.5), (2.5, 3.0), (2.0, 0.1), (5.0, 12.0)]
)


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(60):
        yield


def exact_density(t, threshold, drift):
    t, threshold, drift = mpmath.mpf(t), mpmath.mpf(threshold), mpmath.mpf(drift)
    exponent = -((threshold - drift * t) ** 2) / (2 * t)
    return threshold / mpmath.sqrt(2 * mpmath.pi * t**3) * mpmath.exp(exponent)


def exact_log_survival(t, threshold, drift):
    """By the formula with the normal distribution function, from the nearer end."""
    t, threshold, drift = mpmath.mpf(t), mpmath.mpf(threshold), mpmath.mpf(drift)
    root = mpmath.sqrt(t)
    a, b = (threshold - drift * t) / root, (threshold + drift * t) / root
    rest = mpmath.exp(2 * threshold * drift) * normal_cdf(-b)
    distribution = normal_cdf(-a) + rest
    if distribution < 0.5:
        return mpmath.log1p(-distribution)
    return mpmath.log(normal_cdf(a) - rest)


def integrated_log_survival(t, threshold, drift):
    """By quadrature of f(t + x) / f(t): an oracle without the normal distribution function."""
    first = exact_density(t, threshold, drift)
    unit = min(threshold / drift, 2 / drift**2)  # late, f decays at the rate drift**2 / 2
    ends = [unit * step for step in (0, 1, 2, 4, 8, 16, 32, 64, 128, mpmath.inf)]
    with mpmath.workdps(25):
        ratio = mpmath.quad(lambda x: exact_density(t + x, threshold, drift) / first, ends)
    return mpmath.log(first) + mpmath.log(ratio)


def normal_cdf(x):
    """With 60 digits of however small a number."""
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


# --- against high precision ---------------------------------------------------------------------


def test_log_density_is_exact():
    expected = [float(mpmath.log(exact_density(*point))) for point in GRID.T]
    np.testing.assert_allclose(log_density(*GRID), expected, rtol=1e-13, atol=1e-13)


def test_log_survival_is_exact():
    expected = np.array([float(exact_log_survival(*point)) for point in GRID.T])
    assert expected.min() < -7e4  # where the probability itself underflows
    assert np.any((expected < 0) & (expected > -1e-100))
    np.testing.assert_allclose(log_survival(*GRID), expected, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_log_survival_where_the_cases_meet(threshold):
    drift = np.array(DRIFTS)
    for factor in (1 - 1e-9, 1.0, 1 + 1e-9):
        t = factor * threshold / drift
        expected = [float(exact_log_survival(*x)) for x in np.broadcast(t, threshold, drift)]
        np.testing.assert_allclose(log_survival(t, threshold, drift), expected, rtol=1e-12)


@some
def test_log_survival_is_the_integral_of_the_density(threshold, drift):
    for t in threshold / drift * np.array([0.5, 1, 3, 30]):
        expected = float(integrated_log_survival(t, threshold, drift))
        assert log_survival(t, threshold, drift) == pytest.approx(expected, rel=1e-12)


# --- what densities and survival functions are --------------------------------------------------


@some
def test_density_integrates_to_one(threshold, drift):
    log_t, step = np.linspace(-20, 10, 20_001, retstep=True)
    t = np.exp(log_t)
    assert np.sum(np.exp(log_density(t, threshold, drift)) * t) * step == pytest.approx(
        1, abs=1e-10
    )


@some
def test_density_is_minus_the_derivative_of_survival(threshold, drift):
    """In logarithms: the slope of log S is minus the hazard f / S."""
    t = threshold / drift * np.geomspace(0.3, 30, 50)
    step = 1e-5 * t
    difference = log_survival(t + step, threshold, drift) - log_survival(t - step, threshold, drift)
    hazard = np.exp(log_density(t, threshold, drift) - log_survival(t, threshold, drift))
    np.testing.assert_allclose(-difference / (2 * step), hazard, rtol=1e-6, atol=1e-9)


@some
def test_survival_falls_from_one(threshold, drift):
    log_s = log_survival(np.geomspace(1e-6, 1e4, 2001), threshold, drift)
    assert log_s[0] == pytest.approx(0, abs=1e-80)
    assert np.all(np.diff(log_s) <= 0)


# --- arguments ----------------------------------------------------------------------------------


def test_times_at_and_beyond_the_ends():
    t = np.array([-np.inf, -1.0, 0.0, 1e-300, np.inf])
    log_f = log_density(t, 2.0, 3.0)
    assert np.all(log_f[[0, 1, 2, 4]] == -np.inf)
    assert log_f[3] < -1e299
    np.testing.assert_array_equal(log_survival(t, 2.0, 3.0), [0, 0, 0, 0, -np.inf])


def test_arguments_broadcast():
    t = np.linspace(0.1, 1, 4, dtype="float32")
    threshold, drift = np.array([[1.0], [2.0], [3.0]]), 4.0
    for function in (log_density, log_survival):
        values = function(t, threshold, drift)
        assert (values.shape, values.dtype) == ((3, 4), np.dtype("float64"))
        assert values[1, 2] == function(float(t[2]), 2.0, 4.0)
        assert function(0.3, 2.0, 4.0).shape == ()

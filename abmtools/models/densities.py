r"""Densities of priors, with their constants.

An evidence is an average under the prior, so a constant that is missing from the prior is missing
from every Bayes factor. Most constants are those of textbooks. One is not: that of independent
normals conditioned on their order. Its inverse is the probability of that order, and with
:math:`G_0 = 1` and the density :math:`g_k` of the k-th normal

.. math:: G_{k+1}(x) = \int_{-\infty}^x g_k(t) \, G_k(t) \, dt , \qquad
          p(x_0 < \dots < x_{K-1}) = G_K(\infty) ,

one integral after the other.
"""

import numpy as np
from scipy.integrate import cumulative_simpson
from scipy.special import betaln, gammaln, log_ndtr

__all__ = [
    "log_beta",
    "log_dirichlet",
    "log_normal",
    "log_order_probability",
    "log_positive_normal",
]

LOG_2PI = np.log(2 * np.pi)
STEP = 0.02  # of the grid, in standard deviations
REACH = 10.0  # standard deviations beyond which a normal has no mass
FAR = 40.0  # standard deviations between two normals whose order is certain


def log_normal(x, location, scale):
    """Log density of a normal distribution."""
    return -0.5 * (np.square((x - location) / scale) + LOG_2PI) - np.log(scale)


def log_positive_normal(x, location, scale):
    """Log density of a normal distribution that is truncated to positive values, at such values."""
    return log_normal(x, location, scale) - log_ndtr(location / scale)


def log_beta(x, a, b):
    """Log density of a Beta distribution."""
    return (a - 1) * np.log(x) + (b - 1) * np.log1p(-x) - betaln(a, b)


def log_dirichlet(x, concentration: float):
    """Log density of a symmetric Dirichlet distribution at x, (..., K); for K = 1 it is zero."""
    size = np.shape(x)[-1]
    constant = gammaln(size * concentration) - size * gammaln(concentration)
    return constant + (concentration - 1) * np.log(x).sum(axis=-1)


def log_order_probability(location, scale: float) -> float:
    """Log probability that independent normals with these locations, (K,), come in this order.

    Parameters
    ----------
    location : array, shape (K,)
        Not decreasing.
    scale : float
        Standard deviation of each.
    """
    gaps = np.minimum(np.diff(location) / scale, FAR)
    centers = np.concatenate([[0.0], np.cumsum(gaps)])
    low, high = -REACH, centers[-1] + REACH
    x = np.linspace(low, high, 1 + 2 * int(np.ceil((high - low) / STEP / 2)))
    below = np.ones_like(x)
    for center in centers:
        below = cumulative_simpson(np.exp(log_normal(x, center, 1.0)) * below, x=x, initial=0)
    return float(np.log(below[-1]))

r"""Proposals for importance sampling: Student distributions around draws.

Their tails are heavier than a posterior's, so that the importance ratios stay bounded. The draws
may be weighted, as those of another proposal are. Where a few weights carry everything, moments say
little. Such weights :math:`w` are first made milder,

.. math:: w_s^\beta , \qquad 0 < \beta \le 1 ,

with the largest :math:`\beta` that leaves a fifth of the draws in effect.
"""

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_softmax, logsumexp, softmax
from scipy.stats import multivariate_t

__all__ = ["fit_student", "temper"]

SHARE = 0.2  # of draws that tempered weights leave in effect


def fit_student(
    draws: np.ndarray,
    *,
    degrees: float,
    widened: float = 1.0,
    log_weights: np.ndarray | None = None,
):
    """A Student distribution with the mean of draws, and their covariance as its scale matrix.

    So its own covariance is degrees / (degrees - 2) times as large.

    Parameters
    ----------
    draws : array, shape (S, D)
    degrees : float
        Of freedom.
    widened : float
        The scale matrix, over the draws' covariance.
    log_weights : array, shape (S,), optional
        Logarithms of their weights, up to a constant; equal ones by default.

    Returns
    -------
    scipy.stats.multivariate_t
        Frozen.
    """
    weights = None if log_weights is None else softmax(log_weights)
    covariance = np.atleast_2d(np.cov(draws, rowvar=False, aweights=weights))
    return multivariate_t(np.average(draws, axis=0, weights=weights), widened * covariance, degrees)


def temper(log_weights: np.ndarray) -> np.ndarray:
    """Milder weights, of which enough are in effect.

    Parameters
    ----------
    log_weights : array, shape (S,)
        Up to a constant; -inf at impossible draws, which do not count.

    Returns
    -------
    array, shape (S,)
        Beta times these.
    """
    possible = log_weights[np.isfinite(log_weights)]

    def excess(beta: float) -> float:
        ess = np.exp(-logsumexp(2 * log_softmax(beta * possible)))
        return ess - SHARE * len(possible)

    return log_weights if excess(1.0) >= 0 else brentq(excess, 0.0, 1.0) * log_weights

"""Proposals for importance sampling: Student distributions around draws.

Their tails are heavier than a posterior's, so that the importance ratios stay bounded.
"""

import numpy as np
from scipy.stats import multivariate_t

__all__ = ["fit_student"]


def fit_student(draws: np.ndarray, *, degrees: float, widened: float = 1.0):
    """A Student distribution with the mean of draws, and their covariance as its scale matrix.

    So its own covariance is degrees / (degrees - 2) times as large.

    Parameters
    ----------
    draws : array, shape (S, D)
    degrees : float
        Of freedom.
    widened : float
        The scale matrix, over the draws' covariance.

    Returns
    -------
    scipy.stats.multivariate_t
        Frozen.
    """
    covariance = np.atleast_2d(np.cov(draws, rowvar=False))
    return multivariate_t(draws.mean(axis=0), widened * covariance, degrees)

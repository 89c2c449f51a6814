r"""Proposals that adapt: a multivariate t with the moments of weighted draws.

With the scale matrix :math:`\Sigma` and :math:`\nu` degrees of freedom its density in D dimensions
is

.. math:: \frac{\Gamma((\nu + D) / 2)}{\Gamma(\nu / 2) \, (\nu \pi)^{D / 2} |\Sigma|^{1/2}}
          \left(1 + \tfrac{1}{\nu} (u - m)^\top \Sigma^{-1} (u - m) \right)^{-(\nu + D) / 2} .
"""

import numpy as np
from scipy.special import gammaln, logsumexp

__all__ = ["propose"]

FREEDOM = 7.0  # degrees of freedom: heavier tails than a posterior's


def propose(
    rng: np.random.Generator, u: np.ndarray, ratio: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draws, (B, S, D), and their log density, (B, S), from draws u with log ratios, (B, S)."""
    num_samples, dim = u.shape[1:]
    log_weights = _temper(ratio, num_samples / 5)
    weights = np.exp(log_weights - logsumexp(log_weights, axis=1, keepdims=True))
    mean = np.einsum("bs,bsd->bd", weights, u)[:, None]
    covariance = np.einsum("bs,bsd,bse->bde", weights, u - mean, u - mean)
    factor = np.linalg.cholesky(covariance + 1e-9 * np.eye(dim))
    normal = rng.standard_normal(u.shape)
    scale = rng.chisquare(FREEDOM, u.shape[:2]) / FREEDOM
    draws = mean + np.einsum("bde,bse->bsd", factor, normal / np.sqrt(scale)[..., None])
    distance = np.square(normal).sum(axis=-1) / scale
    volume = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
    constant = gammaln((FREEDOM + dim) / 2) - gammaln(FREEDOM / 2)
    constant -= dim / 2 * np.log(FREEDOM * np.pi)
    tails = (FREEDOM + dim) / 2 * np.log1p(distance / FREEDOM)
    return draws, constant - volume[:, None] - tails


def _temper(ratio: np.ndarray, least: float) -> np.ndarray:
    """Log weights beta * ratio, (B, S), with the largest beta <= 1 that leaves so many draws."""
    low, high = np.zeros((len(ratio), 1)), np.full((len(ratio), 1), 2.0)
    for _ in range(20):  # the first step tries beta = 1
        beta = (low + high) / 2
        log_weights = beta * ratio
        ess = 2 * logsumexp(log_weights, axis=1) - logsumexp(2 * log_weights, axis=1)
        enough = (np.exp(ess) >= least)[:, None]
        low, high = np.where(enough, beta, low), np.where(enough, high, beta)
    return np.minimum(low, 1.0) * ratio

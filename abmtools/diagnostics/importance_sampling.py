r"""Importance sampling: what the exact density says about amortized draws, and how it repairs them.

Draws :math:`u_s \sim q(u \mid y)` of a network become draws of the posterior when each carries the
weight

.. math:: w_s = \frac{p(u_s, y)}{q(u_s \mid y)} , \qquad
          \frac{1}{S} \sum_s w_s \to \int p(u, y) \, du = p(y) .

Where q is narrower than p a few weights carry everything. Pareto smoothing replaces the largest
:math:`3 \sqrt S` of them, or a fifth where that is fewer, by the quantiles of a generalized Pareto
distribution fitted to them; its shape k says how many moments the weights have. Below 0.7 the
corrected draws can be trusted, above it they cannot. ArviZ does the smoothing.

References
----------
Vehtari, A., Simpson, D., Gelman, A., Yao, Y., & Gabry, J. (2024). Pareto smoothed importance
sampling. Journal of Machine Learning Research, 25(72), 1-58.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from arviz_stats.base import array_stats
from scipy.special import logsumexp

from ..inference import MixturePosterior
from .draws import require_posterior
from .exact import log_posterior

__all__ = ["ImportanceResult", "importance", "log_ratio", "weigh"]

NOTHING = np.log(np.finfo("float64").tiny) / 2  # of weights: differences of less are no numbers
MIN_SAMPLES = 25  # below it the Pareto distribution has fewer than five weights to fit


@dataclass(frozen=True)
class ImportanceResult:
    """Importance weights of the draws of each data set, and what they say.

    Attributes
    ----------
    log_weights : array, shape (B, S)
        Logarithms of the Pareto-smoothed weights, which sum to one for each data set.
    pareto_k : array, shape (B,)
        Shape of the largest weights: below 0.7 the weights can be trusted. ``inf`` where no
        Pareto distribution fits, because nearly all weight is on a few draws; ``-inf`` where the
        largest weights are all equal, as those of exact draws are.
    ess : array, shape (B,)
        Effective number of draws, between 1 and S.
    log_evidence : array, shape (B,)
        log p(y), up to the constant of the prior, from the weights as they are.
    fingerprint : str, optional
        Of the draws that were weighed, so that no others are corrected by their weights.
    """

    log_weights: np.ndarray
    pareto_k: np.ndarray
    ess: np.ndarray
    log_evidence: np.ndarray
    fingerprint: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        num_datasets, num_samples = self.log_weights.shape
        below = 100 * np.mean(self.pareto_k < 0.7)
        return (
            f"importance sampling, {num_datasets} data sets x {num_samples} draws\n"
            f"Pareto k         median {np.median(self.pareto_k):.2f}, "
            f"largest {self.pareto_k.max():.2f}, below 0.7 in {below:.1f} %\n"
            f"effective draws  median {np.median(self.ess):.0f}, smallest {self.ess.min():.0f}"
        )

    def correct(self, posterior: MixturePosterior) -> MixturePosterior:
        """The posterior's own draws, each with its weight.

        Its `mean`, `std` and `quantile`, its mean membership, `to_arviz`, and what takes it in
        `abmtools.diagnostics` and `abmtools.plots` are then those of the corrected posterior.

        Parameters
        ----------
        posterior : MixturePosterior
            The one whose weights these are.

        Returns
        -------
        MixturePosterior

        Raises
        ------
        TypeError
            If it is no `MixturePosterior`.
        ValueError
            If the posterior has other numbers of data sets or draws, or other draws.
        """
        require_posterior(posterior)
        expected = self.log_weights.shape
        if (len(posterior), posterior.num_samples) != expected:
            raise ValueError(
                f"posterior: expected {expected[0]} data sets with {expected[1]} draws, "
                f"got {len(posterior)} with {posterior.num_samples}."
            )
        known = self.fingerprint is not None
        if known and self.fingerprint != _fingerprint(posterior.unconstrained):
            raise ValueError(
                "posterior: expected the one whose weights these are, got other draws of the same "
                "shape."
            )
        return replace(posterior, log_weights=self.log_weights)

    def resample(
        self, posterior: MixturePosterior, num_samples: int | None = None, *, seed: int
    ) -> MixturePosterior:
        """Draws of the posterior itself: the posterior's draws, resampled by their weights.

        As `correct` followed by `MixturePosterior.with_equal_weights`. No draw appears twice where
        ``num_samples`` times the largest weight is at most one; half as many draws as there were
        are often enough for that.

        Parameters
        ----------
        posterior : MixturePosterior
            The one whose weights these are.
        num_samples : int, optional
            Draws to return; as many as there are by default.
        seed : int

        Returns
        -------
        MixturePosterior

        Raises
        ------
        ValueError
            If the posterior has other numbers of data sets or draws, or other draws, or
            num_samples < 1.
        """
        return self.correct(posterior).with_equal_weights(num_samples, seed=seed)


def importance(posterior: MixturePosterior) -> ImportanceResult:
    """Weigh amortized draws by the model's exact density.

    Parameters
    ----------
    posterior : MixturePosterior
        Draws that come from a network, of a model that has a likelihood.

    Returns
    -------
    ImportanceResult

    Raises
    ------
    TypeError
        If `posterior` is no `MixturePosterior`.
    ValueError
        If there are fewer than 25 draws, the model has no likelihood, the draws come without their
        network, or all draws of a data set have weight zero.

    Examples
    --------
    >>> from abmtools import GaussianMixture, MixtureWorkflow
    >>> workflow = MixtureWorkflow(GaussianMixture(), seed=1)  # not trained yet
    >>> data = workflow.simulate(2, num_obs=200, num_reps=3)
    >>> posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=100, seed=1)
    >>> weights = importance(posterior)
    >>> weights.correct(posterior).mean()["means"].shape
    (2, 3)
    >>> weights.resample(posterior, num_samples=50, seed=1).num_samples
    50
    """
    require_posterior(posterior)
    if posterior.num_samples < MIN_SAMPLES:
        raise ValueError(
            f"posterior: expected at least {MIN_SAMPLES} draws, got {posterior.num_samples}."
        )
    ratio = log_ratio(posterior.model, posterior.data, posterior.unconstrained, posterior.log_prob)
    empty = np.flatnonzero(np.isneginf(ratio).all(axis=1))
    if empty.size:
        raise ValueError(
            f"posterior: every draw of data set(s) {empty.tolist()} has zero exact density."
        )
    return replace(weigh(ratio), fingerprint=_fingerprint(posterior.unconstrained))


def _fingerprint(u: np.ndarray) -> str:
    """A hash of draws: shorter than they are, and never the same for others."""
    return hashlib.sha256(np.ascontiguousarray(u, dtype="float64")).hexdigest()


def weigh(ratio: np.ndarray) -> ImportanceResult:
    """Smooth the logarithms of importance ratios, (B, S), and say how good they are."""
    smoothed = [_smooth(row) for row in ratio]
    log_weights = np.stack([weights for weights, _ in smoothed])
    return ImportanceResult(
        log_weights=log_weights,
        pareto_k=np.array([k for _, k in smoothed]),
        ess=np.exp(-logsumexp(2 * log_weights, axis=1)),
        log_evidence=logsumexp(ratio, axis=1) - np.log(ratio.shape[1]),
    )


def log_ratio(model, data: Mapping, u: np.ndarray, log_prob: np.ndarray) -> np.ndarray:
    """log p(u, y) - log q(u | y) of draws u, (B, S, D), with log q, (B, S); -inf where p is zero.

    Raises
    ------
    ValueError
        If log q is not finite where p is not zero, or the model has no likelihood.
    """
    log_p = log_posterior(model, data, u)
    log_q = np.where(np.isneginf(log_p), 0.0, log_prob)
    if not np.isfinite(log_q).all():
        dataset = np.argwhere(~np.isfinite(log_q))[0, 0]
        raise ValueError(f"posterior: log_prob is not finite at a draw of data set {dataset}.")
    return log_p - log_q


def _smooth(ratio: np.ndarray) -> tuple[np.ndarray, float]:
    """Smoothed normalized log weights, (S,), and Pareto k of one data set."""
    num_samples = len(ratio)
    num_tail = int(min(num_samples / 5, 3 * np.sqrt(num_samples)))
    tail = np.sort(ratio)[-num_tail:]
    if tail[0] == tail[-1]:
        return ratio - logsumexp(ratio), -np.inf
    if tail[0] - tail[-1] < NOTHING:
        return ratio - logsumexp(ratio), np.inf
    with np.errstate(over="ignore"):  # of quantiles, where k is far above one
        log_weights, pareto_k = array_stats.psislw(-ratio)  # takes log likelihoods: minus the ratio
    return log_weights, np.inf if np.isnan(pareto_k) else float(pareto_k)

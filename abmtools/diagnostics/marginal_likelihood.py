r"""Marginal likelihood: how well a model predicted the data before it saw them.

.. math:: p(y \mid M) = \int p(y \mid u, M) \, p(u \mid M) \, du

is the normalizing constant of the posterior, and what model comparison rests on:
:math:`p(M \mid y) \propto p(M) \, p(y \mid M)`. Draws of an amortized posterior q give it by
importance sampling,

.. math:: p(y \mid M) \approx \frac{1}{S} \sum_s \frac{p(y, u_s \mid M)}{g(u_s)} , \qquad
          g = (1 - a) \, q(u \mid y, M) + a \, t(u) .

With g = q alone, one place that q hardly ever visits and the posterior does would spoil the sum.
So a share a of the draws comes from a second, defensive distribution t (Hesterberg, 1995): a
multivariate Student distribution with the draws' mean and a wider covariance. The ratios are then
bounded wherever t covers the posterior. Pareto k of the ratios says whether to believe the sum, and
the effective number of draws gives its error, :math:`\sqrt{1 / \text{ESS} - 1 / S}` on the log
scale.

The prior must be normalized: a `log_prior` that lacks a constant moves the evidence by that
constant.

References
----------
Hesterberg, T. (1995). Weighted average importance sampling and defensive mixture distributions.
Technometrics, 37(2), 185-194.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import rel_entr, softmax

from ..inference import MixtureComparisonWorkflow
from .draws import require_posterior
from .exact import log_posterior
from .importance_sampling import MIN_SAMPLES, weigh
from .proposals import fit_student

__all__ = [
    "MarginalLikelihood",
    "ModelProbabilities",
    "compare_model_probabilities",
    "log_marginal_likelihood",
]

DEGREES = 5  # of freedom of the defensive distribution
WIDENED = 2.0  # its scale matrix, over the draws' covariance
DRAWS_AT_ONCE = 20_000


@dataclass(frozen=True)
class MarginalLikelihood:
    """Log marginal likelihood of a model for each data set.

    Attributes
    ----------
    log_evidence : array, shape (B,)
        log p(y | M).
    standard_error : array, shape (B,)
        Its Monte Carlo error.
    pareto_k : array, shape (B,)
        Of the importance ratios: below 0.7 both can be trusted.
    """

    log_evidence: np.ndarray
    standard_error: np.ndarray
    pareto_k: np.ndarray


def log_marginal_likelihood(
    posterior, *, defensive: float = 0.2, seed: int = 1
) -> MarginalLikelihood:
    """Log marginal likelihood by importance sampling from an amortized posterior.

    Parameters
    ----------
    posterior : MixturePosterior
        Draws that come from a network, of a model whose `log_prior` is normalized.
    defensive : float
        Share a of draws from the defensive distribution, at least 0 and less than 1.
    seed : int
        Of these draws.

    Returns
    -------
    MarginalLikelihood

    Raises
    ------
    TypeError
        If `posterior` is no `MixturePosterior`.
    ValueError
        If there are fewer than 25 draws, the model has no likelihood, the draws come without their
        network, `defensive` is out of range, a density is not a number, or it is zero at every draw
        of a data set.

    Examples
    --------
    >>> from abmtools import GaussianLocationMixture, MixtureWorkflow
    >>> workflow = MixtureWorkflow(GaussianLocationMixture(1, num_obs=50), seed=1)  # not trained
    >>> data = workflow.simulate(2)
    >>> posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=100, seed=1)
    >>> log_marginal_likelihood(posterior).log_evidence.shape
    (2,)
    """
    require_posterior(posterior)
    if posterior.num_samples < MIN_SAMPLES:
        raise ValueError(
            f"posterior: expected at least {MIN_SAMPLES} draws, got {posterior.num_samples}."
        )
    if not 0 <= defensive < 1:
        raise ValueError(f"defensive: expected a share from 0 to below 1, got {defensive}.")
    log_ratio = _log_ratio(posterior, defensive, np.random.default_rng(seed))
    result = weigh(log_ratio)
    return MarginalLikelihood(
        log_evidence=result.log_evidence,
        standard_error=np.sqrt(np.maximum(1 / result.ess - 1 / log_ratio.shape[1], 0.0)),
        pareto_k=result.pareto_k,
    )


def _log_ratio(posterior, defensive: float, rng: np.random.Generator) -> np.ndarray:
    """log p(u, y) - log g(u) at draws from g, (B, S'); -inf where p is zero."""
    draws, log_q = posterior.unconstrained, posterior.log_prob
    num_more = round(posterior.num_samples * defensive / (1 - defensive))
    students = [fit_student(rows, degrees=DEGREES, widened=WIDENED) for rows in draws]
    if num_more:
        more = [student.rvs(num_more, random_state=rng) for student in students]
        more = np.reshape(more, (len(draws), num_more, draws.shape[2]))  # SciPy drops axes of one
        draws = np.concatenate([draws, more], axis=1)
        log_q = np.concatenate([log_q, posterior.log_prob_function(posterior.data, more)], axis=1)
    log_t = [student.logpdf(u) for student, u in zip(students, draws, strict=True)]
    log_t = np.reshape(log_t, log_q.shape)
    share = num_more / draws.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):  # judged below
        log_g = np.logaddexp(np.log1p(-share) + log_q, np.log(share) + log_t)
    log_p = log_posterior(posterior.model, posterior.data, draws)
    log_g = np.where(np.isneginf(log_p), 0.0, log_g)
    wrong = ~np.isfinite(log_g).all(axis=1) | np.isneginf(log_p).all(axis=1)
    if wrong.any():
        raise ValueError(
            "posterior: log_prob is not finite, or the exact density zero at every draw, in data "
            f"set(s) {np.flatnonzero(wrong).tolist()}."
        )
    return log_p - log_g


@dataclass(frozen=True)
class ModelProbabilities:
    """Amortized posterior probabilities of models beside those from marginal likelihoods.

    Attributes
    ----------
    amortized, exact : arrays, shape (B, M)
        p(M | y) by the network, and by importance sampling.
    log_evidence, standard_error, pareto_k : arrays, shape (B, M)
        See `MarginalLikelihood`.
    names : list
        Of the models.
    """

    amortized: np.ndarray
    exact: np.ndarray
    log_evidence: np.ndarray
    standard_error: np.ndarray
    pareto_k: np.ndarray
    names: list

    @property
    def difference(self) -> np.ndarray:
        """Absolute differences of the probabilities, (B, M)."""
        return np.abs(self.amortized - self.exact)

    @property
    def divergence(self) -> np.ndarray:
        """Kullback-Leibler divergence from exact to amortized probabilities, (B,), nats."""
        return rel_entr(self.exact, self.amortized).sum(axis=1)

    def __str__(self) -> str:
        lines = [
            f"probabilities of {len(self.names)} models, {len(self.exact)} data sets: "
            f"mean |amortized - exact| {self.difference.mean():.4f}, "
            f"largest {self.difference.max():.3f}",
            f"{'model':<10}{'mean diff.':>12}{'k < 0.7':>10}{'median s.e. of log p(y)':>26}",
        ]
        for m, name in enumerate(self.names):
            below = np.mean(self.pareto_k[:, m] < 0.7)
            error = np.median(self.standard_error[:, m])
            mean = self.difference[:, m].mean()
            lines.append(f"{name!s:<10}{mean:>12.4f}{below:>10.1%}{error:>26.4f}")
        return "\n".join(lines)


def compare_model_probabilities(
    workflow, conditions, *, num_samples: int = 2000, seed: int = 1
) -> ModelProbabilities:
    """Check amortized probabilities of models against marginal likelihoods.

    Parameters
    ----------
    workflow : MixtureComparisonWorkflow
        Of models that all have a likelihood and a normalized prior.
    conditions : dict or list of dict
        ``{"y": ...}`` and masks, for one data set or a batch. Batches of a list may differ in
        numbers of observations; the truth of simulated data is ignored.
    num_samples : int
        Draws from each model's posterior network, at least 25.
    seed : int

    Returns
    -------
    ModelProbabilities

    Raises
    ------
    TypeError
        If the workflow is no comparison of models, or conditions are no dictionaries.
    ValueError
        As `log_marginal_likelihood`; for bad data, see `MixtureModel.check_data`; if there are no
        batches, or num_samples is too small.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("component_count")
    >>> data = workflow.simulate(2, num_obs=150)
    >>> result = compare_model_probabilities(workflow, data, num_samples=200)
    >>> result.names, result.exact.shape
    ([1, 2, 3, 4], (2, 4))
    """
    if not isinstance(workflow, MixtureComparisonWorkflow):
        raise TypeError(
            f"workflow: expected a MixtureComparisonWorkflow, got {type(workflow).__name__}."
        )
    if not (isinstance(num_samples, int | np.integer) and num_samples >= MIN_SAMPLES):
        raise ValueError(
            f"num_samples: expected an integer of at least {MIN_SAMPLES}, got {num_samples!r}."
        )
    batches = _checked(workflow, conditions)
    amortized, evidences = [], []
    for batch in _parts(batches, max(1, DRAWS_AT_ONCE // num_samples)):
        posterior = workflow.sample(conditions=batch, num_samples=num_samples, seed=seed)
        amortized.append(posterior.probabilities)
        found = [log_marginal_likelihood(posterior[name], seed=seed) for name in posterior.names]
        evidences.append(
            [
                np.stack([getattr(x, what) for x in found], axis=1)
                for what in ("log_evidence", "standard_error", "pareto_k")
            ]
        )
    log_evidence, standard_error, pareto_k = (
        np.concatenate(column) for column in zip(*evidences, strict=True)
    )
    return ModelProbabilities(
        amortized=np.concatenate(amortized),
        exact=softmax(np.log(workflow.prior) + log_evidence, axis=1),
        log_evidence=log_evidence,
        standard_error=standard_error,
        pareto_k=pareto_k,
        names=list(workflow.models),
    )


def _checked(workflow, conditions) -> list[dict[str, np.ndarray]]:
    """Batches of data with a batch axis, as every model accepts them, without the truth."""
    batches = conditions if isinstance(conditions, list | tuple) else [conditions]
    for batch in batches:
        if not isinstance(batch, Mapping):
            raise TypeError(
                "conditions: expected a dictionary with key 'y' or a list of them, "
                f"got {type(batch).__name__}."
            )
    if not batches:
        raise ValueError("conditions: expected at least one batch of data sets, got none.")
    truth = {"z", "model_indices"}.union(*(x.parameter_names for x in workflow.models.values()))
    return [
        workflow._check_data({key: value for key, value in batch.items() if key not in truth})
        for batch in batches
    ]


def _parts(batches: list, size: int):
    """A few data sets at a time."""
    for batch in batches:
        for start in range(0, len(batch["y"]), size):
            yield {key: value[start : start + size] for key, value in batch.items()}

r"""The joint posterior over models, and over each model's parameters and indicators.

.. math:: p(M, \theta, z \mid y) = p(M \mid y) \; p(\theta, z \mid y, M)
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..models.model_choice import check_prior
from .posterior import MixturePosterior

__all__ = ["ComparisonPosterior"]


@dataclass(frozen=True)
class ComparisonPosterior:
    """The posterior over models, and over each model's parameters and indicators.

    ``posterior[name]`` is the `MixturePosterior` of that model.

    Attributes
    ----------
    probabilities : array, shape (B, M)
        p(M | y) of each data set; columns in the order of `names`.
    posteriors : dict of name to MixturePosterior
        p(theta, z | y, M).
    prior : array, shape (M,)
        The prior probabilities that p(M | y) belongs to.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("component_count")
    >>> y = workflow.simulate(3, num_obs=150)["y"]
    >>> posterior = workflow.sample(conditions={"y": y}, num_samples=50, seed=1)
    >>> posterior[2].parameters["means"].shape
    (3, 50, 2)
    >>> posterior.with_prior([0.4, 0.3, 0.2, 0.1]).probabilities.shape
    (3, 4)
    """

    probabilities: np.ndarray
    posteriors: dict
    prior: np.ndarray

    @property
    def names(self) -> list:
        """Names of the models, in order."""
        return list(self.posteriors)

    def __getitem__(self, name) -> MixturePosterior:
        if name not in self.posteriors:
            raise KeyError(f"expected one of the models {self.names}, got {name!r}.")
        return self.posteriors[name]

    def __repr__(self) -> str:
        return f"ComparisonPosterior(models={self.names}, num_datasets={len(self.probabilities)})"

    def average(self, quantity: Callable) -> np.ndarray:
        r"""Average over the models of something that means the same in all of them.

        .. math:: \sum_M p(M \mid y) \, f_M

        Parameters
        ----------
        quantity : callable
            ``quantity(posterior)`` returns f_M, (B, ...), from a `MixturePosterior`: a posterior
            mean or a probability, which an average over draws of all models would have, too.
            Averages of draws, quantiles or standard deviations are none of the averaged posterior.

        Returns
        -------
        array, shape (B, ...)

        Raises
        ------
        ValueError
            If the models' shapes differ, or the first axis is not that of the data sets.
        """
        values = [np.asarray(quantity(posterior)) for posterior in self.posteriors.values()]
        shapes = {value.shape for value in values}
        if len(shapes) > 1 or values[0].shape[:1] != self.probabilities.shape[:1]:
            raise ValueError(
                f"quantity: expected the same shape ({len(self.probabilities)}, ...) for all "
                f"models, got {sorted(shapes)}."
            )
        return np.einsum("bm,mb...->b...", self.probabilities, np.stack(values))

    def with_prior(self, prior) -> "ComparisonPosterior":
        r"""The same under other prior probabilities of the models, without any new computation.

        .. math:: p'(M \mid y) \propto p(M \mid y) \, p'(M) / p(M)

        Raises
        ------
        ValueError
            If the prior has other than one positive number for each model, summing to one.
        """
        prior = check_prior(prior, len(self.prior))
        weighted = self.probabilities * (prior / self.prior)
        weighted = weighted / weighted.sum(axis=1, keepdims=True)
        return replace(self, probabilities=weighted, prior=prior)

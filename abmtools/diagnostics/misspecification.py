r"""Misspecification: whether an observed data set looks like those that the model simulates.

A network has learned what posterior belongs to data that the model can generate. Far from them its
answer means nothing, however calibrated it is on average. The learned summaries :math:`s(y)` are
where it would show: under the model they have some distribution :math:`p(s)`, known by simulation,
and the distance of one observed :math:`s_0` from it is the squared maximum mean discrepancy

.. math:: \mathrm{MMD}^2(s_0, p) = k(s_0, s_0) - \frac{2}{M} \sum_m k(s_0, s_m)
          + \frac{1}{M^2} \sum_{m, m'} k(s_m, s_{m'}) , \qquad s_m \sim p(s) ,

with a kernel k, here BayesFlow's sum of inverse multiquadratic ones of many widths. Further
simulated data sets, each in the place of the observed one, give the distribution of the distance
if the model is right, and with it a p-value: exact, as all these data sets are exchangeable then.

Summaries are standardized and decorrelated by their means and covariances under the model: an
unusual combination of usual summaries is then as far away as an unusual summary. Reference and null
data sets have as many observations as the observed one, and the same ones missing.

Of a comparison of models, the reference is of all of them, each as often as its prior says: a
network that tells models apart is certain of data, too, that none of them could have made.

What the summaries ignore is not seen: `predictive_check` looks at the data themselves.

References
----------
Gretton, A., Borgwardt, K. M., Rasch, M. J., Schölkopf, B., & Smola, A. (2012). A kernel two-sample
test. Journal of Machine Learning Research, 13, 723-773, equation 5.

Schmitt, M., Bürkner, P.-C., Köthe, U., & Radev, S. T. (2023). Detecting model misspecification in
amortized Bayesian inference with neural networks. arXiv:2112.08866
"""

from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
from bayesflow.metrics.functional.kernels import inverse_multiquadratic

from ..inference.selection import select_datasets
from ..models.data import MASKS
from ..models.model_choice import ModelChoice
from .draws import require_workflow
from .simulated import simulate_like

__all__ = ["Misspecification", "misspecification"]

SIMULATED_AT_ONCE = 500  # data sets
OBSERVATIONS_AT_ONCE = 20_000  # of all data sets that are summarized together
ROWS_AT_ONCE = 50  # of a kernel matrix
RIDGE = 1e-6  # smallest relative variance: summaries are in single precision


@dataclass(frozen=True)
class Misspecification:
    """How far each observed data set is from simulated ones, beside how far those are.

    Attributes
    ----------
    mmd : array, shape (B,)
        Squared maximum mean discrepancy of each data set.
    null : array, shape (B, num_null)
        The same of simulated data sets with the same observations. Rows are equal for data sets
        with the same observations.
    num_obs : array of int, shape (B,)
        Number of observations of each data set that are not missing.
    """

    mmd: np.ndarray
    null: np.ndarray
    num_obs: np.ndarray

    def __len__(self) -> int:
        return len(self.mmd)

    def __getitem__(self, index) -> "Misspecification":
        """The result for some of the data sets, by an index or a slice; keeps the axis B."""
        index = select_datasets(index, len(self))
        return Misspecification(self.mmd[index], self.null[index], self.num_obs[index])

    @property
    def p_value(self) -> np.ndarray:
        """Probability of a distance at least as large if the model is right, (B,)."""
        exceeding = np.sum(self.null >= self.mmd[:, None], axis=1)
        return (1 + exceeding) / (1 + self.null.shape[1])

    def __str__(self) -> str:
        table = pd.DataFrame(
            {
                "observations": self.num_obs,
                "MMD": self.mmd,
                "95 % of null": np.quantile(self.null, 0.95, axis=1),
                "p": self.p_value,
            }
        )
        table.index.name = "data set"
        return (
            f"maximum mean discrepancy of summaries, {self.null.shape[1]} null data sets\n"
            f"{table.to_string(float_format='{:.3f}'.format)}"
        )


def misspecification(
    workflow,
    data: Mapping,
    *,
    num_reference: int = 2000,
    num_null: int = 1000,
    seed: int,
) -> Misspecification:
    """Test whether the model could have generated each of some observed data sets.

    Parameters
    ----------
    workflow : MixtureWorkflow or MixtureComparisonWorkflow
        Whose summary network is used. Of a comparison: whether any of its models could have.
    data : mapping of str to array
        ``"y"``, (B, N, ...), and masks, or one data set without the axis B.
    num_reference : int
        Simulated data sets that stand for the model.
    num_null : int
        Simulated data sets that take the place of the observed one.
    seed : int
        Of the simulations.

    Returns
    -------
    Misspecification

    Raises
    ------
    TypeError, ValueError
        For bad data, see `MixtureModel.check_data`, if num_reference or num_null < 1, or if
        the model's emission masks what was observed.

    Notes
    -----
    Data sets that lack the same observations share their simulations; each further pattern of
    missing observations costs as much again, a second or two at hundreds of observations.

    Examples
    --------
    >>> import abmtools as abm, numpy as np
    >>> workflow = abm.load_pretrained("gaussian_mixture")
    >>> rng = np.random.default_rng(1)
    >>> y = workflow.model.simulate(1, rng=rng, num_obs=200, num_reps=3)["y"]
    >>> outlier = np.where(np.arange(200)[:, None] < 20, 9.0, y)
    >>> both = {"y": np.concatenate([y, outlier])}
    >>> result = misspecification(workflow, both, num_reference=400, num_null=200, seed=1)
    >>> bool(result.p_value[1] < 0.01 < result.p_value[0])
    True
    """
    require_workflow(workflow)
    for argument, value in {"num_reference": num_reference, "num_null": num_null}.items():
        if not (isinstance(value, int | np.integer) and value >= 1):
            raise ValueError(f"{argument}: expected a positive integer, got {value!r}.")
    data = workflow.model.check_data(data)
    rng = np.random.default_rng(seed)
    observed = _summaries(workflow, data)
    mmd, null = np.empty(len(observed)), np.empty((len(observed), num_null))
    for rows in _same_design(data):
        design = {key: value[rows[:1]] for key, value in data.items()}
        simulated = _simulated_summaries(workflow, design, num_reference + num_null, rng)
        distances = _distances(
            np.concatenate([observed[rows], simulated[num_reference:]]), simulated[:num_reference]
        )
        mmd[rows], null[rows] = distances[: len(rows)], distances[len(rows) :]
    num_obs = data.get("mask", np.ones(data["y"].shape[:2], dtype=bool)).sum(axis=1)
    return Misspecification(mmd=mmd, null=null, num_obs=num_obs)


def _same_design(data: dict) -> list[np.ndarray]:
    """Indices of data sets with the same observations missing."""
    masks = [data[key].reshape(len(data["y"]), -1) for key in MASKS if key in data]
    if not masks:
        return [np.arange(len(data["y"]))]
    design = np.unique(np.concatenate(masks, axis=1), axis=0, return_inverse=True)[1]
    return [np.flatnonzero(design == d) for d in range(design.max() + 1)]


def _simulated_summaries(workflow, design: dict, size: int, rng) -> np.ndarray:
    """Summaries of simulated data sets with the observations of one, (size, D)."""
    parts = []
    for start in range(0, size, SIMULATED_AT_ONCE):
        number = min(SIMULATED_AT_ONCE, size - start)
        for model, count in _draw_models(workflow.model, number, rng):
            like = {key: np.broadcast_to(x, (count, *x.shape[1:])) for key, x in design.items()}
            simulated = simulate_like(model, like, model.prior(rng, count), rng=rng)
            parts.append(_summaries(workflow, model.check_data(simulated)))
    summaries = np.concatenate(parts)
    return rng.permutation(summaries) if isinstance(workflow.model, ModelChoice) else summaries


def _draw_models(model, size: int, rng) -> list[tuple]:
    """The models that simulate so many data sets, and how many each of them does."""
    if not isinstance(model, ModelChoice):
        return [(model, size)]
    counts = rng.multinomial(size, model.prior)
    return [(x, count) for x, count in zip(model.models.values(), counts, strict=True) if count]


def _summaries(workflow, data: dict) -> np.ndarray:
    """Learned summaries of checked data, (B, D)."""
    size = max(1, OBSERVATIONS_AT_ONCE // data["y"].shape[1])
    parts = [
        workflow.estimator.summarize({key: x[start : start + size] for key, x in data.items()})
        for start in range(0, len(data["y"]), size)
    ]
    return np.concatenate(parts).astype("float64")


def _distances(summaries: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Squared maximum mean discrepancy of each summary, (B, D), from the reference, (M, D)."""
    location, decorrelate = _decorrelation(reference)
    summaries, reference = ((x - location) @ decorrelate for x in (summaries, reference))
    itself = keras.ops.convert_to_numpy(inverse_multiquadratic(*[_tensor(summaries[:1])] * 2))
    within = _mean_kernel(reference, reference).mean()
    return itself[0, 0] + within - 2 * _mean_kernel(summaries, reference)


def _decorrelation(reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and matrix (D, D) that make summaries uncorrelated, with unit variances."""
    location, scale = reference.mean(axis=0), reference.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    standardized = (reference - location) / scale
    variances, axes = np.linalg.eigh(standardized.T @ standardized / len(reference))
    variances = np.maximum(variances, RIDGE * max(variances[-1], RIDGE))
    return location, axes / np.sqrt(variances) / scale[:, None]


def _mean_kernel(x: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean of k(x_i, s_m) over the reference s_m, (B,)."""
    reference = _tensor(reference)
    parts = []
    for start in range(0, len(x), ROWS_AT_ONCE):
        kernel = inverse_multiquadratic(_tensor(x[start : start + ROWS_AT_ONCE]), reference)
        parts.append(keras.ops.convert_to_numpy(keras.ops.mean(kernel, axis=1)))
    return np.concatenate(parts).astype("float64")


def _tensor(x: np.ndarray):
    return keras.ops.convert_to_tensor(x, dtype="float32")

r"""Calibration of membership: of observations given 80 %, whether 80 % are of that component.

Membership probabilities are forecasts of the indicators. They are calibrated if

.. math:: \Pr(z_i = k \mid q_{ik} = q) = q \qquad \text{for every component } k \text{ and } q .

The exact p(z_i = k | y, theta) is, and so is its mean over draws of theta given y. The expected
calibration error sorts the forecasts of one component into bins of equal width and averages
:math:`|\text{observed} - \text{forecast}|` over them, weighted by how many fall into each (Naeini,
Cooper & Hauskrecht, 2015). BayesFlow computes it. Being a mean of absolute values it is not zero
for exact probabilities, if only because n observations are not infinitely many. How large it is by
that alone, `calibrated_errors` simulates: if the probabilities are right, the indicators are draws
from them.

References
----------
Naeini, M. P., Cooper, G., & Hauskrecht, M. (2015). Obtaining well calibrated probabilities using
Bayesian binning. Proceedings of the AAAI Conference on Artificial Intelligence, 29(1).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from bayesflow.diagnostics.metrics import expected_calibration_error

from ..structures.categorical import draw_categorical
from .draws import require_workflow
from .simulated import parts, truth

__all__ = [
    "MembershipCalibration",
    "calibrated_errors",
    "membership_calibration",
    "predicted_membership",
]


@dataclass(frozen=True)
class MembershipCalibration:
    """How often each component was the true one, given its probability.

    Attributes
    ----------
    error : array, shape (K,)
        Expected calibration error of each component, against all others.
    predicted, observed : arrays, shape (K, num_bins)
        Mean probability and share of true indicators in each bin; NaN in an empty bin.
    counts : array of int, shape (K, num_bins)
        Observations in each bin.
    """

    error: np.ndarray
    predicted: np.ndarray
    observed: np.ndarray
    counts: np.ndarray

    @property
    def expected_calibration_error(self) -> float:
        """Mean of `error` over the components."""
        return float(self.error.mean())

    def __str__(self) -> str:
        num_components, num_bins = self.counts.shape
        table = pd.DataFrame({"error": self.error}, index=range(num_components))
        table.index.name = "component"
        return (
            f"calibration of membership, {self.counts[0].sum()} observations, {num_bins} bins\n"
            f"expected calibration error {self.expected_calibration_error:.4f}\n"
            f"{table.to_string(float_format='{:.4f}'.format)}"
        )


def membership_calibration(
    probabilities: np.ndarray, z: np.ndarray, *, num_bins: int = 10
) -> MembershipCalibration:
    """Compare membership probabilities with true indicators.

    Parameters
    ----------
    probabilities : array, shape (..., K)
        Of each observation, summing to one.
    z : array of int, shape (...)
        True components, 0 to K - 1.
    num_bins : int
        Bins of equal width between zero and one.

    Returns
    -------
    MembershipCalibration

    Raises
    ------
    ValueError
        If shapes disagree, a probability is outside [0, 1] or rows do not sum to one, an
        indicator is not 0 to K - 1, there are no observations, or num_bins < 1.

    Examples
    --------
    >>> p = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    >>> membership_calibration(p, np.array([0, 1, 1]), num_bins=2).error.round(3)
    array([0.233, 0.233])
    """
    probabilities, z = _check(probabilities, z, num_bins)
    num_components = probabilities.shape[1]
    truly = np.eye(num_components)[z]
    ece = expected_calibration_error(
        probabilities, truly, num_bins=num_bins, return_probs=True,
        model_names=[str(k) for k in range(num_components)],
    )  # fmt: skip
    edges = np.linspace(0, 1, num_bins + 1)[1:-1]
    counts = np.stack(
        [np.bincount(np.searchsorted(edges, p), minlength=num_bins) for p in probabilities.T]
    )
    predicted, observed = np.full((2, *counts.shape), np.nan)
    for k in range(num_components):
        predicted[k, counts[k] > 0] = ece["probs_pred"][k]
        observed[k, counts[k] > 0] = ece["probs_true"][k]
    return MembershipCalibration(
        error=ece["values"], predicted=predicted, observed=observed, counts=counts
    )


def calibrated_errors(
    probabilities: np.ndarray, *, num_draws: int = 200, num_bins: int = 10, seed: int | None = None
) -> np.ndarray:
    """Expected calibration errors that the probabilities would have if they were right.

    Parameters
    ----------
    probabilities : array, shape (..., K)
        As for `membership_calibration`. Observations are taken as independent given these.
    num_draws : int
        How many times the indicators are drawn.
    num_bins : int
        As there.
    seed : int, optional
        Makes the draws repeatable.

    Returns
    -------
    array, shape (num_draws, K)
        The `MembershipCalibration.error` of each draw.

    Raises
    ------
    ValueError
        As `membership_calibration`, or if num_draws is no positive integer.

    Examples
    --------
    >>> p = np.random.default_rng(1).dirichlet([1, 1], size=500)
    >>> errors = calibrated_errors(p, seed=2)
    >>> errors.shape, bool(0.01 < errors.mean() < 0.06)
    ((200, 2), True)
    """
    if not (isinstance(num_draws, int | np.integer) and num_draws >= 1):
        raise ValueError(f"num_draws: expected a positive integer, got {num_draws!r}.")
    anything = np.zeros(np.shape(probabilities)[:-1], dtype=int)
    probabilities, _ = _check(probabilities, anything, num_bins)
    rng = np.random.default_rng(seed)
    drawn = (draw_categorical(rng, probabilities) for _ in range(num_draws))
    return np.stack(
        [membership_calibration(probabilities, z, num_bins=num_bins).error for z in drawn]
    )


def predicted_membership(
    workflow, simulated, *, at: str = "truth", num_samples: int = 500, seed: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Membership probabilities of simulated observations, for `membership_calibration`.

    Parameters
    ----------
    workflow : MixtureWorkflow
    simulated : dict or list of dict
        What `MixtureModel.simulate` returns.
    at : {"truth", "draws"}
        p(z_i | y, theta) at the true parameters, or p(z_i | y), its mean over draws from the
        workflow's posterior. The second needs both networks to be right.
    num_samples : int
        Draws to average over; not used at the truth.
    seed : int, optional
        Makes the draws repeatable.

    Returns
    -------
    probabilities : array, shape (M, K)
    z : array of int, shape (M,)
        Of all observations of all data sets that are not masked.

    Raises
    ------
    TypeError, ValueError
        If the simulated data lack the truth, or `at` is neither of the two.

    Examples
    --------
    >>> import abmtools as abm, numpy as np
    >>> workflow = abm.load_pretrained("gaussian_mixture")
    >>> rng = np.random.default_rng(1)
    >>> simulated = workflow.model.simulate(20, rng=rng, num_obs=200, num_reps=3)
    >>> probabilities, z = predicted_membership(workflow, simulated)
    >>> probabilities.shape, z.shape
    ((4000, 3), (4000,))
    >>> membership_calibration(probabilities, z).expected_calibration_error < 0.05
    True
    """
    if at not in {"truth", "draws"}:
        raise ValueError(f"at: expected 'truth' or 'draws', got {at!r}.")
    require_workflow(workflow)
    model, rng = workflow.model, np.random.default_rng(seed)
    probabilities, indicators = [], []
    for batch in parts(model, simulated, 1 if at == "truth" else num_samples):
        data = model.check_data(batch)
        if at == "truth":
            membership = workflow.membership(data, truth(model, batch))[:, 0]
        else:
            seed = int(rng.integers(2**31))
            draws = workflow.sample(conditions=data, num_samples=num_samples, seed=seed)
            membership = draws.membership.mean(axis=1)
        observed = data.get("mask", np.ones(data["y"].shape[:2], dtype=bool))
        probabilities.append(membership[observed])
        indicators.append(batch["z"][observed])
    return np.concatenate(probabilities), np.concatenate(indicators)


def _check(probabilities, z, num_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Validated probabilities, (M, K), that sum to one in double precision, and z, (M,)."""
    probabilities, z = np.asarray(probabilities, dtype="float64"), np.asarray(z)
    if probabilities.ndim < 2 or probabilities.shape[:-1] != z.shape or z.size == 0:
        raise ValueError(
            "probabilities, z: expected shapes (..., K) and (...) with at least one observation, "
            f"got {probabilities.shape} and {z.shape}."
        )
    num_components = probabilities.shape[-1]
    if not (np.all(probabilities >= 0) and np.allclose(probabilities.sum(axis=-1), 1, atol=1e-4)):
        raise ValueError("probabilities: expected non-negative numbers that sum to one.")
    if not np.issubdtype(z.dtype, np.integer) or z.min() < 0 or z.max() >= num_components:
        raise ValueError(
            f"z: expected integers from 0 to {num_components - 1}, got {np.unique(z)}."
        )
    if num_bins < 1:
        raise ValueError(f"num_bins: expected a positive integer, got {num_bins}.")
    total = probabilities.sum(axis=-1, keepdims=True)  # one, but for single precision
    return (probabilities / total).reshape(-1, num_components), z.ravel()

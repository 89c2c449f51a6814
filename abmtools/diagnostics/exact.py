r"""The exact posterior density, up to the evidence.

A model that knows its prior and its emission density knows

.. math:: \log p(u, y) = \log p(\theta) + \log p(y \mid \theta)
                         - \log \left| \frac{du}{d\theta} \right| ,
          \qquad \theta = \theta(u) ,

the joint density of the data and of the unconstrained parameters u on which networks and NUTS
work. It is :math:`\log p(u \mid y)` plus the log evidence. A prior that is known up to a constant
shifts both by that constant, and nothing else.
"""

from collections.abc import Mapping

import numpy as np

__all__ = ["log_posterior"]

SCORES_AT_ONCE = 1_500_000  # emission scores in memory, 12 MB: near what a cache holds


def log_posterior(model, data: Mapping, u: np.ndarray) -> np.ndarray:
    r"""log p(u, y) on the unconstrained scale, up to the constant of the prior.

    Parameters
    ----------
    model : MixtureModel
        A model with a `log_prior` and a `log_emission`.
    data : mapping of str to array
        ``"y"``, (B, N, ...), and masks; see `MixtureModel.check_data`.
    u : array, shape (B, S, D)
        Unconstrained parameters. Numbers so large that the parameters they stand for round to the
        boundary of their space, or overflow, have density zero.

    Returns
    -------
    array, shape (B, S)
        ``-inf`` where the density is zero. Work is done in parts that need some 50 MB.

    Raises
    ------
    ValueError
        If the model lacks a density, u has the wrong shape or holds NaN, or the model's density
        is NaN or infinite at a parameter inside its space.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("gaussian_mixture")
    >>> y = workflow.simulate(2, num_obs=200, num_reps=3)["y"]
    >>> posterior = workflow.sample(conditions={"y": y}, num_samples=100, seed=1)
    >>> log_posterior(posterior.model, posterior.data, posterior.unconstrained).shape
    (2, 100)
    """
    _check_likelihood(model)
    data = model.check_data(data)
    u = np.asarray(u, dtype="float64")
    num_datasets = len(data["y"])
    if u.ndim != 3 or len(u) != num_datasets or u.shape[2] != model.num_unconstrained:
        raise ValueError(
            f"u: expected shape ({num_datasets}, S, {model.num_unconstrained}), got {u.shape}."
        )
    if np.isnan(u).any():
        raise ValueError(f"u: expected numbers, got NaN in {np.isnan(u).any(axis=2).sum()} draws.")
    rows = max(1, SCORES_AT_ONCE // (data["y"].shape[1] * model.num_components))
    datasets = max(1, rows // max(1, u.shape[1]))
    density = np.empty(u.shape[:2])
    for first in range(0, num_datasets, datasets):
        part = {key: value[first : first + datasets] for key, value in data.items()}
        for start in range(0, u.shape[1], rows):
            block = np.s_[first : first + datasets, start : start + rows]
            density[block] = _log_density(model, part, u[block])
    return density


def _log_density(model, data: dict, u: np.ndarray) -> np.ndarray:
    """log p(u, y) of a part that fits in memory."""
    parameters = model.constrain(u, data)
    inside = _inside(model, parameters)
    if not inside.all():  # the model is asked about the origin instead; the answer is not used
        origin = model.constrain(np.zeros_like(u), data)
        parameters = {
            name: np.where(inside.reshape(inside.shape + (1,) * (x.ndim - 2)), x, origin[name])
            for name, x in parameters.items()
        }
    density = model.log_joint(data, parameters) - model.log_det_jacobian(parameters, data)
    density = np.where(inside, density, -np.inf)
    wrong = np.isnan(density) | np.isposinf(density)
    if wrong.any():
        dataset, draw = np.argwhere(wrong)[0]
        found = {name: x[dataset, draw].tolist() for name, x in parameters.items()}
        raise ValueError(
            f"{model.name}: log_prior or log_emission is {density[dataset, draw]} at {found}."
        )
    return density


def _inside(model, parameters: dict) -> np.ndarray:
    """Whether each parameter vector is inside its space, in floating point; (B, S)."""
    inside = np.ones(1, dtype=bool)
    for name, constraint in model.space.constraints.items():
        with np.errstate(invalid="ignore"):  # infinity minus infinity, which is not inside
            obeys = constraint.inside(parameters[name])
        for condition in (np.isfinite(parameters[name]), obeys):
            inside = inside & np.all(condition, axis=tuple(range(2, np.ndim(condition))))
    return inside


def _check_likelihood(model) -> None:
    if not model.has_likelihood:
        raise ValueError(
            f"{model.name}: an exact density needs a model with log_prior and log_emission; "
            "calibration and comparisons work without them."
        )

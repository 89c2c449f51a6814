r"""Conversion: from an engine's arrays to a DataTree with ArviZ's names.

Stan sees only the observations that are there. Of a missing observation the data say nothing, and
for independent indicators

.. math:: p(z_i = k \mid y, \theta) = \pi_k ,

so its membership is the draw of the mixture weights. With it, membership covers all N observations.
Programs of chains get all time points, and return ``membership``, which is smoothing,
``filtering`` and a drawn ``path`` for all of them.
"""

from collections.abc import Mapping

import numpy as np
from arviz_base import from_dict
from xarray import DataTree

from ..inference.datatree import INDICATOR_DIMS
from .engines import MAX_TREE_DEPTH, Fit

__all__ = ["to_datatree"]

STATISTICS = {
    "lp__": "lp",
    "accept_stat__": "acceptance_rate",
    "stepsize__": "step_size",
    "treedepth__": "tree_depth",
    "n_leapfrog__": "n_steps",
    "divergent__": "diverging",
    "energy__": "energy",
}
TOLERANCE = 1e-4  # of probabilities that a program returns
DTYPES = {"tree_depth": int, "n_steps": int, "diverging": bool}


def to_datatree(fit: Fit, model, data: Mapping[str, np.ndarray], *, attrs: Mapping) -> DataTree:
    """Convert a fit.

    Parameters
    ----------
    fit : Fit
    model : MixtureModel
    data : mapping of str to array
        One data set without batch axis, as checked by the model: ``"y"``, (N, ...), and
        possibly ``"mask"``, (N,), and ``"replicate_mask"``, (N, R).
    attrs : mapping
        Attributes of the tree and of its posterior.

    Returns
    -------
    DataTree
        Groups ``posterior``, ``sample_stats`` and ``observed_data``.

    Raises
    ------
    ValueError
        If the program lacks a parameter of the model, or a variable has another shape than the
        model or the data say.
    """
    posterior = _parameters(fit, model)
    if "membership" in fit.variables:
        posterior["membership"] = _require_probabilities(
            "membership", _membership(fit, model, data)
        )
    num_obs, num_components = len(data["y"]), model.num_components
    if "filtering" in fit.variables:
        filtering = _variable(fit, "filtering", (num_obs, num_components))
        posterior["filtering"] = _require_probabilities("filtering", filtering)
    if "path" in fit.variables:
        path = _variable(fit, "path", (num_obs,))
        if not np.all((path >= 1) & (path <= num_components)):
            raise ValueError(
                f"stan_program: expected 'path' with states 1 to {num_components}, "
                f"got {path.min():.0f} to {path.max():.0f}."
            )
        posterior["path"] = path.astype(int) - 1  # Stan counts from one
    return from_dict(
        {
            "posterior": posterior,
            "sample_stats": _statistics(fit),
            "observed_data": dict(data),
        },
        dims={
            **{name: list(dims) for name, dims in model.parameter_dims.items()},
            **{name: list(dims) for name, dims in INDICATOR_DIMS.items()},
            **{key: list(model.observation_dims[: value.ndim]) for key, value in data.items()},
        },
        attrs={"/": dict(attrs), "posterior": dict(attrs)},
    )


def _parameters(fit: Fit, model) -> dict[str, np.ndarray]:
    """The model's parameters, each (chains, draws, *shape)."""
    missing = [name for name in model.parameter_names if name not in fit.variables]
    if missing:
        raise ValueError(
            f"stan_program: expected the parameters {list(model.parameter_names)} of {model.name}, "
            f"but the program has no {missing}; it has {list(fit.variables)}."
        )
    for name, shape in model.parameter_shapes.items():
        if fit.variables[name].shape[2:] != tuple(shape):
            raise ValueError(
                f"stan_program: expected {name!r} of shape {tuple(shape)} as in {model.name}, "
                f"got {fit.variables[name].shape[2:]}."
            )
    return {name: fit.variables[name] for name in model.parameter_names}


def _variable(fit: Fit, name: str, shape: tuple) -> np.ndarray:
    """A variable of one shape, (chains, draws, *shape)."""
    found = fit.variables[name]
    if found.shape[2:] != shape:
        raise ValueError(
            f"stan_program: expected {name!r} of shape {shape}, also where observations are "
            f"missing, got {found.shape[2:]}."
        )
    return found


def _require_probabilities(name: str, found: np.ndarray) -> np.ndarray:
    """Probabilities of the components, if they are some; logarithms, for example, are none."""
    total = found.sum(axis=-1)
    if found.min() < -TOLERANCE or not np.allclose(total, 1, atol=TOLERANCE):
        raise ValueError(
            f"stan_program: expected {name!r} with probabilities in its rows, got numbers from "
            f"{found.min():.3g} to {found.max():.3g} and sums from {total.min():.3g} to "
            f"{total.max():.3g}."
        )
    return found


def _membership(fit: Fit, model, data: Mapping) -> np.ndarray:
    """Membership of all observations, (chains, draws, N, K)."""
    membership = fit.variables["membership"]
    num_obs = len(data["y"])
    observed = data.get("mask", np.ones(num_obs, dtype=bool))
    if not model.structure.exchangeable:
        return _variable(fit, "membership", (num_obs, model.num_components))
    rows, *rest = membership.shape[2:]
    if rest != [model.num_components] or rows not in (num_obs, observed.sum()):
        raise ValueError(
            f"stan_program: expected 'membership' of shape ({observed.sum()}, "
            f"{model.num_components}), one row per observation, got {membership.shape[2:]}."
        )
    if observed.all():
        return membership
    weights = _weights(fit, model)
    if rows == num_obs:
        if not np.allclose(membership[:, :, ~observed], weights[..., None, :], atol=TOLERANCE):
            raise ValueError(
                "stan_data: expected that missing observations, where mask is False, are left out; "
                "the program's membership of them is not their weights."
            )
        return membership
    complete = np.empty((*membership.shape[:2], num_obs, model.num_components))
    complete[:, :, observed] = membership
    complete[:, :, ~observed] = weights[..., None, :]
    return complete


def _weights(fit: Fit, model) -> np.ndarray:
    """p(z_i = k | theta) of independent indicators, (chains, draws, K) or, if fixed, (K,)."""
    weights = model.structure.weights
    return fit.variables[weights] if isinstance(weights, str) else np.asarray(weights)


def _statistics(fit: Fit) -> dict[str, np.ndarray]:
    """Sampler statistics under ArviZ's names, each (chains, draws)."""
    statistics = {
        name: fit.statistics[column].astype(DTYPES.get(name, float))
        for column, name in STATISTICS.items()
    }
    return statistics | {"reached_max_treedepth": statistics["tree_depth"] >= MAX_TREE_DEPTH}

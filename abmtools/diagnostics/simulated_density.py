r"""Emission densities by brute force: what a component without a likelihood can be checked against.

At one :math:`\theta` the density of a component that can only be simulated is known as well as one
is ready to pay for. Of draws from :math:`p(y \mid z = k, \theta)`, those with the same discrete
part r, such as a response, are sorted by their continuous part t, such as its time, and cut into
bins of m draws each, fewer in the tails. With :math:`\Delta` the width of a bin and n all draws,

.. math:: \hat p(t, r \mid z = k, \theta) = \frac{m}{n \, \Delta} ,

at the middle of the bin, has relative standard error :math:`1 / \sqrt{m}` wherever it is. Its
logarithm is interpolated linearly between bins, and extrapolated beyond the last. No network and
no kernel width is involved. From these scores the model's structure gives filtering and smoothing
as from exact ones.
"""

from collections.abc import Mapping

import keras
import numpy as np
from scipy.interpolate import make_interp_spline

__all__ = ["simulated_membership", "simulated_scores"]

DRAWS_PER_BIN = 5000
SMALLEST_BIN = 20  # at both ends; towards the middle each is larger by
GROWTH = 1.3
FIRST = 1000  # draws that tell whether columns are discrete
MOST_CATEGORIES = 100  # among these: of a continuous column nearly all are different


def simulated_scores(
    model, data: Mapping, parameters: Mapping, *, num_draws: int = 4_000_000, seed: int = 1
) -> np.ndarray:
    """log p(y_i | z_i = k, theta), estimated by simulating each component many times.

    Parameters
    ----------
    model : MixtureModel
        Of observations with a continuous part, alone or in the first column, and discrete others.
    data : mapping of str to array
        ``"y"``, (B, N) or (B, N, D), and a mask; see `MixtureModel.check_data`.
    parameters : mapping of str to array
        One vector for each data set, ``{name: (B, ...)}``, with the axis B for a single one, too.
        What else it holds is ignored.
    num_draws : int
        Draws of each component at each parameter vector, at least 25,000. Four million races of
        half a second take some six seconds.
    seed : int

    Returns
    -------
    array, shape (B, N, K)
        Zero where an observation is masked.

    Raises
    ------
    TypeError, ValueError
        For bad data, see `MixtureModel.check_data`; if parameters are not one vector for each data
        set inside the constraints, the model has replicates, there are too few draws, or columns
        after the first are not discrete.

    Examples
    --------
    >>> import abmtools as abm, numpy as np
    >>> model = abm.EvidenceAccumulationHMM()
    >>> simulated = model.simulate(2, rng=np.random.default_rng(1), num_obs=50)
    >>> simulated_scores(model, simulated, simulated, num_draws=50_000).shape
    (2, 50, 2)
    """
    if model.num_reps is not None:
        raise ValueError(f"model: expected one without replicates, got {model.name}.")
    if num_draws < 5 * DRAWS_PER_BIN:
        raise ValueError(f"num_draws: expected at least {5 * DRAWS_PER_BIN}, got {num_draws}.")
    data = model.check_data(data)
    parameters = _check_parameters(model, parameters, len(data["y"]))
    observed = _columns(data["y"])
    scores = np.empty((*observed.shape[:2], model.num_components))
    rng = np.random.default_rng(seed)
    for b, y in enumerate(observed):
        theta = {name: value[b : b + 1] for name, value in parameters.items()}
        for k in range(model.num_components):
            indicators = np.full((1, num_draws), k)
            draws = _columns(model.emission(rng, theta, indicators)["y"])[0]
            _require_discrete(model, draws[:, 1:])
            scores[b, :, k] = _log_density(y, draws)
    return np.where(data["mask"][..., None], scores, 0.0) if "mask" in data else scores


def simulated_membership(
    model, data: Mapping, parameters: Mapping, *, num_draws: int = 4_000_000, seed: int = 1
) -> np.ndarray:
    """Near-exact p(z_i = k | y, theta), (B, N, K), from `simulated_scores`; smoothing of a chain.

    Arguments and errors are those of `simulated_scores`; the structure's distribution must be
    known.

    Examples
    --------
    >>> import abmtools as abm, numpy as np
    >>> model = abm.EvidenceAccumulationHMM()
    >>> simulated = model.simulate(1, rng=np.random.default_rng(1), num_obs=50)
    >>> membership = simulated_membership(model, simulated, simulated, num_draws=200_000)
    >>> theta = {name: simulated[name][:, None] for name in model.parameter_names}
    >>> bool(np.abs(membership - model.exact_membership(simulated, theta)[:, 0]).max() < 0.05)
    True
    """
    if not model.has_known_structure:
        raise ValueError(f"model: the indicators of {model.name} can only be simulated.")
    scores = simulated_scores(model, data, parameters, num_draws=num_draws, seed=seed)
    one = {name: np.asarray(parameters[name])[:, None] for name in model.parameter_names}
    log_membership = model.structure.log_membership(scores[:, None], one)
    return np.exp(keras.ops.convert_to_numpy(log_membership))[:, 0]


def _check_parameters(model, parameters, num_datasets: int) -> dict[str, np.ndarray]:
    """The model's parameters, {name: (B, ...)}."""
    if not isinstance(parameters, Mapping):
        raise TypeError(
            f"parameters: expected a dictionary of arrays, got {type(parameters).__name__}."
        )
    own = {name: parameters[name] for name in model.parameter_names if name in parameters}
    checked = model.space.check(own)
    name, shape = next(iter(model.parameter_shapes.items()))
    leading = checked[name].shape[: checked[name].ndim - len(shape)]
    if leading != (num_datasets,):
        raise ValueError(
            f"parameters: expected one vector for each of {num_datasets} data sets, leading axes "
            f"({num_datasets},), got {leading}."
        )
    return checked


def _require_discrete(model, columns: np.ndarray) -> None:
    """Refuse columns of draws, (n, D - 1), that a table of categories cannot hold."""
    found = len(np.unique(columns[:FIRST], axis=0)) if columns.size else 0
    if found > MOST_CATEGORIES:
        raise ValueError(
            f"model: expected observations of {model.name} with at most one continuous column, "
            f"the first, and few categories in the others, got {found} different ones in "
            f"{FIRST} draws."
        )


def _columns(y: np.ndarray) -> np.ndarray:
    return y[..., None] if y.ndim == 2 else y


def _log_density(y: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Estimate at y, (N, D), from draws, (n, D)."""
    result = np.empty(len(y))
    for discrete in np.unique(y[:, 1:], axis=0):
        here = np.all(y[:, 1:] == discrete, axis=1)
        times = np.sort(draws[np.all(draws[:, 1:] == discrete, axis=1), 0])
        result[here] = _log_histogram(y[here, 0], times) - np.log(len(draws))
    return result


def _log_histogram(t: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Logarithm of the number of sorted times per unit of time, at t."""
    if len(times) < 2 * SMALLEST_BIN:  # of a discrete part that hardly occurs
        spread = np.ptp(times) if len(times) > 1 else np.ptp(t) + 1
        return np.full(len(t), np.log(max(len(times), 1) / spread))
    ranks = _ranks(len(times))
    edges = times[ranks]
    middles = (edges[1:] + edges[:-1]) / 2
    log_count = np.log(np.diff(ranks) / np.diff(edges))
    return make_interp_spline(middles, log_count, k=1)(t)  # which extrapolates, too


def _ranks(size: int) -> np.ndarray:
    """Ranks of the bins' edges: bins of `DRAWS_PER_BIN` draws, smaller in both tails."""
    growth = SMALLEST_BIN * GROWTH ** np.arange(100)
    tail = np.cumsum(growth[growth < DRAWS_PER_BIN].astype(int))
    tail = np.concatenate([[0], tail[tail < size // 3]])
    middle = np.arange(tail[-1], size - tail[-1], DRAWS_PER_BIN)
    return np.unique(np.concatenate([tail, middle, size - 1 - tail]))

r"""Posterior predictive: whether data simulated from the posterior look like those observed.

Replicated data sets of the size of the observed one are drawn from

.. math:: p(y^{\text{rep}}, z^{\text{rep}} \mid y) =
          \int p(y^{\text{rep}}, z^{\text{rep}} \mid \theta) \, p(\theta \mid y) \, d\theta .

A statistic T of all observations says whether the mixture fits as a whole. Whether its components
do needs T of the observations in state k alone. The observed states are not known, but draws of
them are: for each :math:`\theta_s`, with :math:`z_s \sim p(z \mid y, \theta_s)` and
:math:`(y_s^{\text{rep}}, z_s^{\text{rep}})` simulated from :math:`\theta_s`,

.. math:: T(\{y_i : z_{s,i} = k\}) \quad \text{is compared with} \quad
          T(\{y^{\text{rep}}_{s,i} : z^{\text{rep}}_{s,i} = k\}) ,

which is a posterior predictive check with a discrepancy that depends on parameters and on latent
indicators. Its p-value is the share of draws where the second exceeds the first; ties count half.
Where the network knows single states only (a `SequenceClassifier`), those of :math:`z_s` are drawn
independently of each other.

References
----------
Gelman, A., Meng, X.-L., & Stern, H. (1996). Posterior predictive assessment of model fitness via
realized discrepancies. Statistica Sinica, 6(4), 733-760.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..inference import MixturePosterior
from ..inference.selection import select_datasets
from ..models.data import MASKS
from .draws import require_posterior
from .simulated import simulate_like

__all__ = ["PredictiveCheck", "posterior_predictive", "predictive_check"]

LEVELS = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class PredictiveCheck:
    """A statistic of observed and of replicated data, at the same draws of the parameters.

    Attributes
    ----------
    observed, replicated : arrays, shape (B, M, K, ...)
        Of each data set, draw and state, and then whatever shape the statistic has. NaN in a state
        that no observation is in. Where the statistic is of all states together, K is one.
    by_state : bool
        Whether it is of each state.
    """

    observed: np.ndarray
    replicated: np.ndarray
    by_state: bool = True

    def __len__(self) -> int:
        return len(self.observed)

    def __getitem__(self, index) -> "PredictiveCheck":
        """The check of some of the data sets, by an index or a slice; keeps the axis B."""
        index = select_datasets(index, len(self))
        return PredictiveCheck(self.observed[index], self.replicated[index], self.by_state)

    @property
    def p_value(self) -> np.ndarray:
        """How often the replicated statistic is the larger one, (B, K, ...); ties count half.

        Near 0 or 1 the model cannot produce what was observed. Of the draws where both are there;
        NaN where there are none.
        """
        both = ~(np.isnan(self.observed) | np.isnan(self.replicated))
        larger = 0.5 * (self.replicated > self.observed) + 0.5 * (self.replicated >= self.observed)
        count = both.sum(axis=1)
        share = np.sum(larger, axis=1, where=both) / np.maximum(count, 1)
        return np.where(count > 0, share, np.nan)

    def __str__(self) -> str:
        rows, p_value = {}, self.p_value
        for b, k, *entry in np.ndindex(p_value.shape):
            values = [x[(b, slice(None), k, *entry)] for x in (self.observed, self.replicated)]
            observed, replicated = (x[~np.isnan(x)] for x in values)
            if observed.size and replicated.size:
                interval = np.quantile(replicated, LEVELS)
                label = (b, k if self.by_state else "all", ", ".join(map(str, entry)))
                rows[label] = [np.median(observed), *interval, p_value[(b, k, *entry)]]
        columns = ["observed", *(f"replicated {100 * level:.0f} %" for level in LEVELS), "p"]
        table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
        table.index = pd.MultiIndex.from_tuples(rows, names=["data set", "state", "entry"])
        return (
            f"posterior predictive check, {self.observed.shape[1]} draws\n"
            f"{table.to_string(float_format='{:.3f}'.format)}"
        )


def posterior_predictive(
    posterior: MixturePosterior, *, num_draws: int = 100, seed: int = 1
) -> dict[str, np.ndarray]:
    """Simulate data sets of the size of the observed ones at draws from their posterior.

    Parameters
    ----------
    posterior : MixturePosterior
        With weights, if it has any, taken into account.
    num_draws : int
        Simulated data sets M for each observed one, from draws evenly spaced among those there are.
    seed : int

    Returns
    -------
    dict of str to array
        ``"y"``, (B, M, N, ...), ``"z"``, (B, M, N), and the masks of the data, (B, M, ...).

    Raises
    ------
    TypeError
        If `posterior` is no `MixturePosterior`.
    ValueError
        If num_draws < 1, or the model's emission masks what was observed.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("gaussian_mixture")
    >>> data = workflow.simulate(2, num_obs=150, num_reps=3)
    >>> posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=500, seed=1)
    >>> posterior_predictive(posterior, num_draws=20)["y"].shape
    (2, 20, 150, 3)
    """
    draws = _equal_draws(posterior, num_draws, seed)
    return _replicate(draws, np.random.default_rng(seed))


def predictive_check(
    posterior: MixturePosterior,
    statistic: Callable[..., np.ndarray],
    *,
    by_state: bool = True,
    with_states: bool = False,
    num_draws: int = 200,
    seed: int = 1,
) -> PredictiveCheck:
    """Compare a statistic of the observed data with the same of replicated data.

    Parameters
    ----------
    posterior : MixturePosterior
        With weights, if it has any, taken into account.
    statistic : callable
        ``statistic(y)`` returns a number or an array of a fixed shape from observations y, (n, ...)
        with n >= 1, those in one state. Missing replicates in them are NaN.
    by_state : bool
        Whether to compute it for each state, or for all observations together.
    with_states : bool
        Whether it is a function of all observations and their states, ``statistic(y, z)``, with z
        of shape (n,): of what follows a switch, for instance. Then it is not computed by state.
    num_draws : int
        Draws M of parameters, states and replicated data.
    seed : int

    Returns
    -------
    PredictiveCheck

    Raises
    ------
    TypeError
        If `posterior` is no `MixturePosterior`, or the statistic is not callable.
    ValueError
        If num_draws < 1, the statistic changes its shape or is never a number, or the model's
        emission masks what was observed.

    Notes
    -----
    Where the structure can only be simulated, as with `Simulated`, or the network is a
    `SequenceClassifier` (``posterior.filtering`` is there, ``posterior.scores`` is None), the
    network knows the state of each observation, but not how they depend on each other. The states
    of the observed data are then drawn independently at each time, which is no draw of
    p(z | y, theta). Statistics of single observations in a state, such as means and quantiles, are
    right. Those of whole sequences of states are not, and their p-values mean nothing: how many
    observations are in a state, how long its runs are, what follows a switch, how observations that
    follow each other in it are related.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("gaussian_mixture")
    >>> y = workflow.simulate(1, num_obs=200, num_reps=3)["y"]
    >>> posterior = workflow.sample(conditions={"y": y}, num_samples=500, seed=1)
    >>> check = predictive_check(posterior, lambda y: np.quantile(y.mean(axis=1), [0.1, 0.9]))
    >>> check.p_value.shape
    (1, 3, 2)
    """
    if not callable(statistic):
        raise TypeError(f"statistic: expected a callable, got {type(statistic).__name__}.")
    rng = np.random.default_rng(seed)
    draws = _equal_draws(posterior, num_draws, seed)
    replicated = _replicate(draws, rng)
    observed = {
        key: np.broadcast_to(x[:, None], (len(x), num_draws, *x.shape[1:]))
        for key, x in draws.data.items()
    } | {"z": draws.draw_indicators(seed=int(rng.integers(2**31)))}
    by_state = by_state and not with_states
    num_states = draws.model.num_components if by_state else 1
    values = [
        _statistics(statistic, x, num_states, with_states=with_states)
        for x in (observed, replicated)
    ]
    if values[0].shape != values[1].shape:
        raise ValueError(_changed_shape(values[0].shape[3:], values[1].shape[3:]))
    if all(np.isnan(value).all() for value in values):
        raise ValueError(
            "statistic: expected a number or an array of numbers, got NaN or None for all "
            "observed and replicated data."
        )
    return PredictiveCheck(*values, by_state=by_state)


def _equal_draws(posterior: MixturePosterior, num_draws: int, seed: int) -> MixturePosterior:
    """Draws of equal weight, as many as are asked for."""
    require_posterior(posterior)
    if not (isinstance(num_draws, int | np.integer) and num_draws >= 1):
        raise ValueError(f"num_draws: expected a positive integer, got {num_draws!r}.")
    return posterior.with_equal_weights(num_draws, seed=seed)


def _replicate(draws: MixturePosterior, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A simulated data set for each draw, (B, M, ...)."""
    leading = draws.unconstrained.shape[:2]
    data = {key: np.repeat(x, leading[1], axis=0) for key, x in draws.data.items()}
    parameters = {name: x.reshape(-1, *x.shape[2:]) for name, x in draws.parameters.items()}
    simulated = simulate_like(draws.model, data, parameters, rng=rng)
    return {key: x.reshape(*leading, *x.shape[1:]) for key, x in simulated.items()}


def _statistics(
    statistic: Callable, data: dict, num_states: int, *, with_states: bool
) -> np.ndarray:
    """The statistic of each data set, draw and state, (B, M, K, ...)."""
    values = None
    for index, y, z in _sequences(data):
        for k in range(num_states):
            chosen = y[z == k] if num_states > 1 else y
            if not len(chosen):
                continue
            value = statistic(chosen, z) if with_states else statistic(chosen)
            value = np.asarray(value, dtype="float64")
            if values is None:
                values = np.full((*data["z"].shape[:2], num_states, *value.shape), np.nan)
            if value.shape != values.shape[3:]:
                raise ValueError(_changed_shape(values.shape[3:], value.shape))
            values[(*index, k)] = value
    return values


def _sequences(data: dict) -> Iterator[tuple[tuple, np.ndarray, np.ndarray]]:
    """Index (b, m), observations and states of each data set, without what is missing."""
    there = {key: data[key] for key in MASKS if key in data}
    for index in np.ndindex(data["z"].shape[:2]):
        y, z = np.asarray(data["y"][index], dtype="float64"), data["z"][index]
        if "replicate_mask" in there:
            shown = there["replicate_mask"][index]
            y = np.where(shown.reshape(shown.shape + (1,) * (y.ndim - 2)), y, np.nan)
        observed = there["mask"][index] if "mask" in there else slice(None)
        yield index, y[observed], z[observed]


def _changed_shape(expected: tuple, got: tuple) -> str:
    return f"statistic: expected the same shape of every state, got {expected} and {got}."

r"""Disturbances: observations whose components have other shapes, and that depend on each other.

Mixed parameters make a component's distribution wider. Real ones can also be narrower, more or less
skewed, or have other correlations. So each observation is one of C candidates y of the same
component, taken with probabilities in proportion to

.. math:: \exp(b \, f_k(y)) ,

where :math:`f_k` is a random polynomial of degree two: nearly a draw of the component's
distribution, exponentially tilted.

And given its component, an observation of the model knows nothing of its neighbours. Real ones do:
who was slow is still slow a trial later, and people do not switch from one trial to the next, but
approach the other state. So the observations of each component change places with each other. Their
order along a direction, mostly that from the component to the others, becomes the order of

.. math:: a \, s_t + b \, x_t + \epsilon_t ,

where :math:`s_t` falls from 1 at a switch of components to 0 far from it, :math:`x_t` is a
stationary autoregression and :math:`\epsilon_t` noise. That changes no component's distribution.

Shapes: C candidates, B data sets of N observations, K components, F features.
"""

import numpy as np

__all__ = ["reorder", "tilt"]

PRESENT = 0.6  # probability of each of the disturbances
TILT = 3.0  # standard deviation of b f_k(y), at most
NEAR_SWITCHES = 4.0  # a, at most
NEIGHBOURS = 1.2  # b, at most
FADING = (0.5, 8.0)  # range of the number of observations in which s_t falls to 1/e


def tilt(rng: np.random.Generator, candidates: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Observations, (B, N, ...), each one of its candidates, (C, B, N, ...).

    Parameters
    ----------
    rng : numpy.random.Generator
    candidates : ndarray of shape (C, B, N, ...)
    own : ndarray of bool, shape (B, N, K)
        Which component each observation belongs to.

    Examples
    --------
    >>> import numpy as np
    >>> from abmtools.heterogeneity.disturbances import tilt
    >>> rng = np.random.default_rng(1)
    >>> own = rng.integers(2, size=(5, 100))[..., None] == np.arange(2)
    >>> tilt(rng, rng.normal(size=(4, 5, 100)), own).shape
    (5, 100)
    """
    x = _features(candidates)
    first, second = np.triu_indices(x.shape[-1])
    x = np.concatenate([x, x[..., first] * x[..., second]], axis=-1)
    f = _project(x, rng.normal(size=(*own.shape[::2], x.shape[-1])), own)
    f /= f.std(axis=(0, 2), keepdims=True) + 1e-9
    b = TILT * _strength(rng, len(own))
    chosen = np.argmax(b * f + rng.gumbel(size=f.shape), axis=0)
    chosen = chosen.reshape(1, *chosen.shape, *[1] * (candidates.ndim - 3))
    return np.take_along_axis(candidates, chosen, axis=0)[0]


def reorder(rng: np.random.Generator, y: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Observations, (B, N, ...), in another order within each component.

    Parameters
    ----------
    rng : numpy.random.Generator
    y : ndarray of shape (B, N, ...)
    own : ndarray of bool, shape (B, N, K)
        Which component each observation belongs to.

    Examples
    --------
    >>> import numpy as np
    >>> from abmtools.heterogeneity.disturbances import reorder
    >>> rng = np.random.default_rng(1)
    >>> z, y = rng.integers(2, size=(5, 100)), rng.normal(size=(5, 100))
    >>> found = reorder(rng, y, z[..., None] == np.arange(2))
    >>> all(set(found[z == k]) == set(y[z == k]) for k in range(2))
    True
    """
    x = _features(y[None])[0]
    towards = _centers(x, ~own) - _centers(x, own)
    length = np.linalg.norm(towards, axis=-1, keepdims=True) / np.sqrt(x.shape[-1])
    aside = rng.uniform(0, 1, (len(y), 1, 1)) * length * rng.normal(size=towards.shape)
    z = own.argmax(axis=-1)
    wanted = rng.normal(size=z.shape)
    wanted += NEAR_SWITCHES * _strength(rng, len(y)) * _nearness_to_switches(rng, z)
    wanted += NEIGHBOURS * _strength(rng, len(y)) * _autoregression(rng, z.shape)
    ranked = np.lexsort([_project(x, towards + aside, own), z], axis=-1)
    order = np.empty_like(ranked)
    np.put_along_axis(order, np.lexsort([wanted, z], axis=-1), ranked, axis=1)
    return np.take_along_axis(y, order.reshape(*order.shape, *[1] * (y.ndim - 2)), axis=1)


def _strength(rng: np.random.Generator, batch_size: int) -> np.ndarray:
    """From 0 to 1, often 0; (B, 1)."""
    return rng.random((batch_size, 1)) * (rng.random((batch_size, 1)) < PRESENT)


def _features(y: np.ndarray) -> np.ndarray:
    """Bounded numbers that describe observations, (C, B, N, ...): (C, B, N, F)."""
    y = y.reshape(*y.shape[:3], -1)
    center, scale = (statistic(y, axis=(0, 2), keepdims=True) for statistic in (np.mean, np.std))
    return np.tanh((y - center) / (scale + 1e-9))


def _project(x: np.ndarray, direction: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Features, (..., B, N, F), along their component's direction, (B, K, F): (..., B, N)."""
    return np.einsum("...bnf,bkf,bnk->...bn", x, direction, own, optimize=True)


def _centers(x: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean features, (B, K, F), of the observations chosen, (B, N, K)."""
    share = chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1)
    return np.einsum("bnf,bnk->bkf", x, share)


def _nearness_to_switches(rng: np.random.Generator, z: np.ndarray) -> np.ndarray:
    """s_t, (B, N): a mean of what falls after a switch and of what rises before it."""
    switches = z[:, 1:] != z[:, :-1]
    after, before = np.zeros((2, *z.shape))
    decay = np.exp(-1 / rng.uniform(*FADING, (2, len(z))))
    for t in range(1, z.shape[1]):
        after[:, t] = np.where(switches[:, t - 1], 1.0, decay[0] * after[:, t - 1])
        before[:, -t - 1] = np.where(switches[:, -t], 1.0, decay[1] * before[:, -t])
    weight = rng.random((len(z), 1))
    return weight * after + (1 - weight) * before


def _autoregression(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """x_t, (B, N), of unit variance, each with its own persistence."""
    batch_size, num_obs = shape
    phi = np.exp(-1 / num_obs ** rng.random(batch_size))
    series = rng.normal(size=shape)
    for t in range(1, num_obs):
        series[:, t] = phi * series[:, t - 1] + np.sqrt(1 - phi**2) * series[:, t]
    return series

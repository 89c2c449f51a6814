"""Simulation of data sets whose observations come from several parameter vectors, and elsewhere."""

from collections.abc import Callable

import numpy as np

from ..models.data import KEYS
from ..models.parameters import ParameterSpace
from ..structures.categorical import draw_categorical, draw_systematic
from .disturbances import reorder, tilt

__all__ = ["simulate_heterogeneous"]

MOST_SOURCES = 8  # parameter vectors behind one data set
SPREAD = 1.5  # of these vectors around the first, at most, relative to the prior's
VARIES = 0.6  # probability that a parameter differs among them
CONCENTRATION = 0.7  # of the weights of the parameter vectors: few are common, some rare
STRAYS = 0.1  # largest share of observations that have nothing to do with the rest
NUM_CANDIDATES = 4  # of one observation, for a tilt


def simulate_heterogeneous(
    model,
    batch_size: int,
    *,
    rng: np.random.Generator,
    num_obs: int | None = None,
    spread: float = SPREAD,
    strays: Callable | None = None,
) -> dict[str, np.ndarray]:
    """Data sets whose observations come from several parameter vectors, and not independently.

    Parameters
    ----------
    model : MixtureModel
    batch_size : int
    rng : numpy.random.Generator
    num_obs : int, optional
        Drawn from the model's range if not given.
    spread : float
        Largest spread s, relative to the prior's. With a spread of zero the data are the model's
        own.
    strays : callable, optional
        ``strays(data, rng=rng)`` makes what each observation of simulated data could have been
        instead, had it strayed, (B, N, ...). The strays of half the data sets are then of this
        kind. `EvidenceAccumulationHMM.lapses` is such a function.

    Returns
    -------
    dict
        ``"y"``, (B, N, ...), and masks. There are no parameters: none has made them.

    Raises
    ------
    ValueError
        If num_obs is no positive integer, the spread no number from zero on, strays have another
        shape than the observations, or the model's emission masks some itself.

    Examples
    --------
    >>> import abmtools as abm, numpy as np
    >>> from abmtools.heterogeneity import simulate_heterogeneous
    >>> model = abm.GaussianMixture(num_obs=200, num_reps=3)
    >>> simulate_heterogeneous(model, 4, rng=np.random.default_rng(1))["y"].shape
    (4, 200, 3)
    """
    if not (np.isfinite(spread) and spread >= 0):
        raise ValueError(f"spread: expected a number from zero on, got {spread}.")
    theta = model.prior(rng, batch_size)
    base = model.simulate_data(theta, rng=rng, num_obs=num_obs)
    replicates = () if model.num_reps is None else (base["y"].shape[2],)
    size = rng.uniform(0, spread, batch_size)
    size = {name: np.where(rng.random(batch_size) < VARIES, size, 0.0) for name in theta}
    # Often a few, each of which counts for more than one among many.
    share = STRAYS * rng.random(batch_size) ** 3 if spread else np.zeros(batch_size)
    num_sources = rng.integers(2, MOST_SOURCES + 1)
    chosen = _choose_sources(rng, num_sources, base["z"].shape)
    near, far = np.stack([base["y"]] * NUM_CANDIDATES), base["y"].copy()
    for number in range(num_sources):
        here, other = chosen == number, model.prior(rng, batch_size)
        source = _vary(model.space, theta, [other, model.prior(rng, batch_size)], size)
        far[here] = _emit(model, rng, other, base["z"], *replicates)[here]
        for candidate in near:
            candidate[here] = _emit(model, rng, source, base["z"], *replicates)[here]
    if spread:
        own = base["z"][..., None] == np.arange(model.num_components)
        near = reorder(rng, tilt(rng, near, own), own)
    else:
        near = near[0]
    stray = rng.random(base["z"].shape) < share[:, None]
    stray = stray.reshape(*stray.shape, *[1] * (far.ndim - 2))
    if strays is not None:
        others = _make_strays(strays, base | {"y": near}, rng)
        far = np.where(rng.random((batch_size, *[1] * (far.ndim - 1))) < 0.5, far, others)
    y = np.where(stray, far, near)
    if "replicate_mask" in base:
        observed = base["replicate_mask"]
        y = y * observed.reshape(*observed.shape, *[1] * (y.ndim - observed.ndim))
    return {name: values for name, values in base.items() if name in KEYS} | {"y": y}


def _emit(model, *arguments) -> np.ndarray:
    """The emission's "y", if it says of no other number that it is missing."""
    emitted = model.emission(*arguments)
    if len(emitted) > 1:
        raise ValueError(
            f"model: expected an emission without masks, of which several would be mixed here, got "
            f"{sorted(emitted)}."
        )
    return emitted["y"]


def _vary(space: ParameterSpace, theta: dict, others: list[dict], size: np.ndarray) -> dict:
    """A parameter vector around theta, from two others and how far it may be from it, by name.

    Where a bound depends on the data, which are still to come, it is a mean.
    """
    names = [name for name in space.names if name not in space.bounded]
    free = ParameterSpace(
        *({name: x[name] for name in names} for x in (space.shapes, space.constraints))
    )
    u, u1, u2 = (free.unconstrain({name: x[name] for name in names}) for x in (theta, *others))
    s = np.stack([size[name] for name in names], axis=-1)
    s = np.repeat(s, list(free.sizes.values()), axis=-1)
    found = free.constrain(u + s * (u1 - u2) / np.sqrt(2))
    for name in space.bounded:
        found[name] = (theta[name] + size[name] * others[0][name]) / (1 + size[name])
    return {name: found[name] for name in theta}


def _make_strays(strays: Callable, data: dict, rng: np.random.Generator) -> np.ndarray:
    """What the user's function makes of the data, if it has their shape."""
    made = np.asarray(strays(data, rng=rng))
    if made.shape != data["y"].shape:
        raise ValueError(f"strays: expected shape {data['y'].shape}, got {made.shape}.")
    return made


def _choose_sources(rng: np.random.Generator, num_sources: int, shape: tuple) -> np.ndarray:
    """Which source each observation comes from, (B, N): in turns, or one source after the other."""
    batch_size, num_obs = shape
    weights = rng.dirichlet(np.full(num_sources, CONCENTRATION), batch_size)
    in_turns = draw_categorical(rng, weights[:, None], shape)
    one_by_one = draw_systematic(rng, weights, num_obs)  # in increasing order
    return np.where(rng.random((batch_size, 1)) < 0.5, in_turns, one_by_one)

r"""Sequences: data over time, and paths of the states behind them.

What is known of all states together is a distribution of paths :math:`z_{1:T}`, and `paths` shows
draws of it; `states` has what is known of each state alone. Time points are counted from one.
"""

from numbers import Integral

import numpy as np
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..diagnostics.draws import Draws
from ..inference import MixturePosterior
from .style import ROLES, component_color, count_axis, new_axes, put_legend, styled

__all__ = ["check_states", "paths", "sequence"]

WIDTH = 7.2  # inches


@styled
def sequence(
    y: np.ndarray,
    z: np.ndarray | None = None,
    *,
    probabilities: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    replicate_mask: np.ndarray | None = None,
    ax=None,
):
    """Data over time, coloured by state.

    Parameters
    ----------
    y : array, shape (T,) or (T, R)
        One sequence. Replicates are faint dots around their mean. The last of two axes is always
        taken as that of replicates: of vectors, such as (time, response), choose one entry.
    z : array of int, shape (T,), optional
        States that give the colour.
    probabilities : array, shape (T, K), optional
        In place of z, from 0 to 1: the most probable state gives the colour, which is fainter the
        less certain the state is.
    mask : array of bool, shape (T,), optional
        False where a time point is missing; it is left out.
    replicate_mask : array of bool, shape (T, R), optional
        False where a replicate is missing.
    ax : Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If a shape does not fit, y is NaN where no mask says that it is missing, probabilities are
        not from 0 to 1, or both z and probabilities are given.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("gaussian_hmm")
    >>> data = workflow.simulate(1, num_obs=100, num_reps=3)
    >>> posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=500, seed=1)
    >>> ax = abm.plots.sequence(data["y"][0], probabilities=posterior.mean_smoothing()[0])
    >>> [text.get_text() for text in ax.figure.legends[0].get_texts()]
    ['state 0', 'state 1']
    """
    y, shown = _replicates(y, mask, replicate_mask)
    colors, states = _state_colors(len(y), z, probabilities)
    own_figure, ax = ax is None, new_axes(ax, width=WIDTH, height=2.4)
    there = shown.any(axis=1)
    time = np.arange(1, len(y) + 1)
    means = np.full(len(y), np.nan)  # NaN: a gap in the line
    means[there] = np.mean(y[there], axis=1, where=shown[there])
    ax.plot(time, means, color=ROLES["prior"], linewidth=0.7, alpha=0.7, zorder=1)
    if y.shape[1] > 1:
        row, column = np.nonzero(shown)
        faint = colors[row] * [1, 1, 1, 0.3]
        ax.scatter(time[row], y[row, column], s=7, c=faint, linewidths=0, zorder=2)
    ax.scatter(time[there], means[there], s=22, c=colors[there], linewidths=0, zorder=3)
    ax.set(xlabel="time", ylabel="y")
    count_axis(ax)
    ax.margins(x=0.01)
    dot = {"linestyle": "none", "marker": "o", "markersize": 5}
    handles = {f"state {k}": Line2D([], [], color=component_color(k), **dot) for k in states}
    if handles:
        put_legend([ax], handles, own_figure=own_figure)
    return ax


@styled
def paths(
    posterior,
    num_paths: int = 20,
    *,
    seed: int = 1,
    z: np.ndarray | None = None,
    ax=None,
):
    """Sampled paths of states, one below the other, as rows of colours.

    On top are the true path, if it is given, and the most probable one. There is a most probable
    path for each draw of the parameters; the row is the one that agrees best with the others.

    Parameters
    ----------
    posterior : MixturePosterior or DataTree
        Of one sequence. A DataTree holds drawn paths already; those from Stan have no most probable
        one.
    num_paths : int
        At most as many as there are draws.
    seed : int
        Chooses draws of the parameters and, of a MixturePosterior, draws their paths.
    z : array of int, shape (T,), optional
        True path.
    ax : Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        If the posterior is something else, holds several data sets or no paths, or num_paths or z
        do not fit.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("gaussian_hmm")
    >>> data = workflow.simulate(1, num_obs=100, num_reps=3)
    >>> posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=500, seed=1)
    >>> ax = abm.plots.paths(posterior, num_paths=20, z=data["z"][0])
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['true', 'most probable', 'sampled']
    """
    sampled, best = _sampled_paths(posterior, num_paths, seed)
    rows = {} if z is None else {"true": check_states(z, sampled.shape[1])}
    rows |= {} if best is None else {"most probable": best}
    image, ticks = _stack(rows, sampled)
    num_states = max(2, image.max() + 1)
    own_figure, ax = ax is None, new_axes(ax, width=WIDTH, height=1.2 + 0.09 * len(image))
    colors = ListedColormap([component_color(k) for k in range(num_states)])
    extent = (0.5, sampled.shape[1] + 0.5, len(image) - 0.5, -0.5)
    ax.imshow(
        image, cmap=colors, vmin=-0.5, vmax=num_states - 0.5,
        aspect="auto", interpolation="nearest", extent=extent,
    )  # fmt: skip
    ax.set_yticks(list(ticks.values()), list(ticks))
    ax.tick_params(axis="y", length=0)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.set_xlabel("time")
    count_axis(ax)
    handles = {f"state {k}": Patch(facecolor=component_color(k)) for k in range(num_states)}
    put_legend([ax], handles, own_figure=own_figure)
    return ax


def check_states(z, num_obs: int, num_states: int | None = None) -> np.ndarray:
    """True states z, (T,), as integers; a ValueError if they are not, or out of range."""
    z = np.asarray(z)
    if z.shape != (num_obs,):
        raise ValueError(
            f"z: expected shape ({num_obs},), one state for each time point, got {z.shape}."
        )
    if z.dtype.kind not in "iu" or z.min() < 0 or (num_states and z.max() >= num_states):
        limit = "" if num_states is None else f" to {num_states - 1}"
        raise ValueError(f"z: expected states as integers from 0{limit}, got {np.unique(z)[:9]}.")
    return z


# --- data ---------------------------------------------------------------------------------------


def _replicates(y, mask, replicate_mask) -> tuple[np.ndarray, np.ndarray]:
    """y as (T, R), and which of it to show."""
    y = np.asarray(y, dtype="float64")
    if y.ndim not in (1, 2):
        raise ValueError(
            f"y: expected one sequence of shape (T,) or (T, R), got {y.shape}; "
            "of a batch, choose one data set."
        )
    y = y[:, None] if y.ndim == 1 else y
    shown = _check_mask(replicate_mask, y.shape, "replicate_mask")
    shown &= _check_mask(mask, y.shape[:1], "mask")[:, None]
    unknown = np.flatnonzero((np.isnan(y) & shown).any(axis=1)) + 1
    if len(unknown):
        argument = "mask" if y.shape[1] == 1 else "replicate_mask"
        raise ValueError(
            f"y: expected numbers, got NaN at time points {unknown[:9].tolist()}; "
            f"mark them as missing by {argument}."
        )
    return y, shown


def _check_mask(mask, shape: tuple, argument: str) -> np.ndarray:
    mask = np.ones(shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    if mask.shape != shape:
        raise ValueError(f"{argument}: expected shape {shape}, got {mask.shape}.")
    return mask


def _state_colors(num_obs: int, z, probabilities) -> tuple[np.ndarray, range]:
    """A colour for each time point, (T, 4), and the states that have one."""
    if z is not None and probabilities is not None:
        raise ValueError("probabilities: expected either z or probabilities, got both.")
    if probabilities is not None:
        p = np.asarray(probabilities, dtype="float64")
        if p.ndim != 2 or len(p) != num_obs or p.shape[1] < 2:
            raise ValueError(f"probabilities: expected shape ({num_obs}, K), got {p.shape}.")
        if np.any((p < -1e-6) | (p > 1 + 1e-6)):
            raise ValueError(
                f"probabilities: expected values from 0 to 1, got {np.nanmin(p):.3g} to "
                f"{np.nanmax(p):.3g}."
            )
        p = np.clip(p, 0, 1)
        z, num_states = p.argmax(axis=1), p.shape[1]
        certainty = (p.max(axis=1) - 1 / num_states) / (1 - 1 / num_states)
    elif z is not None:
        z = check_states(z, num_obs)
        num_states, certainty = z.max() + 1, np.ones(num_obs)
    else:
        return np.tile(to_rgba(ROLES["truth"]), (num_obs, 1)), range(0)
    colors = np.array([to_rgba(component_color(k)) for k in range(num_states)])[z]
    colors[:, 3] = 0.2 + 0.8 * certainty
    return colors, range(num_states)


# --- paths --------------------------------------------------------------------------------------


def _sampled_paths(posterior, num_paths: int, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Paths of some draws, (num_paths, T), and the most probable one, (T,), where there is one."""
    draws = Draws.of(posterior, "posterior")
    chain = isinstance(posterior, MixturePosterior) and posterior.scores is not None
    posterior = posterior.with_equal_weights() if chain else posterior
    if not chain and draws.path is None:
        raise ValueError(
            "posterior: expected the posterior of a Markov chain, with paths, "
            f"got draws of {list(draws.parameters)} without them."
        )
    if not isinstance(num_paths, Integral) or isinstance(num_paths, bool):
        raise TypeError(f"num_paths: expected an integer, got {type(num_paths).__name__}.")
    if not 1 <= num_paths <= draws.num_samples:
        raise ValueError(f"num_paths: expected 1 to {draws.num_samples}, got {num_paths}.")
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(draws.num_samples, num_paths, replace=False))
    if chain:
        sampled = posterior.resample(chosen[None]).sample_paths(seed=seed)[0]
        return sampled, _central(posterior.most_probable_path()[0])
    best = draws.most_probable_path
    return draws.path[chosen], None if best is None else _central(best)


def _central(candidates: np.ndarray) -> np.ndarray:
    """Of paths (S, T), the one that agrees with the others at most time points."""
    time = np.arange(candidates.shape[1])
    share = np.stack([(candidates == k).mean(axis=0) for k in range(candidates.max() + 1)])
    return candidates[share[candidates, time].sum(axis=1).argmax()]


def _stack(rows: dict, sampled: np.ndarray) -> tuple[np.ma.MaskedArray, dict]:
    """The image, (height, T), with empty rows between its parts, and the middle of each part."""
    height = max(1, len(sampled) // 8)
    blocks = {name: np.tile(row, (height, 1)) for name, row in rows.items()}
    image, ticks = [], {}
    for name, block in (blocks | {"sampled": sampled}).items():
        if image:
            image.append(np.full((1, sampled.shape[1]), -1))
        start = sum(map(len, image))
        ticks[name] = start + (len(block) - 1) / 2
        image.append(block)
    image = np.concatenate(image)
    return np.ma.masked_array(image, image < 0), ticks

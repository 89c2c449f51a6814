r"""Parameters: marginal and pairwise densities of posteriors.

Densities are ArviZ's kernel estimates. The contours of `pairs` enclose the smallest regions

.. math:: \{ (a, b) : p(a, b) \ge c \}

that hold half and nine tenths of a posterior.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from arviz_stats.base import array_stats
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..diagnostics.draws import Draws, scalar_columns
from .style import ink, put_legend, role_colors, styled

__all__ = ["marginals", "pairs"]

MASS = (0.9, 0.5)
NUM_POINTS = 800
PANEL = 1.9  # inches
DASHES = (0, (4, 2))


@styled
def marginals(
    posteriors: Mapping,
    *,
    truth: Mapping | None = None,
    names: list | None = None,
    num_columns: int = 3,
    axes=None,
) -> np.ndarray:
    """Marginal densities, one panel for each scalar parameter.

    Parameters
    ----------
    posteriors : dict of str to MixturePosterior, DataTree or dict of draws
        By label, each of one data set: ``{"amortized": posterior, "Stan": reference}``. Labels
        choose colours, see `style.role_colors`. Under "prior", ``model.prior(rng, 4000)`` is
        drawn in the background and does not widen the panels.
    truth : dict of str to array, optional
        True parameters, as simulated: ``{name: (...)}`` or ``{name: (1, ...)}``.
    names : list of str, optional
        Which parameters, by name (``"weights"``) or label (``"weights[0]"``); all by default.
    num_columns : int
        Panels in a row of a new figure.
    axes : array of Axes, optional
        As many as there are panels, or more.

    Returns
    -------
    array of Axes, one for each parameter

    Raises
    ------
    TypeError, ValueError
        If posteriors is not a dictionary or empty, the posteriors or the truth lack a parameter
        that another has, a name is unknown, or there are too few axes.
    """
    columns, labels = _columns(posteriors, names)
    truth = _truth(truth, labels)
    own_figure = axes is None
    axes = _grid(axes, len(labels), num_columns)
    colors = role_colors(columns)
    for ax, label in zip(axes, labels, strict=True):
        focus = [draws[label] for name, draws in columns.items() if not _is_prior(name)]
        for name, draws in columns.items():
            filled = _is_prior(name) or draws[label] is focus[0]
            _density(ax, draws[label], colors[name], filled=filled, line=not _is_prior(name))
        if focus:
            ax.set_xlim(*_limits(focus, truth.get(label)))
        if label in truth:
            _mark(ax, truth[label])
        ax.set(title=label, yticks=[])
        ax.set_ylim(bottom=0)
        ax.spines["left"].set_visible(False)
    put_legend(axes, _legend(axes[0], colors, truth, dashed=True), own_figure=own_figure)
    return axes


@styled
def pairs(
    posteriors: Mapping,
    *,
    truth: Mapping | None = None,
    names: list | None = None,
    points: bool = True,
    axes=None,
) -> np.ndarray:
    """Pairs of parameters: contours of half and nine tenths of each posterior.

    Parameters
    ----------
    posteriors, truth, names
        As for `marginals`; a "prior" is left out.
    points : bool
        Whether to draw draws of the first posterior too.
    axes : array of Axes, shape (P, P), optional
        P is the number of parameters. Those above the diagonal are switched off.

    Returns
    -------
    array of Axes, shape (P, P)

    Raises
    ------
    TypeError, ValueError
        As for `marginals`.
    """
    columns, labels = _columns(posteriors, names)
    columns = {name: draws for name, draws in columns.items() if not _is_prior(name)}
    truth = _truth(truth, labels)
    own_figure, size = axes is None, len(labels)
    if own_figure:
        side = PANEL * 0.75 * size + 0.6
        axes = plt.subplots(size, size, figsize=(side, side), squeeze=False, sharex="col")[1]
    axes = np.asarray(axes)
    if axes.shape != (size, size):
        raise ValueError(f"axes: expected shape ({size}, {size}), got {axes.shape}.")
    colors = role_colors(columns)
    for i, j in np.ndindex(size, size):
        ax = axes[i, j]
        if j > i:
            ax.axis("off")
        elif i == j:
            _diagonal(ax, columns, labels[i], colors, truth)
        else:
            _pair(ax, columns, (labels[j], labels[i]), colors, truth, points=points)
        ax.tick_params(labelbottom=i == size - 1, labelleft=j == 0 < i)
    for k, label in enumerate(labels):
        axes[-1, k].set_xlabel(label)
        if k > 0:
            axes[k, 0].set_ylabel(label)
    if own_figure:
        axes[0, 0].figure.align_labels()
    put_legend(axes[0], _legend(axes[0, 0], colors, truth, dashed=False), own_figure=own_figure)
    return axes


def _columns(posteriors: Mapping, names) -> tuple[dict[str, dict], list[str]]:
    """Columns of each posterior by label, and the labels to draw."""
    if not isinstance(posteriors, Mapping):
        raise TypeError(
            f"posteriors: expected a dictionary from label to posterior, "
            f"got {type(posteriors).__name__}."
        )
    if not posteriors:
        raise ValueError("posteriors: expected at least one, got none.")
    columns = {
        label: Draws.of(posterior, f"posteriors[{label!r}]").columns
        for label, posterior in posteriors.items()
    }
    first = next(iter(columns.values()))
    labels = list(first) if names is None else _chosen(names, first)
    for name, draws in columns.items():
        missing = [label for label in labels if label not in draws]
        if missing:
            raise ValueError(f"posteriors[{name!r}]: {missing} is missing from {list(draws)}.")
    return columns, labels


def _chosen(names, columns: Mapping) -> list[str]:
    """Labels that are named or belong to a named parameter."""
    names = [names] if isinstance(names, str) else list(names)
    known = {*columns, *(label.split("[")[0] for label in columns)}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"names: expected some of {sorted(known)}, got {names}.")
    return [label for label in columns if label in names or label.split("[")[0] in names]


def _truth(truth: Mapping | None, labels: list[str]) -> dict[str, float]:
    """True values by label, from parameters with or without a leading axis of length one."""
    if truth is None:
        return {}
    values = {}
    for name, value in truth.items():
        vector = any(label.startswith(f"{name}[") for label in labels)
        if not (vector or name in labels):
            continue
        value = np.asarray(value, dtype="float64")
        event_ndim = (
            next(label.count(",") + 1 for label in labels if label.startswith(name)) * vector
        )
        value = value[None] if value.ndim == event_ndim else value
        if len(value) != 1:
            raise ValueError(
                f"truth[{name!r}]: expected the value of one data set, got shape {value.shape}."
            )
        values |= {label: x.item() for label, x in scalar_columns({name: value}).items()}
    missing = [label for label in labels if label not in values]
    if missing:
        raise ValueError(f"truth: {missing} is missing from {sorted(truth)}.")
    return values


def _is_prior(label: str) -> bool:
    return label.lower().startswith("prior")


def _grid(axes, size: int, num_columns: int) -> np.ndarray:
    """Flat array of `size` axes; those of a new figure that are not needed are removed."""
    if axes is None:
        num_columns = min(num_columns, size)
        num_rows = -(-size // num_columns)
        figsize = (1.35 * PANEL * num_columns, PANEL * num_rows + 0.4)
        axes = plt.subplots(num_rows, num_columns, figsize=figsize, squeeze=False)[1].ravel()
        for ax in axes[size:]:
            ax.remove()
    axes = np.atleast_1d(axes).ravel()
    if len(axes) < size:
        raise ValueError(
            f"axes: expected at least {size}, one for each parameter, got {len(axes)}."
        )
    return axes[:size]


def _density(ax, draws: np.ndarray, color: str, *, filled: bool, line: bool = True) -> None:
    grid, density, _ = array_stats.kde(np.asarray(draws, dtype="float64"))
    if filled:
        ax.fill_between(grid, density, color=color, alpha=0.22, linewidth=0)
    if line:
        ax.plot(grid, density, color=color)


def _mark(ax, value: float) -> None:
    ax.axvline(value, color=ink(ax), linewidth=1.2, linestyle=DASHES)


def _limits(columns: list[np.ndarray], value: float | None) -> tuple[float, float]:
    """The range of nearly all draws, and of the truth, with a margin."""
    ends = [np.quantile(column, (0.001, 0.999)) for column in columns]
    ends += [] if value is None else [np.array([value, value])]
    low, high = np.min(ends), np.max(ends)
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def _diagonal(ax, columns: dict, label: str, colors: dict, truth: dict) -> None:
    for order, (name, draws) in enumerate(columns.items()):
        _density(ax, draws[label], colors[name], filled=order == 0)
    ax.set_xlim(*_limits([draws[label] for draws in columns.values()], truth.get(label)))
    ax.set_ylim(bottom=0)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    if label in truth:
        _mark(ax, truth[label])


def _pair(ax, columns: dict, labels: tuple, colors: dict, truth: dict, *, points: bool) -> None:
    """Contours of two parameters, x and y."""
    for order, (name, draws) in enumerate(columns.items()):
        x, y = (np.asarray(draws[label], dtype="float64") for label in labels)
        if order == 0 and points:
            some = slice(None, None, max(1, len(x) // NUM_POINTS))
            ax.plot(
                x[some], y[some], ".", color=colors[name],
                markersize=2, alpha=0.25, markeredgewidth=0, rasterized=True,
            )  # fmt: skip
        density, grid_x, grid_y, levels = array_stats.kde2d(x, y, hdi_probs=list(MASS))
        ax.contour(
            grid_x, grid_y, density.T, np.sort(levels),
            colors=[colors[name]], linewidths=(1.0, 1.5),
        )  # fmt: skip
    for axis, label in zip("xy", labels, strict=True):
        limits = _limits([draws[label] for draws in columns.values()], truth.get(label))
        ax.set(**{f"{axis}lim": limits})
    if labels[0] in truth:
        ax.plot(
            truth[labels[0]], truth[labels[1]], "+",
            color=ink(ax), markersize=9, markeredgewidth=1.6,
        )  # fmt: skip


def _legend(ax, colors: dict, truth: dict, *, dashed: bool) -> dict:
    handles = {
        label: Patch(facecolor=color, alpha=0.3)
        if _is_prior(label)
        else Line2D([], [], color=color)
        for label, color in colors.items()
    }
    if truth:
        dash = {"linestyle": DASHES, "linewidth": 1.2}
        cross = {"linestyle": "none", "marker": "+", "markersize": 9, "markeredgewidth": 1.6}
        handles["truth"] = Line2D([], [], color=ink(ax), **(dash if dashed else cross))
    return handles

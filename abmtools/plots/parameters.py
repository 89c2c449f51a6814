r"""Parameters: marginal and pairwise densities of posteriors.

Densities are ArviZ's kernel estimates, folded back at the bounds of a parameter. The contours of
`pairs` enclose the smallest regions

.. math:: \{ (a, b) : p(a, b) \ge c \}

that hold half and nine tenths of a posterior.
"""

from collections.abc import Mapping
from numbers import Integral

import matplotlib.pyplot as plt
import numpy as np
from arviz_stats.base import array_stats
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..diagnostics.draws import Draws, scalar_columns
from ..models.constraints import Constraint
from .style import ink, put_legend, role_colors, styled

__all__ = ["marginals", "pairs"]

MASS = (0.9, 0.5)
NUM_POINTS = 800
MIN_DRAWS = 100  # of contours: those of fewer draws are rough, and take long
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
        that another has, the truth has another shape, a name is unknown, or there are too few axes.

    Examples
    --------
    >>> import abmtools as abm, numpy as np
    >>> workflow = abm.load_pretrained("gaussian_mixture")
    >>> data = workflow.simulate(1, num_obs=200, num_reps=3)
    >>> posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=500, seed=1)
    >>> prior = workflow.model.prior(np.random.default_rng(1), 4000)
    >>> axes = abm.plots.marginals({"amortized": posterior, "prior": prior}, truth=data)
    >>> [ax.get_title() for ax in axes]
    ['weights[0]', 'weights[1]', 'weights[2]', 'means[0]', 'means[1]', 'means[2]']
    """
    draws = _read(posteriors)
    columns, labels = _columns(draws, names)
    truth = _truth(truth, labels, draws)
    bounds = _bounds(draws, columns, labels)
    own_figure = axes is None
    axes = _grid(axes, len(labels), num_columns)
    colors = role_colors(columns)
    for ax, label in zip(axes, labels, strict=True):
        focus = [column[label] for name, column in columns.items() if not _is_prior(name)]
        for name, column in columns.items():
            prior = _is_prior(name)
            filled = prior or column[label] is focus[0]
            _density(ax, column[label], colors[name], bounds[label], filled=filled, line=not prior)
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

    Fewer than a hundred draws, and draws along a line, are drawn as points only.

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
        As for `marginals`, or if there is nothing but a prior.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("gaussian_mixture")
    >>> data = workflow.simulate(1, num_obs=200, num_reps=3)
    >>> posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=500, seed=1)
    >>> axes = abm.plots.pairs({"amortized": posterior}, truth=data, names=["means"])
    >>> axes.shape
    (3, 3)
    """
    draws = _read(posteriors)
    columns, labels = _columns(draws, names)
    truth = _truth(truth, labels, draws)
    bounds = _bounds(draws, columns, labels)
    columns = {name: column for name, column in columns.items() if not _is_prior(name)}
    if not columns:
        raise ValueError(
            f"posteriors: expected at least one that is not a prior, got {list(draws)}."
        )
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
            _diagonal(ax, columns, labels[i], colors, truth, bounds[labels[i]])
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


def _read(posteriors: Mapping) -> dict[str, Draws]:
    """Draws of each posterior by its label."""
    if not isinstance(posteriors, Mapping):
        raise TypeError(
            f"posteriors: expected a dictionary from label to posterior, "
            f"got {type(posteriors).__name__}."
        )
    if not posteriors:
        raise ValueError("posteriors: expected at least one, got none.")
    for label in posteriors:
        if not isinstance(label, str):
            raise TypeError(
                f"posteriors: expected labels that are strings, got {type(label).__name__}."
            )
    return {
        label: Draws.of(posterior, f"posteriors[{label!r}]")
        for label, posterior in posteriors.items()
    }


def _columns(draws: dict[str, Draws], names) -> tuple[dict[str, dict], list[str]]:
    """Columns of each posterior by label, and the labels to draw, which all of them have."""
    columns = {name: one.columns for name, one in draws.items()}
    known = {label: None for column in columns.values() for label in column}
    labels = list(known) if names is None else _chosen(names, known)
    for name, column in columns.items():
        missing = [label for label in labels if label not in column]
        if missing:
            raise ValueError(f"posteriors[{name!r}]: {missing} is missing from {list(column)}.")
    return columns, labels


def _chosen(names, columns: Mapping) -> list[str]:
    """Labels that are named or belong to a named parameter."""
    names = [names] if isinstance(names, str) else list(names)
    known = {*columns, *(label.split("[")[0] for label in columns)}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"names: expected some of {sorted(known)}, got {names}.")
    return [label for label in columns if label in names or label.split("[")[0] in names]


def _truth(truth: Mapping | None, labels: list[str], draws: dict[str, Draws]) -> dict[str, float]:
    """True values by label, from parameters with or without a leading axis of length one."""
    if truth is None:
        return {}
    if not isinstance(truth, Mapping):
        raise TypeError(f"truth: expected a dictionary of values, got {type(truth).__name__}.")
    parameters = next(iter(draws.values())).parameters
    shapes = {name: np.shape(value)[1:] for name, value in parameters.items()}
    shapes |= {label: () for label in labels if label not in shapes}
    values = {}
    for name, value in truth.items():
        if not any(label == name or label.startswith(f"{name}[") for label in labels):
            continue
        value, shape = np.asarray(value, dtype="float64"), shapes[name]
        if value.shape not in (shape, (1, *shape)):
            raise ValueError(
                f"truth[{name!r}]: expected shape {shape}, of one data set, got shape "
                f"{value.shape}."
            )
        columns = scalar_columns({name: value.reshape(1, *shape)})
        values |= {label: x.item() for label, x in columns.items()}
    missing = [label for label in labels if label not in values]
    if missing:
        raise ValueError(f"truth: {missing} is missing from {sorted(truth)}.")
    return values


def _bounds(draws: dict[str, Draws], columns: dict, labels: list[str]) -> dict[str, tuple]:
    """Lower and upper end of each parameter's values, infinite where there is none."""
    known = {}
    for one in draws.values():
        for name, (low, high) in _model_bounds(one).items():
            widest = known.get(name, (low, high))  # models may differ
            known[name] = min(low, widest[0]), max(high, widest[1])
    return {
        label: known.get(label.split("[")[0]) or _kept([x[label] for x in columns.values()])
        for label in labels
    }


def _model_bounds(draws: Draws) -> dict[str, tuple]:
    """Bounds of each parameter by the constraints of the model, where it is known."""
    if draws.model is None:
        return {}
    space = draws.model.space
    by_data = space.bounds({name: x[None] for name, x in draws.data.items()})
    bounds = {name: _ends(constraint) for name, constraint in space.constraints.items()}
    return bounds | {name: (0.0, float(upper[0])) for name, upper in by_data.items()}


def _ends(constraint: Constraint) -> tuple[float, float]:
    """Lower and upper end of the values that a constraint allows."""
    if constraint.name in ("simplex", "positive_ordered"):
        return 0.0, 1.0 if constraint.name == "simplex" else np.inf
    lower, upper = (getattr(constraint.transform, name, None) for name in ("lower", "upper"))
    return -np.inf if lower is None else lower, np.inf if upper is None else upper


def _kept(columns: list[np.ndarray]) -> tuple[float, float]:
    """Bounds that all draws keep, where no model tells: zero, and then also one."""
    low = min(np.min(column) for column in columns)
    high = max(np.max(column) for column in columns)
    return 0.0 if low >= 0 else -np.inf, 1.0 if low >= 0 and high <= 1 else np.inf


def _is_prior(label: str) -> bool:
    return label.lower() == "prior"


def _grid(axes, size: int, num_columns: int) -> np.ndarray:
    """Flat array of `size` axes; those of a new figure that are not needed are removed."""
    if axes is None:
        if not isinstance(num_columns, Integral) or num_columns < 1:
            raise ValueError(f"num_columns: expected an integer from 1, got {num_columns!r}.")
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


def _density(
    ax, draws: np.ndarray, color: str, bounds: tuple, *, filled: bool, line: bool = True
) -> None:
    """A density, or a vertical line where all draws are the same."""
    draws = np.asarray(draws, dtype="float64")
    if _is_constant(draws):
        ax.axvline(draws[0], color=color)
        return
    grid, density = _smooth(draws, *bounds)
    if filled:
        ax.fill_between(grid, density, color=color, alpha=0.22, linewidth=0)
    if line:
        ax.plot(grid, density, color=color)


def _smooth(draws: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Kernel density that ends smoothly beyond the extreme draws, but inside the bounds."""
    grid, density, _ = array_stats.kde(draws, bound_correction=False, extend=True, extend_fct=1)
    # A bound by the data is none of the prior's.
    low = low if draws.min() >= low else -np.inf
    high = high if draws.max() <= high else np.inf
    folded = density.copy()
    for bound in (low, high):
        if np.isfinite(bound):  # what lies beyond a bound is folded back
            folded += np.interp(2 * bound - grid, grid, density, left=0, right=0)
    inside = (low <= grid) & (grid <= high)
    return grid[inside], folded[inside]


def _is_constant(draws: np.ndarray) -> bool:
    return np.ptp(draws) <= 1e-12 * np.max(np.abs(draws))


def _mark(ax, value: float) -> None:
    ax.axvline(value, color=ink(ax), linewidth=1.2, linestyle=DASHES)


def _limits(columns: list[np.ndarray], value: float | None) -> tuple[float, float]:
    """The range of nearly all draws, and of the truth, with a margin."""
    ends = [np.quantile(column, (0.001, 0.999)) for column in columns]
    ends += [] if value is None else [np.array([value, value])]
    low, high = np.min(ends), np.max(ends)
    margin = 0.1 * (high - low) or 0.5
    return low - margin, high + margin


def _diagonal(ax, columns: dict, label: str, colors: dict, truth: dict, bounds: tuple) -> None:
    for order, (name, draws) in enumerate(columns.items()):
        _density(ax, draws[label], colors[name], bounds, filled=order == 0)
    ax.set_xlim(*_limits([draws[label] for draws in columns.values()], truth.get(label)))
    ax.set_ylim(bottom=0)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    if label in truth:
        _mark(ax, truth[label])


def _pair(ax, columns: dict, labels: tuple, colors: dict, truth: dict, *, points: bool) -> None:
    """Contours of two parameters, x and y; only draws where these have no density to speak of."""
    for order, (name, draws) in enumerate(columns.items()):
        x, y = (np.asarray(draws[label], dtype="float64") for label in labels)
        smooth = _has_density(x, y)
        if (order == 0 and points) or not smooth:
            some = slice(None, None, max(1, len(x) // NUM_POINTS))
            ax.plot(
                x[some], y[some], ".", color=colors[name],
                markersize=2 if smooth else 4, alpha=0.25 if smooth else 0.5,
                markeredgewidth=0, rasterized=True,
            )  # fmt: skip
        if not smooth:
            continue
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


def _has_density(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether draws are many enough and spread over the plane, not along a line."""
    if len(x) < MIN_DRAWS or _is_constant(x) or _is_constant(y):
        return False
    return abs(np.corrcoef(x, y)[0, 1]) < 1 - 1e-6


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

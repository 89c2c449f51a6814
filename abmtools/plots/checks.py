"""Checks: whether observed data look like simulated ones, in summaries and in statistics."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D

from ..diagnostics.misspecification import Misspecification
from ..diagnostics.predictive import PredictiveCheck
from .style import ROLES, component_color, ink, new_axes, put_legend, shade, styled

__all__ = ["misspecification", "predictive_check"]

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
NUM_BINS = 40
ROWS = 5  # heights at which neighbouring labels are written


@styled
def misspecification(result: Misspecification, labels=None, *, axes=None) -> np.ndarray:
    """Distances of observed data sets from the model, over those of simulated ones.

    One panel for each pattern of missing observations, because it has a distribution of its own.
    The dashed line is its 95 % quantile; data sets beyond it are drawn in colour.

    Parameters
    ----------
    result : Misspecification
        See `diagnostics.misspecification`.
    labels : sequence of str, optional
        Of the data sets; by default their indices.
    axes : array of Axes, optional
        As many as there are panels, or more.

    Returns
    -------
    array of Axes

    Raises
    ------
    TypeError, ValueError
        If result is something else, there are not as many labels as data sets, or too few axes.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("gaussian_mixture")
    >>> data = {"y": workflow.simulate(4, num_obs=200, num_reps=3)["y"]}
    >>> result = abm.diagnostics.misspecification(
    ...     workflow, data, num_reference=200, num_null=100, seed=1
    ... )
    >>> axes = abm.plots.misspecification(result, ["A", "B", "C", "D"])
    >>> [ax.get_title() for ax in axes]
    ['200 observations']
    """
    _require(result, Misspecification, "misspecification")
    labels = list(map(str, range(len(result)) if labels is None else labels))
    if len(labels) != len(result):
        raise ValueError(f"labels: expected {len(result)}, one a data set, got {len(labels)}.")
    panels = np.unique(result.null, axis=0, return_index=True, return_inverse=True)[1:]
    first = np.sort(panels[0])
    own_figure = axes is None
    if own_figure:
        size = (5.0, 0.6 + 2.4 * len(first))
        axes = plt.subplots(len(first), 1, figsize=size, squeeze=False, sharex=True)[1]
    axes = np.atleast_1d(axes).ravel()
    if len(axes) < len(first):
        raise ValueError(f"axes: expected at least {len(first)}, got {len(axes)}.")
    for ax, row in zip(axes, first, strict=False):
        chosen = np.flatnonzero(panels[1] == panels[1][row])
        _distances(ax, result, chosen, [labels[b] for b in chosen])
    axes[len(first) - 1].set_xlabel("squared maximum mean discrepancy")
    line = {"color": ink(axes[0]), "linewidth": 1.2}
    handles = {
        "simulated": plt.Rectangle((0, 0), 1, 1, color=ROLES["prior"], alpha=0.4),
        "observed": Line2D([], [], **line),
        "beyond 95 % of simulated": Line2D([], [], **line | {"color": ROLES["reference"]}),
    }
    put_legend(axes, handles, own_figure=own_figure)
    return axes[: len(first)]


def _distances(ax, result: Misspecification, chosen: np.ndarray, labels: list[str]) -> None:
    """Histogram of one null distribution, and the data sets that belong to it."""
    null, limit = result.null[chosen[0]], np.quantile(result.null[chosen[0]], 0.95)
    ax.hist(null, NUM_BINS, color=ROLES["prior"], alpha=0.4)
    ax.axvline(limit, color=ROLES["prior"], linewidth=1.0, linestyle=(0, (4, 2)))
    for order, b in enumerate(np.argsort(result.mmd[chosen])):
        value = result.mmd[chosen[b]]
        color = ROLES["reference"] if value > limit else ink(ax)
        height = 1 - 0.09 * (order % ROWS)
        ax.plot([value] * 2, [0, height], transform=ax.get_xaxis_transform(), color=color, lw=1.2)
        ax.annotate(
            labels[b], (value, height), xycoords=ax.get_xaxis_transform(), color=color,
            xytext=(2, -1), textcoords="offset points", va="top", fontsize=8,
        )  # fmt: skip
    sizes = np.unique(result.num_obs[chosen])
    ax.set(yticks=[], title=f"{', '.join(map(str, sizes))} observations")
    ax.spines["left"].set_visible(False)


@styled
def predictive_check(
    result: PredictiveCheck,
    x: np.ndarray | None = None,
    *,
    states=None,
    labels=None,
    ax=None,
):
    """A statistic of the observed data in each state, over bands of the replicated one.

    Bands hold 50 and 90 % of the replicated values. Dots are the median of the observed ones over
    draws, and bars hold 90 % of those: the observed statistic is uncertain because the states are.

    Parameters
    ----------
    result : PredictiveCheck
        Of one data set; see `diagnostics.predictive_check`. The statistic is a number or a vector.
    x : array, shape (Q,), optional
        Where to draw the entries of a vector, such as levels of quantiles or middles of bins; by
        default at 0, 1, .... A number is drawn at the state.
    states : sequence of int, optional
        Which states to draw; all by default.
    labels : sequence of str, optional
        Of the K states.
    ax : Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        If result is something else or of several data sets, its statistic is a matrix or NaN
        throughout, or x, states or labels do not fit.

    Examples
    --------
    >>> import abmtools as abm, numpy as np
    >>> workflow = abm.load_pretrained("gaussian_mixture")
    >>> data = workflow.simulate(1, num_obs=200, num_reps=3)
    >>> posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=500, seed=1)
    >>> check = abm.diagnostics.predictive_check(posterior, np.std)
    >>> ax = abm.plots.predictive_check(check, labels=["low", "middle", "high"])
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['low', 'middle', 'high']
    """
    _require(result, PredictiveCheck, "predictive_check")
    if len(result) != 1:
        raise ValueError(
            f"result: expected the check of one data set, got {len(result)}; choose one, for "
            "example result[0]."
        )
    observed, replicated = result.observed[0], result.replicated[0]
    num_states, shape = observed.shape[1], observed.shape[2:]
    if len(shape) > 1:
        raise ValueError(f"result: expected a number or a vector, got shape {shape}.")
    states, labels = _states(states, labels, num_states, by_state=result.by_state)
    x = _positions(x, shape)
    chosen = [side[:, states] for side in (observed, replicated)]
    if np.isnan(np.concatenate(chosen)).all():
        raise ValueError("result: expected some values of the statistic, got only NaN.")
    own_figure, ax = ax is None, new_axes(ax)
    handles = {}
    for k in states:
        color = component_color(k) if result.by_state else ROLES["amortized"]
        at = np.array([float(k)]) if not shape else x
        values = [side[:, k].reshape(len(side), -1) for side in (observed, replicated)]
        _interval(ax, at, values[1], color, number=not shape)
        _dots(ax, at, values[0], shade(color, ax))
        handles[labels[k]] = Line2D([], [], color=color, linewidth=6, alpha=0.4)
    if not shape:
        ax.set_xticks(states, [labels[k] for k in states])
        ax.set_xlim(min(states) - 0.6, max(states) + 0.6)
    handles["observed"] = Line2D([], [], color=ink(ax), linestyle="none", marker="o", markersize=4)
    ax.set_ylabel("statistic")
    put_legend([ax], handles, own_figure=own_figure)
    return ax


def _states(states, labels, num_states: int, *, by_state: bool) -> tuple[list[int], list[str]]:
    """Which states to draw, and a label for each state."""
    states = list(range(num_states)) if states is None else [int(k) for k in states]
    if not states or not all(0 <= k < num_states for k in states):
        raise ValueError(f"states: expected some of 0 to {num_states - 1}, got {states}.")
    if labels is None:
        labels = [f"state {k}" for k in range(num_states)] if by_state else ["all"]
    if len(labels) != num_states:
        raise ValueError(f"labels: expected {num_states}, one a state, got {len(labels)}.")
    return states, list(map(str, labels))


def _positions(x, shape: tuple) -> np.ndarray:
    x = np.arange(*shape or (1,)) if x is None else np.asarray(x, dtype="float64")
    if x.shape != (shape or (1,)):
        raise ValueError(f"x: expected shape {shape or (1,)}, as the statistic, got {x.shape}.")
    return x


def _interval(ax, x: np.ndarray, values: np.ndarray, color: str, *, number: bool) -> None:
    """Bands of 50 and 90 % of values, (M, Q), or bars where the statistic is a number."""
    x, (low, lower, median, upper, high) = _known_quantiles(x, values)
    if not len(x):
        return
    for ends, alpha in (((low, high), 0.22), ((lower, upper), 0.35)):
        wide, ends = (x + [-0.25, 0.25], np.repeat(ends, 2, axis=1)) if number else (x, ends)
        ax.fill_between(wide, *ends, color=color, alpha=alpha, linewidth=0)
    if not number:
        ax.plot(x, median, color=color, linewidth=1.0)


def _dots(ax, x: np.ndarray, values: np.ndarray, color) -> None:
    """Median and 90 % of values, (M, Q)."""
    x, (low, _, median, _, high) = _known_quantiles(x, values)
    if not len(x):
        return
    errors = np.stack([median - low, high - median])
    ax.errorbar(x, median, errors, fmt="o", color=color, markersize=4, elinewidth=1.2)


def _known_quantiles(x: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entries of x with any values, (Q,), and quantiles of these, (5, Q); NaN is no value."""
    known = ~np.isnan(values).all(axis=0)
    if not known.any():  # of which NumPy gives a single quantile
        return x[known], np.empty((len(LEVELS), 0))
    return x[known], np.nanquantile(values[:, known], LEVELS, axis=0)


def _require(result, kind: type, name: str) -> None:
    if not isinstance(result, kind):
        raise TypeError(
            f"result: expected a {kind.__name__}, got {type(result).__name__}; see "
            f"abmtools.diagnostics.{name}."
        )

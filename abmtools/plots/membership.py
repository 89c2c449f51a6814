r"""Membership: which observation belongs to which component, and whether to believe it.

:math:`p(z_i = k \mid y, \theta_s)` varies with the observation i and with the draw s. Curves show
it against the observation, as a median and bands over draws: the width of a band is what the data
leave open about the parameters; where a curve is neither zero nor one, the component would be open
even if they were known.
"""

import numpy as np
from matplotlib.lines import Line2D
from scipy.stats import binom

from ..diagnostics.draws import Draws, require_same_data
from ..diagnostics.reliability import MembershipCalibration
from .style import ROLES, component_color, new_axes, put_legend, shade, styled

__all__ = ["calibration", "membership_curves", "membership_scatter"]

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@styled
def membership_curves(
    posterior,
    reference=None,
    *,
    x: np.ndarray | None = None,
    reference_label: str = "Stan",
    ax=None,
):
    """Membership probability of each component against the observation.

    Bands hold 50 and 90 % of the draws, lines are medians. Of a reference, median and ends of the
    90 % band are drawn as dashed and dotted lines of a darker shade.

    Parameters
    ----------
    posterior : MixturePosterior or DataTree
        Of one data set.
    reference : MixturePosterior or DataTree, optional
        Of the same data set.
    x : array, shape (N,), optional
        Where to draw each observation; by default the observation itself, or the mean of its
        observed replicates. Observations with other numbers of replicates get curves of their own:
        the same mean says more where there are more.
    reference_label : str
        In the legend.
    ax : Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        If one of the two is something else, holds several data sets or has no membership, the
        reference has other observations, or observations are vectors and no x is given.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("gaussian_mixture")
    >>> data = workflow.simulate(1, num_obs=200, num_reps=3)
    >>> posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=500, seed=1)
    >>> ax = abm.plots.membership_curves(posterior)
    >>> [text.get_text() for text in ax.figure.legends[0].get_texts()]
    ['component 0', 'component 1', 'component 2']
    """
    draws = _with_membership(posterior, "posterior")
    groups, x = _observations(draws, x)
    curves = [(k, group) for k in range(draws.membership.shape[2]) for group in groups]
    own_figure, ax = ax is None, new_axes(ax)
    for k, group in curves:
        band(ax, x[group], draws.membership[:, group, k], component_color(k))
    handles = {
        f"component {k}": Line2D([], [], color=component_color(k))
        for k in range(draws.membership.shape[2])
    }
    if reference is not None:
        reference = _with_membership(reference, "reference", like=draws)
        for k, group in curves:
            outline(ax, x[group], reference.membership[:, group, k], component_color(k))
        handles[reference_label] = Line2D([], [], color=shade("#888888", ax), linestyle="--")
    ax.set(ylim=(-0.02, 1.02), xlabel="observation", ylabel="membership probability")
    ax.margins(x=0.01)
    put_legend([ax], handles, own_figure=own_figure)
    return ax


@styled
def membership_scatter(posterior, reference, *, labels=("amortized", "Stan"), ax=None):
    """Mean membership of every observation in two posteriors, against each other.

    Missing observations are left out, but not those of a chain, which still have a state.

    Parameters
    ----------
    posterior, reference : MixturePosterior or DataTree
        Of the same data set.
    labels : (str, str)
        Of posterior and reference.
    ax : Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        As for `membership_curves`.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("gaussian_mixture")
    >>> data = workflow.simulate(1, num_obs=200, num_reps=3)
    >>> posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=500, seed=1)
    >>> corrected = abm.diagnostics.importance(posterior).correct(posterior)
    >>> ax = abm.plots.membership_scatter(posterior, corrected, labels=("amortized", "PSIS"))
    >>> ax.get_xlabel()
    'mean membership, PSIS'
    """
    draws = _with_membership(posterior, "posterior")
    other = _with_membership(reference, "reference", like=draws)
    drawn = _drawn(draws)
    ours, theirs = (side.membership.mean(axis=0)[drawn] for side in (draws, other))
    own_figure, ax = ax is None, new_axes(ax, width=3.9, height=3.8)
    ax.plot([0, 1], [0, 1], color=ROLES["prior"], linewidth=0.8, zorder=1)
    for k in range(ours.shape[1]):
        ax.plot(
            theirs[:, k], ours[:, k], "o", color=component_color(k), markersize=4.5,
            alpha=0.6, markeredgewidth=0, label=f"component {k}",
        )  # fmt: skip
    ax.annotate(
        f"largest difference {np.abs(ours - theirs).max():.3f}",
        (0.97, 0.04), xycoords="axes fraction", ha="right",
    )  # fmt: skip
    ax.set(
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        aspect="equal",
        xlabel=f"mean membership, {labels[1]}",
        ylabel=f"mean membership, {labels[0]}",
    )
    put_legend([ax], _labelled(ax), own_figure=own_figure, inside="upper left")
    return ax


@styled
def calibration(result: MembershipCalibration, *, difference: bool = False, labels=None, ax=None):
    """Reliability of membership: how often a component was true, against its probability.

    Parameters
    ----------
    result : MembershipCalibration
        See `diagnostics.membership_calibration`.
    difference : bool
        Draw how often minus probability, on a scale that shows it. The shaded bands then hold 95 %
        of what calibrated probabilities would give in each bin; else they are around the diagonal.
    labels : sequence of str, optional
        Names of the components; their numbers by default.
    ax : Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError
        If result is something else.
    ValueError
        If there are not as many labels as components.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("gaussian_mixture")
    >>> simulated = workflow.simulate(20, num_obs=200, num_reps=3)
    >>> p, z = abm.diagnostics.predicted_membership(workflow, simulated)
    >>> result = abm.diagnostics.membership_calibration(p, z)
    >>> ax = abm.plots.calibration(result, labels=["low", "middle", "high"])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['low', 'middle', 'high']
    """
    if not isinstance(result, MembershipCalibration):
        raise TypeError(
            f"result: expected a MembershipCalibration, got {type(result).__name__}; see "
            "abmtools.diagnostics.membership_calibration."
        )
    num_components = len(result.counts)
    labels = [f"component {k}" for k in range(num_components)] if labels is None else labels
    if len(labels) != num_components:
        raise ValueError(f"labels: expected {num_components}, one a component, got {len(labels)}.")
    own_figure, ax = ax is None, new_axes(ax, width=3.8 + difference, height=3.8)
    ends = [0, 0] if difference else [0, 1]
    ax.plot([0, 1], ends, color=ROLES["prior"], linewidth=0.8, zorder=1)
    for k, (predicted, observed, counts) in enumerate(
        zip(result.predicted, result.observed, result.counts, strict=True)
    ):
        filled = counts > 0
        p, share, n = predicted[filled], observed[filled], counts[filled]
        low, high = (binom.ppf(level, n, p) / n for level in (0.025, 0.975))
        base = p if difference else 0
        color = component_color(k)
        ax.fill_between(p, low - base, high - base, color=color, alpha=0.13, linewidth=0, zorder=1)
        ax.plot(p, share - base, "o-", color=color, markersize=4, label=labels[k])
    ax.set(xlim=(-0.02, 1.02), xlabel="membership probability", ylabel="share of true components")
    if difference:
        ax.set_ylabel("share of true components − probability")
    else:
        ax.set(ylim=(-0.02, 1.02), aspect="equal")
    inside = None if difference else "upper left"
    put_legend([ax], _labelled(ax), own_figure=own_figure, inside=inside)
    return ax


def _with_membership(posterior, argument: str, like: Draws | None = None) -> Draws:
    draws = Draws.of(posterior, argument)
    if draws.membership is None:
        raise ValueError(f"{argument}: expected draws with membership, got {list(draws.columns)}.")
    if like is not None and draws.membership.shape[1:] != like.membership.shape[1:]:
        raise ValueError(
            f"{argument}: expected membership of {like.membership.shape[1:]} observations and "
            f"components as in the posterior, got {draws.membership.shape[1:]}."
        )
    if like is not None:
        require_same_data(like, draws, argument)
    return draws


def _drawn(draws: Draws) -> np.ndarray:
    """Which observations to compare, (N,): missing ones of a chain still have a state."""
    missing_ones = draws.filtering is not None or draws.path is not None
    if draws.model is not None:
        missing_ones = not draws.model.structure.exchangeable
    if missing_ones or "mask" not in draws.data:
        return np.ones(draws.membership.shape[1], dtype=bool)
    return np.asarray(draws.data["mask"], dtype=bool)


def _observations(draws: Draws, x) -> tuple[list[np.ndarray], np.ndarray]:
    """Groups of observations that belong on one curve, each ordered by x; and x, (N,)."""
    num_obs = draws.membership.shape[1]
    data = draws.data
    observed = np.asarray(data.get("mask", np.ones(num_obs)), dtype=bool)
    count = np.ones(num_obs, dtype=int)
    if x is None:
        if "y" not in data:
            raise ValueError(
                "x: expected where to draw each observation; these draws have no data."
            )
        x, count = _position(draws)
    x = np.asarray(x, dtype="float64")
    if x.shape != (num_obs,):
        raise ValueError(f"x: expected shape ({num_obs},), got {x.shape}.")
    order = np.argsort(x)
    order = order[observed[order]]
    return [order[count[order] == size] for size in np.unique(count[observed])], x


def _position(draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the observed replicates, (N,), and their number; a single number is its own mean."""
    y = np.asarray(draws.data["y"], dtype="float64")
    # Without names of the axes, a second axis is taken as that of replicates.
    known = draws.data_dims is not None and "replicate_mask" not in draws.data
    if y.ndim > 2 or (y.ndim == 2 and known and "replicate" not in draws.data_dims):
        raise ValueError("x: expected where to draw each observation, because these are vectors.")
    y, shown = y.reshape(len(y), -1), np.ones((len(y), y.size // len(y)), dtype=bool)
    if "replicate_mask" in draws.data:
        shown = np.asarray(draws.data["replicate_mask"], dtype=bool)
    count = shown.sum(axis=1)
    return np.sum(y, axis=1, where=shown) / np.maximum(count, 1), count


def band(ax, x: np.ndarray, membership: np.ndarray, color: str) -> None:
    """Median and 50 and 90 % bands of membership, (S, N)."""
    low, lower, median, upper, high = np.quantile(membership, LEVELS, axis=0)
    ax.fill_between(x, low, high, color=color, alpha=0.22, linewidth=0)
    ax.fill_between(x, lower, upper, color=color, alpha=0.35, linewidth=0)
    ax.plot(x, median, color=color)


def outline(ax, x: np.ndarray, membership: np.ndarray, color: str) -> None:
    """Median and ends of the 90 % band, as lines."""
    low, _, median, _, high = np.quantile(membership, LEVELS, axis=0)
    color = shade(color, ax)
    ax.plot(x, median, color=color, linestyle="--", linewidth=1.2)
    for end in (low, high):
        ax.plot(x, end, color=color, linestyle=":", linewidth=1.0)


def _labelled(ax) -> dict:
    artists, labels = ax.get_legend_handles_labels()
    return dict(zip(labels, artists, strict=True))

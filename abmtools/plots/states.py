r"""States: what is known of the hidden states of a chain, each on its own, over time.

That is a probability at each time point, :math:`p(z_t = k \mid y_{1:t})` by filtering or
:math:`p(z_t = k \mid y_{1:T})` by smoothing, given each draw of the parameters. Pictures show its
median and bands over draws. Time points are counted from one.
"""

from numbers import Integral

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..diagnostics.draws import Draws, require_same_data
from .membership import band, outline
from .sequences import WIDTH, check_states
from .style import component_color, count_axis, new_axes, put_legend, shade, styled

__all__ = ["filtering_and_smoothing", "state_probabilities"]

KINDS = ("filtering", "smoothing")
STRIP = (-0.12, -0.05)  # where true states are drawn, below the probabilities


@styled
def state_probabilities(
    posterior,
    reference=None,
    *,
    kind: str = "smoothing",
    state: int | None = None,
    z: np.ndarray | None = None,
    reference_label: str = "Stan",
    ax=None,
):
    """Probability of a state over time.

    Bands hold 50 and 90 % of the draws, lines are medians. Of a reference, median and ends of the
    90 % band are drawn as dashed and dotted lines of a darker shade.

    Parameters
    ----------
    posterior : MixturePosterior or DataTree
        Of one sequence.
    reference : MixturePosterior or DataTree, optional
        Of the same sequence.
    kind : {"smoothing", "filtering"}
    state : int, optional
        By default every state, but of two only state 1: the other's probability is the rest.
    z : array of int, shape (T,), optional
        True states, drawn as a coloured strip below the curves.
    reference_label : str
        In the legend.
    ax : Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        If one of the two is something else, holds several data sets or no chain, the reference has
        other data, or kind, state or z do not fit.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("gaussian_hmm")
    >>> data = workflow.simulate(1, num_obs=100, num_reps=3)
    >>> posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=500, seed=1)
    >>> ax = abm.plots.state_probabilities(posterior, z=data["z"][0])
    >>> ax.get_ylabel()
    'p(state 1)'
    """
    sides = _both(posterior, reference, kind)
    own_figure, ax = ax is None, new_axes(ax, width=WIDTH, height=2.7)
    handles = _draw_probabilities(ax, *sides, state, z, reference_label)
    ax.set_xlabel("time")
    put_legend([ax], handles, own_figure=own_figure)
    return ax


@styled
def filtering_and_smoothing(
    posterior,
    reference=None,
    *,
    state: int | None = None,
    z: np.ndarray | None = None,
    reference_label: str = "Stan",
    axes=None,
) -> np.ndarray:
    """Filtering above smoothing, on one time axis.

    Parameters
    ----------
    posterior, reference, state, z, reference_label
        As for `state_probabilities`.
    axes : array of two Axes, optional

    Returns
    -------
    array of Axes, shape (2,)

    Raises
    ------
    TypeError, ValueError
        As for `state_probabilities`, or if there are not two axes.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("gaussian_hmm")
    >>> data = workflow.simulate(1, num_obs=100, num_reps=3)
    >>> posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=500, seed=1)
    >>> axes = abm.plots.filtering_and_smoothing(posterior, z=data["z"][0])
    >>> [ax.get_title() for ax in axes]
    ['filtering', 'smoothing']
    """
    panels = {kind: _both(posterior, reference, kind) for kind in KINDS}
    own_figure = axes is None
    if own_figure:
        axes = plt.subplots(2, 1, figsize=(WIDTH, 4.4), sharex=True, sharey=True)[1]
    axes = np.atleast_1d(axes).ravel()
    if len(axes) != 2:
        raise ValueError(f"axes: expected two, got {len(axes)}.")
    for ax, (kind, sides) in zip(axes, panels.items(), strict=True):
        handles = _draw_probabilities(ax, *sides, state, z, reference_label)
        ax.set_title(kind)
    axes[1].set_xlabel("time")
    put_legend(axes, handles, own_figure=own_figure)
    return axes


def _both(posterior, reference, kind: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Probabilities of both sides, each (S, T, K); None for a reference that is None."""
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {list(KINDS)}, got {kind!r}.")
    draws = Draws.of(posterior, "posterior")
    ours = _probabilities(draws, kind, "posterior")
    if reference is None:
        return ours, None
    other = Draws.of(reference, "reference")
    theirs = _probabilities(other, kind, "reference")
    if theirs.shape[1:] != ours.shape[1:]:
        raise ValueError(
            f"reference: expected probabilities of {ours.shape[1:]} time points and states as in "
            f"the posterior, got {theirs.shape[1:]}."
        )
    require_same_data(draws, other)
    return ours, theirs


def _probabilities(draws: Draws, kind: str, argument: str) -> np.ndarray:
    """Filtering or smoothing probabilities, (S, T, K)."""
    if draws.filtering is None or draws.membership is None:
        raise ValueError(
            f"{argument}: expected the posterior of a chain, with filtering and membership, "
            f"got draws of {list(draws.parameters)} without them: their observations have no order."
        )
    return draws.filtering if kind == "filtering" else draws.membership


def _draw_probabilities(ax, ours, theirs, state, z, reference_label: str) -> dict:
    """Draw curves and the strip of true states; return the legend's handles."""
    _, num_obs, num_states = ours.shape
    states = _chosen_states(state, num_states)
    time = np.arange(1, num_obs + 1)
    for k in states:
        band(ax, time, ours[..., k], component_color(k))
    handles = {f"state {k}": Line2D([], [], color=component_color(k)) for k in states}
    if theirs is not None:
        for k in states:
            outline(ax, time, theirs[..., k], component_color(k))
        handles[reference_label] = Line2D([], [], color=shade("#888888", ax), linestyle="--")
    if z is not None:
        handles |= _strip(ax, check_states(z, num_obs, num_states), num_states)
    name = f"p(state {states[0]})" if len(states) == 1 else "probability"
    ax.set(ylim=(-0.02 if z is None else STRIP[0] - 0.02, 1.02), ylabel=name)
    ax.set_yticks([0, 0.5, 1])
    ax.margins(x=0.01)
    count_axis(ax)
    return handles


def _chosen_states(state: int | None, num_states: int) -> list[int]:
    if state is None:
        return [1] if num_states == 2 else list(range(num_states))
    if not isinstance(state, Integral) or isinstance(state, bool):
        raise TypeError(f"state: expected an integer, got {type(state).__name__}.")
    if not 0 <= state < num_states:
        raise ValueError(f"state: expected one of 0 to {num_states - 1}, got {state}.")
    return [state]


def _strip(ax, z: np.ndarray, num_states: int) -> dict:
    """True states in colour, between the heights of `STRIP`."""
    colors = ListedColormap([component_color(k) for k in range(num_states)])
    edges = np.arange(len(z) + 1) + 0.5
    ax.pcolormesh(edges, STRIP, z[None], cmap=colors, vmin=-0.5, vmax=num_states - 0.5)
    return {f"true state {k}": Patch(facecolor=component_color(k)) for k in range(num_states)}

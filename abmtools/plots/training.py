"""Training: the losses of both factors, epoch by epoch."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np

from .style import ROLES, count_axis, ink, styled

__all__ = ["losses"]

PANELS = {
    "posterior_loss": "posterior, nats per data set",
    "membership_loss": "membership, nats per observation",
}


@styled
def losses(history, *, exact: Mapping | None = None, axes=None) -> np.ndarray:
    """Training and validation loss of the posterior and of the membership.

    Parameters
    ----------
    history : keras.callbacks.History or dict of str to list
        What ``workflow.fit_online`` returns, or ``workflow.losses``.
    exact : dict of str to float, optional
        Losses of the exact factors, under "posterior_loss" or "membership_loss": where a perfect
        network would end, drawn as a dashed line. Mind the scale: a workflow reports its posterior
        loss for standardized parameters.
    axes : pair of Axes, optional

    Returns
    -------
    array of two Axes

    Raises
    ------
    TypeError, ValueError
        If history is something else or lacks a loss, exact is something else or has other keys,
        or axes are not two.

    Examples
    --------
    >>> import abmtools as abm
    >>> history = {"posterior_loss": [4.0, 3.1, 2.9], "membership_loss": [0.8, 0.5, 0.4]}
    >>> axes = abm.plots.losses(history, exact={"membership_loss": 0.3})
    >>> [ax.get_title() for ax in axes]
    ['posterior, nats per data set', 'membership, nats per observation']
    """
    values = getattr(history, "history", history)
    if not isinstance(values, Mapping):
        raise TypeError(
            f"history: expected a Keras History or a dictionary, got {type(history).__name__}."
        )
    missing = [name for name in PANELS if not len(values.get(name, []))]
    if missing:
        raise ValueError(f"history: expected values of {missing}, got {sorted(values)}.")
    _check_exact(exact)
    if axes is None:
        axes = plt.subplots(1, 2, figsize=(7.4, 2.9))[1]
    axes = np.atleast_1d(axes).ravel()
    if len(axes) != 2:
        raise ValueError(f"axes: expected two, got {len(axes)}.")
    for ax, (name, title) in zip(axes, PANELS.items(), strict=True):
        _curve(ax, values[name], "training", color=ROLES["amortized"])
        if f"val_{name}" in values:
            _curve(ax, values[f"val_{name}"], "validation", color=ROLES["reference"])
        if exact and name in exact:
            dashes = {"linestyle": (0, (4, 2)), "linewidth": 1.2}
            ax.axhline(exact[name], label="exact", color=ink(ax), **dashes)
        ax.set(title=title, xlabel="epoch")
        count_axis(ax)
        ax.grid(axis="y")
    axes[0].set_ylabel("loss")
    axes[0].legend()
    return axes


def _check_exact(exact) -> None:
    if exact is None:
        return
    if not isinstance(exact, Mapping):
        raise TypeError(f"exact: expected a dictionary of losses, got {type(exact).__name__}.")
    if not set(exact) <= set(PANELS):
        raise ValueError(f"exact: expected some of {list(PANELS)}, got {list(exact)}.")


def _curve(ax, values, label: str, *, color: str) -> None:
    values = np.asarray(values, dtype="float64")
    marker = "o" if len(values) < 30 else None
    ax.plot(
        np.arange(1, len(values) + 1), values, color=color, label=label, marker=marker, markersize=3
    )

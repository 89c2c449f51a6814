"""Still pictures of the live explorers, for readers without scripts: the same panels."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from scipy.stats import gaussian_kde

from abmtools.plots.style import COMPONENTS, INK, ROLES, context

__all__ = ["draw_still"]

HEIGHTS = (1.5, 1.4, 1.2, 1.2)  # inches
RING = {"ms": 8, "mfc": "none", "mec": INK, "mew": 1.3}
GUIDE = {"color": "#8A8A8A", "lw": 0.8, "ls": ":", "zorder": 0}


def draw_still(name: str, posterior, z, parameters, settings: dict, path: Path) -> None:
    """Draw an explorer at some settings into a file.

    Parameters
    ----------
    name : {"gaussian_mixture", "gaussian_hmm"}
    posterior : MixturePosterior
        Of the data at these settings.
    z : array of int, shape (N,)
        True indicators.
    parameters : dict of str to array
        True parameters.
    settings : dict of str to float
        Values of the sliders.
    path : Path
    """
    draw = {"gaussian_mixture": draw_mixture, "gaussian_hmm": draw_chain}[name]
    with context():
        figure, axes = plt.subplots(
            len(HEIGHTS), 1, figsize=(7.2, sum(HEIGHTS)), height_ratios=HEIGHTS
        )
        titles = draw(axes, posterior, z, parameters, settings)
        for ax, title in zip(axes, titles, strict=True):
            ax.set_title(title, loc="left")
        figure.savefig(path)
        plt.close(figure)


def draw_mixture(axes, posterior, z, parameters, settings) -> tuple[str, ...]:
    """Observations, their membership, and the posterior; returns titles."""
    y = posterior.data["y"][0].mean(axis=-1)
    membership = posterior.mean_membership()[0]
    colors = to_rgb_array(COMPONENTS[:3])
    for ax in axes[:3]:
        ax.set_xlim(-6.5, 6.5)
    axes[3].set_xlim(0, 1)
    places = stacked(y, 0.13)
    axes[0].scatter(*places, s=14, color=mixed(membership, colors))
    axes[0].plot(places[0][-1], places[1][-1], "o", **RING)
    axes[0].set(yticks=[], ylim=(-0.6, None))
    axes[0].spines["left"].set_visible(False)
    axes[1].set(ylim=(-0.04, 1.04), yticks=[0, 0.5, 1])
    order = np.argsort(y)
    for k, color in enumerate(colors):
        axes[1].plot(y[order], membership[order, k], ".-", ms=4, lw=0.8, color=color)
    for ax in axes[:2]:
        ax.axvline(settings["own"], **GUIDE)
    show_densities(axes[2], posterior.parameters["means"][0], parameters["means"])
    show_densities(axes[3], posterior.parameters["weights"][0], parameters["weights"])
    return (
        "Observations",
        "Probability of each component",
        "Posterior of the means",
        "Posterior of the weights",
    )


def stacked(values: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Places of dots of that width, which are stacked where they would overlap."""
    bins = np.round(values / width)
    levels = np.empty(len(values))
    for center in np.unique(bins):
        here = bins == center
        levels[here] = np.arange(here.sum())
    return bins * width, levels


def draw_chain(axes, posterior, z, parameters, settings) -> tuple[str, ...]:
    """The series, filtering and smoothing, and the posterior; returns titles."""
    data, colors = posterior.data, to_rgb_array(COMPONENTS[:2])
    time = np.arange(1, 1 + len(z))
    mean = data["y"][0].sum(axis=-1) / data["replicate_mask"][0].sum(axis=-1)
    smoothing = posterior.mean_smoothing()[0]
    for ax in axes[:2]:
        ax.set_xlim(0, len(z) + 1)
        ax.axvline(settings["time"], **GUIDE)
    axes[2].set_xlim(-4, 4)
    axes[3].set_xlim(0, 1)
    axes[0].scatter(time, mean, s=14, color=mixed(smoothing, colors))
    axes[0].plot(settings["time"], mean[settings["time"] - 1], "o", **RING)
    axes[0].set(ylim=(-6.5, 6.5), yticks=[-4, 0, 4])
    axes[1].scatter(time, np.full(len(z), -0.1), s=12, marker="s", color=colors[z])
    axes[1].plot(time, posterior.mean_filtering()[0, :, 1], "--", lw=1, color="#6B6B6B")
    axes[1].plot(time, smoothing[:, 1], lw=1.6, color=ROLES["amortized"])
    axes[1].set(ylim=(-0.16, 1.04), yticks=[0, 0.5, 1])
    show_densities(axes[2], posterior.parameters["means"][0], parameters["means"])
    show_densities(axes[3], posterior.parameters["stay"][0], parameters["stay"])
    return (
        "Observations over time",
        "Upper state: filtering (dashed), smoothing",
        "Posterior of the means",
        "Posterior of persistence",
    )


def mixed(probabilities: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Colours, (K, 3), mixed by probabilities, (N, K)."""
    return np.clip(probabilities @ colors, 0, 1)


def to_rgb_array(colors) -> np.ndarray:
    """Colours as rows of red, green and blue, for mixing."""
    return np.array([to_rgb(color) for color in colors])


def show_densities(ax, draws: np.ndarray, truth: np.ndarray) -> None:
    """Kernel densities of draws, (S, K), with the true values, (K,), as lines."""
    x = np.linspace(*ax.get_xlim(), 500)
    for k, color in enumerate(COMPONENTS[: len(truth)]):
        height = gaussian_kde(draws[:, k], "silverman")(x)
        visible = height > 0.002 * height.max()
        ax.fill_between(x[visible], height[visible], color=color, alpha=0.3, lw=0)
        ax.plot(x[visible], height[visible], color=color, lw=1.2)
        ax.axvline(truth[k], ymax=0.92, color=INK, lw=1)
    ax.set(yticks=[], ylim=(0, None))
    ax.spines["left"].set_visible(False)

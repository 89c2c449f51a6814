"""Style: one colour for each role, and figures that can be read on any page.

Colours are those of Okabe and Ito (2008), which readers with any colour vision can tell apart: one
for each role that a posterior can play, and others for components, so that a colour never means
two things. Figures have an opaque light ground, so they stay as they are on a dark page.

References
----------
Okabe, M., & Ito, K. (2008). Color Universal Design: how to make figures and presentations that are
friendly to colorblind people. https://jfly.uni-koeln.de/color/
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.ticker import MaxNLocator

__all__ = ["COMPONENTS", "ROLES", "component_color", "context", "role_colors"]

ROLES = {
    "amortized": "#0072B2",  # blue
    "reference": "#D55E00",  # vermilion
    "truth": "#1A1A1A",
    "prior": "#8A8A8A",
}
COMPONENTS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6A3D9A", "#8C6D31")

SYNONYMS = {
    "stan": "reference",
    "nuts": "reference",
    "exact": "reference",
    "abmtools": "amortized",
    "posterior": "amortized",
    "network": "amortized",
}
OTHERS = ("#0072B2", "#D55E00", "#CC79A7", "#009E73", "#E69F00", "#56B4E9")

INK = "#262626"
SETTINGS = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "figure.dpi": 120,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": "#6B6B6B",
    "xtick.color": "#6B6B6B",
    "ytick.color": "#6B6B6B",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
}


@contextmanager
def context() -> Iterator[None]:
    """Use the style of this package's figures for a block of code.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> with context():
    ...     figure, axes = plt.subplots(1, 2, figsize=(8, 3))
    >>> figure.get_facecolor()
    (1.0, 1.0, 1.0, 1.0)
    """
    with mpl.rc_context(SETTINGS):
        yield
        interactive = mpl.is_interactive()
    # A notebook turns interactive mode on with its first figure; leaving the context undoes that.
    mpl.interactive(interactive)


def component_color(k: int) -> str:
    """The colour of component k; colours repeat after six components.

    Examples
    --------
    >>> component_color(0), component_color(6)
    ('#009E73', '#009E73')
    """
    return COMPONENTS[k % len(COMPONENTS)]


def role_colors(labels) -> dict[str, str]:
    """A colour for each label: that of the role it names, else the first one still free.

    Labels such as "amortized", "Stan", "NUTS", "prior" or "PSIS, amortized" name a role by their
    first word; case does not matter.

    Examples
    --------
    >>> role_colors(["amortized", "Stan (NUTS)"])
    {'amortized': '#0072B2', 'Stan (NUTS)': '#D55E00'}
    >>> role_colors(["before", "after"])
    {'before': '#0072B2', 'after': '#D55E00'}
    """
    named = {}
    for label in labels:
        word = label.lower().replace(",", " ").split()[0] if label.strip() else ""
        role = SYNONYMS.get(word, word)
        if role in ROLES and ROLES[role] not in named.values():
            named[label] = ROLES[role]
    free = [color for color in OTHERS if color not in named.values()]
    others = [label for label in labels if label not in named]
    named |= {label: free[i % len(free)] for i, label in enumerate(others)}
    return {label: named[label] for label in labels}


def ink(ax) -> str:
    """The colour of the truth: near black, or near white where the ground of the axes is dark."""
    ground = to_rgba(ax.get_facecolor())
    ground = to_rgba(ax.figure.get_facecolor()) if ground[3] < 0.5 else ground
    dark = ground[3] >= 0.5 and ground[0] + ground[1] + ground[2] < 1.2
    return "#F2F2F2" if dark else ROLES["truth"]


def shade(color: str, ax) -> tuple:
    """A colour mixed with `ink`, for lines that lie over a band of that colour."""
    mixed = zip(to_rgb(color), to_rgb(ink(ax)), strict=True)
    return tuple(0.55 * channel + 0.45 * over for channel, over in mixed)


def styled(function: Callable) -> Callable:
    """Draw in the style of `context` unless the caller passes axes, with a style of their own."""

    @wraps(function)
    def drawing(*args, **kwargs):
        if kwargs.get("ax") is not None or kwargs.get("axes") is not None:
            return function(*args, **kwargs)
        with context():
            return function(*args, **kwargs)

    return drawing


def new_axes(ax, *, width: float = 5.0, height: float = 3.4):
    """The axes given, or those of a new figure."""
    return plt.subplots(figsize=(width, height))[1] if ax is None else ax


def count_axis(ax) -> None:
    """Ticks at whole numbers only, for an x axis that counts."""
    ax.xaxis.set_major_locator(
        MaxNLocator("auto", integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])
    )


def put_legend(axes, handles: Mapping, *, own_figure: bool, inside: str | None = None) -> None:
    """One legend {label: artist}: above a figure of ours, else in the first of the axes.

    `inside` is where a legend fits into the axes of a figure that is too narrow for one above.
    """
    artists, labels = list(handles.values()), list(handles)
    if own_figure and inside is None:
        _legend_above(axes[0].figure, artists, labels)
    else:
        axes[0].legend(artists, labels, loc=inside or "best")


def _legend_above(figure, artists: list, labels: list[str]) -> None:
    """A legend in as few rows as the width of the figure allows."""
    for num_rows in range(1, len(labels) + 1):
        columns = -(-len(labels) // num_rows)
        legend = figure.legend(artists, labels, loc="outside upper center", ncols=columns)
        if columns == 1 or legend.get_window_extent().width <= 0.98 * figure.bbox.width:
            return
        legend.remove()

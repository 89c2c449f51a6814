r"""Pictures that are redrawn many times a second: moving parts over a still background.

Most of the time that matplotlib needs for a figure goes into what stays as it is, the axes, their
ticks and labels. So these are drawn once and kept as pixels, and for each new answer only the
curves, bands and dots are moved and drawn over a copy of them ("blitting"). For this the limits of
all axes are fixed.
"""

import io

import numpy as np
from arviz_stats.base import array_stats
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ..style import INK, context

__all__ = ["Band", "Density", "Picture", "densities", "encode", "highest", "move_line"]

SIZE = (7.6, 4.3)  # inches
DPI = 110
ENDS = (0.05, 0.5, 0.95)
BANDWIDTH = "scott"  # ten times as fast as the default, and never zero where draws differ


class Picture:
    """A figure of four panels: data over probabilities on the left, two of marginals on the right.

    Attributes
    ----------
    data, probability, upper, lower : Axes
        Data, probabilities, and the two panels of marginals.
    """

    def __init__(self, *, xlabel: str, panels: tuple[str, str]):
        with context():
            self.figure = Figure(figsize=SIZE, dpi=DPI)
            self._canvas = FigureCanvasAgg(self.figure)
            grid = self.figure.add_gridspec(2, 2, width_ratios=[2.2, 1])
            self.data = self.figure.add_subplot(grid[0, 0])
            self.probability = self.figure.add_subplot(grid[1, 0], sharex=self.data)
            self.upper = self.figure.add_subplot(grid[0, 1])
            self.lower = self.figure.add_subplot(grid[1, 1])
            self.data.tick_params(labelbottom=False)
            self.probability.set(xlabel=xlabel, ylim=(-0.02, 1.02), yticks=[0, 0.5, 1])
            for ax, title in zip((self.upper, self.lower), panels, strict=True):
                ax.set(title=title, yticks=[], ylim=(0, 1.08))
                ax.spines["left"].set_visible(False)
        self._moving, self._background = [], None

    def moving(self, *artists):
        """Have these artists redrawn each time, in the order of the calls; returns the first."""
        for artist in artists:
            artist.set_animated(True)
        self._moving += artists
        return artists[0]

    def line(self, ax, **style):
        """An empty line that moves; give it points with its own ``set_data``."""
        with context():
            return self.moving(*ax.plot([], [], **style))

    def vertical(self, ax, **style):
        """A vertical line through a panel that moves: see `move_line`."""
        with context():
            return self.moving(ax.axvline(0, **{"color": INK, "linewidth": 1} | style))

    def dots(self, ax, num: int, **style):
        """A cloud of dots that moves; give it points and colours with ``set_offsets`` and others.

        Parameters
        ----------
        ax : Axes
        num : int
            The largest number of dots.
        **style
            Passed to ``Axes.scatter``.
        """
        with context():
            start = np.full(num, np.nan)
            return self.moving(ax.scatter(start, start, **{"linewidths": 0} | style))

    def legend(self, handles: dict) -> None:
        """A legend {label: artist} above the figure."""
        with context():
            self.figure.legend(
                list(handles.values()),
                list(handles),
                loc="outside upper center",
                ncols=len(handles),
            )

    def render(self) -> bytes:
        """The picture as it is now, as a PNG."""
        if self._background is None:
            with context():
                self._canvas.draw()
                self.figure.set_layout_engine("none")  # what lies still has found its place
            self._background = self._canvas.copy_from_bbox(self.figure.bbox)
        self._canvas.restore_region(self._background)
        for artist in self._moving:
            self.figure.draw_artist(artist)
        return encode(self._canvas)


class Band:
    """Median and 90 % band of curves that move, one for each draw.

    Parameters
    ----------
    picture : Picture
    ax : Axes
    color : color
    """

    def __init__(self, picture: Picture, ax, color):
        self._fill = picture.moving(ax.fill_between([], [], [], color=color, alpha=0.3, lw=0))
        self._line = picture.line(ax, color=color)

    def move(self, x: np.ndarray, curves: np.ndarray) -> None:
        """Show curves, (S, N), at x, (N,) in increasing order."""
        low, median, high = np.quantile(curves, ENDS, axis=0)
        self._fill.set_data(x, low, high)
        self._line.set_data(x, median)


class Density:
    """Marginal densities of several scalars in one panel, on a common scale.

    Parameters
    ----------
    picture : Picture
    ax : Axes
        Its vertical axis goes from zero to about one, the highest of the peaks.
    colors : sequence of color
        One for each scalar.
    filled : bool
    **style
        Passed to ``Axes.plot``.
    """

    def __init__(self, picture: Picture, ax, colors, *, filled: bool = True, **style):
        self._fills = [
            picture.moving(ax.fill_between([], [], [], color=color, alpha=0.22, lw=0))
            for color in colors
            if filled
        ]
        self._lines = [picture.line(ax, color=color, **style) for color in colors]

    def move(self, curves: list, peak: float | None = None) -> None:
        """Show these curves, as `densities` makes them.

        Parameters
        ----------
        curves : list of (array, array)
        peak : float, optional
            The density that is drawn at a height of one; by default the highest of these.
        """
        peak = highest(curves) if peak is None else peak
        for line, (grid, density) in zip(self._lines, curves, strict=True):
            line.set_data(grid, density / peak)
        for fill, (grid, density) in zip(self._fills, curves, strict=False):
            fill.set_data(grid, np.zeros_like(grid), density / peak)


def densities(draws: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Grid and kernel density of each column of draws, (S, J); of a single value, a spike."""
    return [
        array_stats.kde(column, bw=BANDWIDTH)[:2]
        if np.ptp(column) > 0
        else (np.repeat(column[0], 3), np.array([0.0, 1.0, 0.0]))
        for column in draws.T
    ]


def highest(curves: list) -> float:
    """The largest density of all curves."""
    return max(density.max() for _, density in curves)


def encode(canvas: FigureCanvasAgg) -> bytes:
    """The pixels of a canvas as a PNG of 128 colours: half the size and half the time of all."""
    image = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba())
    image = image.convert("RGB").quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    file = io.BytesIO()
    image.save(file, format="png", compress_level=1)
    return file.getvalue()


def move_line(line, x: float) -> None:
    """Move a vertical line to x."""
    line.set_xdata([x, x])

"""Explorer of a Gaussian hidden Markov model: change its persistence, watch the states."""

import numpy as np
from matplotlib.colors import ListedColormap, to_rgba_array
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ...models import GaussianHMM
from ..style import COMPONENTS, INK, ROLES
from .noise import chain_states
from .picture import Band, Picture
from .simulated import SimulatedExplorer

__all__ = ["GaussianHMMExplorer", "state_colors"]

TIME = np.arange(1, 101)
COLORS = COMPONENTS[:2]
STRIP = (-0.16, -0.07)  # heights of the strip of true states


class GaussianHMMExplorer(SimulatedExplorer):
    """Change a simulated hidden Markov model and see what a network says about the data.

    The data are 100 time points with three replicates, in two states. One of the time points can
    be moved. Sliders are

    ============  ====================================================================
    persistence   probability to stay, the same in both states
    separation    s; the means are -s/2 and s/2
    time          one time point
    shift         what is added to its observations
    ============  ====================================================================

    On the left are the means of the replicates, coloured by state as smoothing knows it, and the
    probability of state 1 by filtering, which knows the data up to then, and by smoothing, which
    knows all: median and 90 % of the draws, for filtering the median. On the right are the
    posteriors of the means and of the probabilities to stay, with lines at their true values.

    Parameters
    ----------
    workflow : MixtureWorkflow
        For a `GaussianHMM` of two states, as ``load_pretrained("gaussian_hmm")``.
    num_samples : int
        Draws for each picture.
    seed : int
        Of the data's noise and of the draws, so that both change smoothly.

    Attributes
    ----------
    controls : dict of str to Widget
        The sliders.
    data : dict of str to array
        ``"y"``, (1, 100, 3), the true states ``"z"``, (1, 100), and parameters.
    posterior : MixturePosterior
        The network's answer to them.

    Raises
    ------
    ImportError
        If ipywidgets is not installed.
    TypeError, ValueError
        If the workflow is one for another model, or another number of states.

    Examples
    --------
    >>> import abmtools as abm
    >>> explorer = GaussianHMMExplorer(abm.load_pretrained("gaussian_hmm"))
    >>> explorer.controls["persistence"].value = 0.9
    >>> explorer.data["stay"]
    array([[0.9, 0.9]])
    >>> explorer.posterior.mean_smoothing().shape
    (1, 100, 2)
    """

    model_type = GaussianHMM
    num_components, num_obs = 2, len(TIME)
    panels = ("means", "stay")

    def simulate(self, persistence, separation, time, shift) -> dict[str, np.ndarray]:
        """The data at these values of the sliders; see the attribute `data`."""
        means = separation * np.array([-0.5, 0.5])
        z = chain_states(self._noise, persistence)
        y = self._replicates(means, z)
        y[time - 1] += shift
        stay = np.full((1, 2), persistence)
        return {"y": y[None], "z": z[None], "means": means[None], "stay": stay}

    def _make_controls(self) -> dict:
        return {
            "persistence": self._slider("Persistence", 0.9, 0.5, 0.98, 0.02),
            "separation": self._slider("Separation", 1.5, 0.5, 4.0, 0.1),
            "time": self._slider("Time point", 50, 1, self.num_obs, 1),
            "shift": self._slider("Shift", 0.0, -4.0, 4.0, 0.1),
        }

    def _make_picture(self) -> Picture:
        picture = Picture(xlabel="time", panels=self.panels)
        picture.data.set(xlim=(0, self.num_obs + 1), ylim=(-6, 6), ylabel="mean of the replicates")
        picture.probability.set(ylabel="p(state 1)", ylim=(STRIP[0] - 0.02, 1.02))
        picture.upper.set(xlim=(-4, 4))
        picture.lower.set(xlim=(0, 1))
        line = {"color": ROLES["prior"], "linewidth": 0.7, "alpha": 0.7}
        self._path = picture.line(picture.data, **line)
        self._dots = picture.dots(picture.data, self.num_obs, s=22)
        self._ring = picture.line(
            picture.data, color=INK, marker="o", markersize=9, fillstyle="none", linestyle="none"
        )
        edges = np.append(TIME, self.num_obs + 1) - 0.5
        self._strip = picture.moving(
            picture.probability.pcolormesh(
                edges,
                STRIP,
                np.zeros((1, self.num_obs)),
                cmap=ListedColormap(COLORS),
                vmin=0,
                vmax=1,
            )
        )
        self._band = Band(picture, picture.probability, COLORS[1])
        dashed = {"color": INK, "linestyle": (0, (3, 1.5)), "linewidth": 0.9}
        self._filtering = picture.line(picture.probability, **dashed)
        self._make_panels(picture)
        handles = {f"state {k}": Patch(color=color) for k, color in enumerate(COLORS)}
        handles["smoothing"] = Line2D([], [], color=COLORS[1])
        handles["filtering"] = Line2D([], [], **dashed)
        handles["truth"] = Line2D([], [], color=ROLES["prior"], linestyle="--")
        picture.legend(handles)
        return picture

    def _show(self) -> str:
        x, smoothing = self.data["y"][0].mean(axis=1), self.posterior.mean_smoothing()[0]
        self._path.set_data(TIME, x)
        self._dots.set_offsets(np.column_stack([TIME, x]))
        self._dots.set_facecolors(state_colors(smoothing))
        time = self.controls["time"].value
        self._ring.set_data([time], [x[time - 1]])
        self._strip.set_array(self.data["z"])
        self._band.move(TIME, self.posterior.smoothing[0, ..., 1])
        self._filtering.set_data(TIME, np.median(self.posterior.filtering[0, ..., 1], axis=0))
        self._show_panels()
        filtering = self.posterior.mean_filtering()[0, time - 1, 1]
        return (
            f"{self._estimates()} Time point {time}: p(state 1) is {filtering:.3f} by filtering "
            f"and {smoothing[time - 1, 1]:.3f} by smoothing."
        )


def state_colors(probabilities: np.ndarray) -> np.ndarray:
    """The colour of the more probable state, fainter in doubt, (T, 4), of probabilities (T, 2)."""
    colors = to_rgba_array(COLORS)[probabilities.argmax(axis=1)]
    certainty = 2 * probabilities.max(axis=1) - 1
    colors[:, 3] = np.minimum(0.2 + 0.8 * certainty, 1.0)  # weighted means round to above one
    return colors

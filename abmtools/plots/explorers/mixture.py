"""Explorer of a Gaussian mixture: move a component and watch the membership."""

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ...models import GaussianMixture
from ..style import INK, ROLES
from .noise import mixture_indicators
from .picture import Band, Picture, move_line
from .simulated import SimulatedExplorer

__all__ = ["GaussianMixtureExplorer"]

EDGES = np.linspace(-6, 6, 61)  # of the histogram


class GaussianMixtureExplorer(SimulatedExplorer):
    """Move the components of a simulated mixture and see what a network says about the data.

    The data are 150 to 250 observations with three replicates from three normal components, and
    the last observation is yours: it lies where its slider says. Sliders are

    ============  ===================================================================
    separation    s; the means are -s, a share of s, and s
    middle        that share
    weight        of the middle component; the other two share the rest
    num_obs       number of observations
    position      all replicates of your observation
    ============  ===================================================================

    On the left are the means of the replicates, coloured by expected membership, and the
    membership probability of each component at every one of them, median and 90 % of the draws. On
    the right are the posteriors of the means and of the weights, with lines at their true values.

    Parameters
    ----------
    workflow : MixtureWorkflow
        For a `GaussianMixture` of three components, as ``load_pretrained("gaussian_mixture")``.
    num_samples : int
        Draws for each picture.
    seed : int
        Of the data's noise and of the draws, so that both change smoothly.

    Attributes
    ----------
    controls : dict of str to Widget
        The sliders.
    data : dict of str to array
        ``"y"``, (1, N, 3), the true indicators ``"z"``, (1, N), and parameters.
    posterior : MixturePosterior
        The network's answer to them.

    Raises
    ------
    ImportError
        If ipywidgets is not installed.
    TypeError, ValueError
        If the workflow is one for another model, or another number of components.

    Examples
    --------
    >>> import abmtools as abm
    >>> explorer = GaussianMixtureExplorer(abm.load_pretrained("gaussian_mixture"))
    >>> explorer.controls["separation"].value = 3.0
    >>> explorer.data["means"]
    array([[-3.,  0.,  3.]])
    >>> explorer.posterior.mean()["means"].shape
    (1, 3)
    """

    model_type = GaussianMixture
    num_components, num_obs = 3, 250
    panels = ("means", "weights")

    def simulate(self, separation, middle, weight, num_obs, position) -> dict[str, np.ndarray]:
        """The data at these values of the sliders; see the attribute `data`."""
        means = separation * np.array([-1.0, middle, 1.0])
        weights = np.array([(1 - weight) / 2, weight, (1 - weight) / 2])
        z = mixture_indicators(self._noise, weights)[:num_obs]
        y = self._replicates(means, z)
        y[-1] = position
        return {"y": y[None], "z": z[None], "means": means[None], "weights": weights[None]}

    def _make_controls(self) -> dict:
        return {
            "separation": self._slider("Separation", 2.0, 0.5, 4.0, 0.1),
            "middle": self._slider("Position of the middle component", 0.0, -0.8, 0.8, 0.05),
            "weight": self._slider("Weight of the middle component", 0.4, 0.05, 0.9, 0.05),
            "num_obs": self._slider("Observations", 200, 150, self.num_obs, 10),
            "position": self._slider("Your observation", 1.0, -5.0, 5.0, 0.1),
        }

    def _make_picture(self) -> Picture:
        picture = Picture(xlabel="mean of the replicates", panels=self.panels)
        picture.data.set(xlim=(EDGES[0], EDGES[-1]), ylim=(0, 40), ylabel="observations")
        picture.probability.set(ylabel="membership probability")
        picture.upper.set(xlim=(-5, 5))
        picture.lower.set(xlim=(0, 1))
        empty = np.zeros(len(EDGES) - 1)
        self._bars = [
            picture.moving(picture.data.stairs(empty, EDGES, fill=True, color=color, alpha=0.75))
            for color in self._colors
        ]
        self._bands = [Band(picture, picture.probability, color) for color in self._colors]
        self._yours = [picture.vertical(ax, linestyle=":") for ax in picture.figure.axes[:2]]
        self._rings = picture.dots(
            picture.probability, 3, s=40, linewidths=1.2, edgecolors=INK,
            facecolors=[to_rgba(color) for color in self._colors], zorder=3,
        )  # fmt: skip
        self._make_panels(picture)
        handles = {f"component {k}": Patch(color=color) for k, color in enumerate(self._colors)}
        handles["your observation"] = Line2D([], [], color=INK, linestyle=":")
        handles["truth"] = Line2D([], [], color=ROLES["prior"], linestyle="--")
        picture.legend(handles)
        return picture

    def _show(self) -> str:
        x, membership = self.data["y"][0].mean(axis=1), self.posterior.membership[0]
        mean = self.posterior.mean_membership()[0]
        self._show_data(x, mean)
        order = np.argsort(x)
        for k, band in enumerate(self._bands):
            band.move(x[order], membership[:, order, k])
        for line in self._yours:
            move_line(line, x[-1])
        self._rings.set_offsets(np.column_stack([np.full(3, x[-1]), mean[-1]]))
        self._show_panels()
        shares = ", ".join(f"{p:.3f}" for p in mean[-1])
        return f"{self._estimates()} Your observation: membership probabilities {shares}."

    def _show_data(self, x: np.ndarray, mean: np.ndarray) -> None:
        """A histogram of x, (N,), each bar split by mean membership, (N, 3)."""
        base = np.zeros(len(EDGES) - 1)
        for bar, share in zip(self._bars, mean.T, strict=True):
            top = base + np.histogram(x, EDGES, weights=share)[0]
            bar.set_data(top, EDGES, base)
            base = top

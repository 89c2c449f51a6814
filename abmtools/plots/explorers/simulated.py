"""Explorers of simulated data, which know the truth."""

from abc import abstractmethod

import numpy as np

from ..style import COMPONENTS
from .explorer import Explorer, check_workflow
from .noise import Noise
from .picture import Density, Picture, densities, move_line

__all__ = ["SimulatedExplorer"]


class SimulatedExplorer(Explorer):
    """Base of the explorers that move simulated data.

    A subclass has `simulate` and what an `Explorer` needs, but no ``_answer``: the network is
    always asked about all data.

    Parameters
    ----------
    workflow, num_samples, seed
        As for `Explorer`; the seed is also that of the data's noise.

    Attributes
    ----------
    data : dict of str to array
        ``"y"``, the true indicators ``"z"``, and parameters, with a leading axis of one.

    Raises
    ------
    ImportError, TypeError
        As `Explorer`.
    ValueError
        If the model has another number of components.
    """

    num_components: int
    num_obs: int
    num_reps = 3
    panels: tuple[str, str]  # the parameters on the right

    def __init__(self, workflow, *, num_samples: int = 500, seed: int = 1):
        model = check_workflow(workflow, self.model_type)
        if model.num_components != self.num_components:
            raise ValueError(
                f"workflow: expected one for {self.num_components} components, "
                f"got {model.num_components}."
            )
        self._noise = Noise.draw(seed, self.num_obs, self.num_reps)
        super().__init__(workflow, num_samples=num_samples, seed=seed)

    @abstractmethod
    def simulate(self, **settings) -> dict[str, np.ndarray]:
        """The data at these values of the sliders; see the attribute `data`."""

    def _answer(self, **settings) -> None:
        self.data = self.simulate(**settings)
        self.posterior = self.workflow.sample(
            conditions={"y": self.data["y"]}, num_samples=self.num_samples, seed=self.seed
        )

    def _replicates(self, means: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Normal data of these components, (N, R)."""
        return means[z][:, None] + self.workflow.model.scale * self._noise.errors[: len(z)]

    @property
    def _colors(self) -> tuple:
        return COMPONENTS[: self.num_components]

    def _make_panels(self, picture: Picture) -> None:
        """Posteriors of `panels` by component, and lines for the truth."""
        axes = (picture.upper, picture.lower)
        self._densities = [Density(picture, ax, self._colors) for ax in axes]
        self._truths = [
            [picture.vertical(ax, color=color, linestyle="--") for color in self._colors]
            for ax in axes
        ]

    def _show_panels(self) -> None:
        for density, lines, name in zip(self._densities, self._truths, self.panels, strict=True):
            density.move(densities(self.posterior.parameters[name][0]))
            for line, value in zip(lines, self.data[name][0], strict=True):
                move_line(line, value)

    def _estimates(self) -> str:
        """Posterior means beside the truth."""
        found = self.posterior.mean()
        parts = []
        for name in self.panels:
            pairs = zip(found[name][0], self.data[name][0], strict=True)
            values = ", ".join(f"{estimate:.2f} ({truth:.2f})" for estimate, truth in pairs)
            parts.append(f"{name} {values}")
        return f"Posterior means (and the truth): {'; '.join(parts)}."

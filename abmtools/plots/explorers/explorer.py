"""Explorers: sliders, and a picture that a network redraws while they move.

An `Explorer` holds sliders (ipywidgets), what they stand for, and the network's answer. Whenever a
slider moves, the data follow, the network answers with draws of the posterior, and the picture
shows them. The numbers behind it are attributes, for whoever wants to go on from there.

Its display has two forms in one bundle, the live one and a still picture. A notebook with a kernel
shows the first, and everything that knows no widgets, such as a page, the second.
"""

import base64
import time
from abc import ABC, abstractmethod
from html import escape

from .picture import Picture

__all__ = ["Explorer", "check_workflow"]


class Explorer(ABC):
    """Base of the explorers.

    A subclass makes its sliders in `_make_controls`, its `Picture` in `_make_picture`, sets what
    the network is asked and answers in `_answer`, and shows it in `_show`.

    Parameters
    ----------
    workflow : MixtureWorkflow
        A trained workflow for a model of the type `model_type`.
    num_samples : int
        Draws from the posterior for each picture.
    seed : int
        Of the draws, the same for each picture, so that what moves is the posterior.

    Attributes
    ----------
    controls : dict of str to Widget
        The sliders by name. Setting the ``value`` of one moves it.
    posterior : MixturePosterior
        The network's latest answer.
    seconds : dict of str to float
        What the latest picture took, ``"network"`` and ``"drawing"``.

    Raises
    ------
    ImportError
        If ipywidgets is not installed.
    TypeError
        If the workflow is one for another model.
    """

    model_type: type

    def __init__(self, workflow, *, num_samples: int = 500, seed: int = 1):
        self._widgets = import_widgets()
        check_workflow(workflow, self.model_type)
        self.workflow, self.num_samples, self.seed = workflow, num_samples, seed
        self.controls = self._make_controls()
        self._picture = self._make_picture()
        self._image = self._widgets.Image(format="png")
        self._text = self._widgets.HTML()
        self._box = self._widgets.VBox([*self.controls.values(), self._image, self._text])
        self.update()
        for control in self.controls.values():
            control.observe(self._moved, names="value")

    # --- what a subclass has ----------------------------------------------------------------

    @abstractmethod
    def _make_controls(self) -> dict:
        """The sliders by name."""

    @abstractmethod
    def _make_picture(self) -> Picture:
        """The picture, with nothing moving shown yet."""

    @abstractmethod
    def _answer(self, **settings) -> None:
        """Let data follow the settings, the values of the sliders, and `posterior` the data."""

    @abstractmethod
    def _show(self) -> str:
        """Move the parts of the picture; returns the numbers in it as a line of text."""

    # --- moving ------------------------------------------------------------------------------

    @property
    def settings(self) -> dict:
        """Values of the sliders by name."""
        return {name: control.value for name, control in self.controls.items()}

    def update(self) -> None:
        """Ask the network about the data at the sliders' values, and draw its answer."""
        start = time.perf_counter()
        self._answer(**self.settings)
        answered = time.perf_counter()
        numbers = self._show()
        self._image.value = self._picture.render()
        drawn = time.perf_counter()
        self.seconds = {"network": answered - start, "drawing": drawn - answered}
        spent = ", ".join(f"{name} {1e3 * took:.0f} ms" for name, took in self.seconds.items())
        self._text.value = f"{escape(numbers)} ({spent})"

    def _moved(self, change) -> None:
        self.update()

    # --- display -----------------------------------------------------------------------------

    def picture(self) -> bytes:
        """The picture as it is now, as a PNG."""
        return bytes(self._image.value)

    def text(self) -> str:
        """The line of numbers below the picture, as HTML."""
        return self._text.value

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {
            "text/plain": repr(self),
            "image/png": base64.b64encode(self.picture()).decode(),
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self._box.model_id,
            },
        }

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"{type(self).__name__}({settings})"

    # --- parts -------------------------------------------------------------------------------

    def _slider(self, label: str, value, low, high, step):
        """A slider with a label, of integers where the value is one."""
        kind = self._widgets.IntSlider if isinstance(value, int) else self._widgets.FloatSlider
        return kind(value=value, min=low, max=high, step=step, **self._labelled(label))

    def _labelled(self, label: str) -> dict:
        layout = self._widgets.Layout(width="32em", max_width="100%")
        return {"description": label, "style": {"description_width": "16em"}, "layout": layout}


def check_workflow(workflow, model_type: type):
    """The model of a workflow; TypeError if it is of another type."""
    model = getattr(workflow, "model", None)
    if not isinstance(model, model_type):
        raise TypeError(
            f"workflow: expected one for a {model_type.__name__}, "
            f"got {type(workflow).__name__} for {type(model).__name__}."
        )
    return model


def import_widgets():
    """The module ipywidgets.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        import ipywidgets
    except ImportError as error:
        raise ImportError(
            "explorers need ipywidgets, which is not installed: pip install 'abmtools[book]', "
            "or only pip install ipywidgets."
        ) from error
    return ipywidgets

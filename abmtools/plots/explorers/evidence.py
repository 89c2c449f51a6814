"""Explorer of the evidence accumulation model: other priors for a participant's trials."""

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ...models import EvidenceAccumulationHMM
from ..style import COMPONENTS, INK, ROLES
from .explorer import Explorer, check_workflow
from .hmm import state_colors
from .picture import Band, Density, Picture, densities, highest
from .reweighting import rescaled, reweigh

__all__ = ["EvidenceHMMExplorer"]

GUESSING, CONTROLLED = COMPONENTS[:2]
PRIOR_DRAWS = 1000
TRUSTED = 0.7  # largest k of weights that can be trusted
FALLBACK_LABEL = "data set {}"


class EvidenceHMMExplorer(Explorer):
    """Change the prior of a participant's thresholds and drifts, and see what the trials say.

    Sliders are

    ============  ====================================================================
    participant   whose trials
    thresholds    factor on the scales of the priors of both thresholds
    drifts        factor on the scales of the priors of the drifts
    ============  ====================================================================

    On the left are the response times, correct (dots) and incorrect (crosses), coloured by state,
    and the probability of control by filtering and by smoothing, with 90 % of the draws. On the
    right are the posteriors of the thresholds and of the drifts; the network's own as thin lines,
    the prior dotted. Above the data is Pareto's k of the weights, `reweigh`.

    Parameters
    ----------
    workflow : MixtureWorkflow
        For an `EvidenceAccumulationHMM`, as ``load_pretrained("evidence_hmm")``.
    data : dict of str to array
        Trials of some participants: ``"y"``, (B, T, 2), and ``"mask"``, (B, T), where some have
        fewer.
    labels : sequence of str, optional
        Names of the B participants; by default they are counted.
    start : str, optional
        The participant to begin with; by default the first one.
    num_samples : int
        Draws for each picture.
    seed : int
        Of the draws.

    Attributes
    ----------
    controls : dict of str to Widget
        The sliders.
    data : dict of str to array
        The participant's ``"y"``, (1, T, 2), and ``"mask"``.
    drawn : MixturePosterior
        The network's answer to them, for the prior that it was trained with.
    posterior : MixturePosterior
        The same draws, with weights for the prior of the sliders.
    weights : ImportanceResult
        These weights.

    Raises
    ------
    ImportError
        If ipywidgets is not installed.
    TypeError, ValueError
        If the workflow is one for another model, the data do not suit it, there are more or fewer
        labels than participants, or none of them is the start.

    Examples
    --------
    >>> import numpy as np
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("evidence_hmm")
    >>> data = workflow.model.simulate(2, rng=np.random.default_rng(1), num_obs=200)
    >>> explorer = EvidenceHMMExplorer(workflow, {"y": data["y"]}, labels=["A", "B"])
    >>> explorer.controls["thresholds"].value = 0.5
    >>> bool(explorer.weights.pareto_k[0] < 0.7)
    True
    """

    model_type = EvidenceAccumulationHMM

    def __init__(
        self, workflow, data, *, labels=None, start=None, num_samples: int = 500, seed: int = 1
    ):
        self._all = check_workflow(workflow, self.model_type).check_data(data)
        self._labels = _check_labels(labels, len(self._all["y"]))
        self._start = _check_start(start, self._labels)
        self._shown = None
        super().__init__(workflow, num_samples=num_samples, seed=seed)

    def _make_controls(self) -> dict:
        choice = self._widgets.Dropdown(
            options=self._labels, value=self._start, **self._labelled("Participant")
        )
        factors = {"base": 2, "min": -1, "max": 2, "step": 0.25, "readout_format": ".2f"}
        return {
            "participant": choice,
            **{
                name: self._widgets.FloatLogSlider(value=1.0, **factors, **self._labelled(label))
                for name, label in {
                    "thresholds": "Scale of the thresholds' prior",
                    "drifts": "Scale of the drifts' prior",
                }.items()
            },
        }

    def _make_picture(self) -> Picture:
        picture = Picture(xlabel="trial", panels=("thresholds", "drifts (1/s)"))
        num_obs = self._all["y"].shape[1]
        times = self._all["y"][self._all.get("mask", np.True_)][..., 0]
        picture.data.set(xlim=(0, num_obs + 1), ylim=(0, 1.08 * np.quantile(times, 0.999)))
        picture.data.set(ylabel="response time (s)")
        picture.probability.set(ylabel="p(in control)")
        picture.upper.set(xlim=(0, 3.5))
        picture.lower.set(xlim=(0, 10))
        self._correct = picture.dots(picture.data, num_obs, s=16)
        self._wrong = picture.dots(picture.data, num_obs, s=16, marker="x", linewidths=1.1)
        self._note = picture.moving(
            picture.data.text(0.0, 1.03, "", transform=picture.data.transAxes)
        )
        self._band = Band(picture, picture.probability, CONTROLLED)
        dashed = {"color": INK, "linestyle": (0, (3, 1.5)), "linewidth": 0.7}
        self._filtering = picture.line(picture.probability, **dashed)
        colors = (GUESSING, CONTROLLED), (GUESSING, CONTROLLED, CONTROLLED)
        styles = {
            "prior": {"filled": False, "linestyle": ":", "linewidth": 1.0},
            "as drawn": {"filled": False, "linewidth": 0.7},
            "posterior": {"filled": True},
        }
        self._densities = [
            {name: Density(picture, ax, some, **style) for name, style in styles.items()}
            for ax, some in zip((picture.upper, picture.lower), colors, strict=True)
        ]
        grey = ROLES["prior"]
        picture.legend(
            {
                "guessing": Patch(color=GUESSING),
                "in control": Patch(color=CONTROLLED),
                "filtering": Line2D([], [], **dashed),
                "prior": Line2D([], [], color=grey, linestyle=":"),
                "as drawn": Line2D([], [], color=grey, linewidth=0.7),
            }
        )
        return picture

    def _answer(self, participant, thresholds, drifts) -> None:
        if participant != self._shown:
            row = self._labels.index(participant)
            self.data = {name: value[row : row + 1] for name, value in self._all.items()}
            self.drawn = self.workflow.sample(
                conditions=self.data, num_samples=self.num_samples, seed=self.seed
            )
            self._shown = participant
            drawn = {name: x[0] for name, x in self.drawn.parameters.items()}
            self._as_drawn = [densities(x) for x in _panels(drawn)]
        self._model = rescaled(self.workflow.model, thresholds=thresholds, drifts=drifts)
        self.weights = reweigh(self.drawn, self._model)
        self.posterior = self.weights.correct(self.drawn)

    def _show(self) -> str:
        equal = self.posterior.with_equal_weights(seed=self.seed)
        smoothing = self.posterior.mean_smoothing()[0]
        trial = np.arange(1, len(smoothing) + 1)
        self._show_trials(trial, smoothing)
        self._band.move(trial, equal.smoothing[0, ..., 1])
        self._filtering.set_data(trial, np.median(equal.filtering[0, ..., 1], axis=0))
        self._show_panels(equal)
        return self._numbers(smoothing)

    def _show_panels(self, equal) -> None:
        """Densities of draws that all weigh the same, of those before, and of the prior."""
        prior = self._model.prior(np.random.default_rng(self.seed), PRIOR_DRAWS)
        now = _panels({name: x[0] for name, x in equal.parameters.items()})
        panels = zip(self._densities, now, self._as_drawn, _panels(prior), strict=True)
        for shown, draws, as_drawn, before in panels:
            curves = densities(draws)
            shown["posterior"].move(curves)
            shown["as drawn"].move(as_drawn, highest(curves))
            shown["prior"].move(densities(before), highest(curves))

    def _show_trials(self, trial: np.ndarray, smoothing: np.ndarray) -> None:
        """The trials that were, at their times, coloured by smoothing, (T, 2)."""
        y, colors = self.data["y"][0], state_colors(smoothing)
        there = self.data.get("mask", np.ones((1, len(y)), dtype=bool))[0]
        for dots, which in {self._correct: y[:, 1] > 0, self._wrong: y[:, 1] == 0}.items():
            chosen = there & which
            dots.set_offsets(np.column_stack([trial, y[:, 0]])[chosen])
            dots.set_color(colors[chosen])
        self._note.set_text(self._verdict())

    def _verdict(self) -> str:
        """What Pareto's k says about the weights."""
        k, ess = self.weights.pareto_k[0], self.weights.ess[0]
        if np.isneginf(k):
            return "The prior is that of the training: equal weights, no Pareto k"
        verdict = "can be trusted" if k < TRUSTED else "cannot be trusted"
        return f"Pareto k {k:.2f}, the weights {verdict}; {ess:.0f} effective draws"

    def _numbers(self, smoothing: np.ndarray) -> str:
        mean = self.posterior.mean()
        there = self.data.get("mask", np.ones((1, len(smoothing)), dtype=bool))[0]
        thresholds = ", ".join(f"{x:.2f}" for x in mean["threshold"][0])
        drifts = [mean["guessing_drift"][0], *mean["controlled_drift"][0]]
        return (
            f"{self._verdict()}. Posterior means: thresholds {thresholds}; "
            f"drifts {', '.join(f'{x:.2f}' for x in drifts)}. "
            f"In control on {smoothing[there, 1].mean():.0%} of the trials."
        )


def _panels(parameters) -> tuple[np.ndarray, np.ndarray]:
    """Draws of the thresholds, (S, 2), and of the drifts, (S, 3)."""
    guessing = parameters["guessing_drift"][:, None]
    drifts = np.concatenate([guessing, parameters["controlled_drift"]], axis=1)
    return parameters["threshold"], drifts


def _check_labels(labels, num_datasets: int) -> list[str]:
    if labels is None:
        return [FALLBACK_LABEL.format(b) for b in range(num_datasets)]
    labels = [str(label) for label in labels]
    if len(set(labels)) != num_datasets or len(labels) != num_datasets:
        raise ValueError(
            f"labels: expected {num_datasets} different ones, one for each data set, got {labels}."
        )
    return labels


def _check_start(start, labels: list[str]) -> str:
    if start is not None and start not in labels:
        raise ValueError(f"start: expected one of {labels}, got {start!r}.")
    return labels[0] if start is None else start

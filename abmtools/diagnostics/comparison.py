r"""Comparison of two posteriors of one data set, as a rule amortized draws with those of NUTS.

Three numbers, each with a scale on which it can be read:

* C2ST, the accuracy of a classifier trained to tell draws of one from draws of the other: 0.5 if
  they cannot be told apart, 1 if they do not overlap;
* for each parameter the difference of means and of quantiles, in posterior standard deviations;
* the largest difference of mean membership probabilities, over observations and components.

The C2ST is a maximum of accuracy and one minus accuracy, so that chance alone lifts it. For M draws
of the same distribution on each side accuracy has the standard deviation
:math:`1 / (2 \sqrt{2M})`, and the expected C2ST is

.. math:: \frac{1}{2} + \sqrt{\frac{2}{\pi}} \frac{1}{2 \sqrt{2M}} = 0.506
          \quad \text{at } M = 2000 .

References
----------
Lopez-Paz, D., & Oquab, M. (2017). Revisiting classifier two-sample tests. International Conference
on Learning Representations. arXiv:1610.06545
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from arviz_stats.base import array_stats
from bayesflow.diagnostics.metrics import classifier_two_sample_test

from ..seeds import fold_seed
from .draws import Draws, require_same_data, scalar_columns

__all__ = ["Comparison", "compare"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

# Four times BayesFlow's batch, and a learning rate to match: as powerful on shifted and on rescaled
# normals, and three to four times as fast, because a step costs the same at either size.
TRAINING = {"batch_size": 512, "initial_learning_rate": 5e-3}


@dataclass(frozen=True)
class Comparison:
    """How far a posterior is from a reference.

    Attributes
    ----------
    differences : DataFrame
        One row for each scalar parameter, such as ``weights[0]``; columns ``mean`` and the
        quantiles ``q05`` to ``q95``: posterior minus reference, in standard deviations of the
        reference. NaN for a parameter that does not vary in the reference.
    c2st : float
        Accuracy of the classifier on the unconstrained scale; NaN if it was not asked for.
    membership : float
        Largest absolute difference of mean membership; NaN where one side has none.
    num_draws : int
        Draws of each side that the classifier saw.
    reference_ess : float
        Smallest effective sample size of a parameter in the reference. A reference of a few
        hundred effective draws is itself wrong by tenths of a standard deviation in the tails, and
        the classifier sees it. Of a reference with importance weights it is that of the draws
        resampled by them, among which some are repeated; how many draws the weights leave in
        effect, `ImportanceResult.ess` says.
    """

    differences: pd.DataFrame
    c2st: float
    membership: float
    num_draws: int
    reference_ess: float

    @property
    def largest(self) -> float:
        """Largest absolute entry of `differences`."""
        return float(np.nanmax(np.abs(self.differences.to_numpy())))

    def _lines(self) -> list[str]:
        lines = [] if np.isnan(self.c2st) else [
            f"C2ST {self.c2st:.3f}, with {self.num_draws} draws of each"
        ]  # fmt: skip
        if not np.isnan(self.membership):
            lines.append(f"largest difference of mean membership {self.membership:.4f}")
        lines.append(f"smallest effective sample size of the reference {self.reference_ess:.0f}")
        return [*lines, "differences, in standard deviations of the reference:"]

    def __str__(self) -> str:
        return "\n".join([*self._lines(), self.differences.round(3).to_string()])

    def _repr_html_(self) -> str:
        lines = "".join(f"<div>{line}</div>" for line in self._lines())
        return f"<div>{lines}{self.differences.round(3).to_html(border=0)}</div>"


def compare(
    posterior, reference, *, model=None, c2st: bool = True, num_draws: int = 2000, seed: int = 1
) -> Comparison:
    """Compare two posteriors of one data set.

    Parameters
    ----------
    posterior, reference : MixturePosterior or DataTree
        Of the same data set, for example ``workflow.sample(...)`` and ``stan.sample(...)``.
    model : MixtureModel, optional
        Needed where neither of the two is a `MixturePosterior`.
    c2st : bool
        Whether to train the classifier, which takes seconds; all else takes milliseconds.
    num_draws : int
        Draws of each side that the classifier sees at most. Both sides get the same number, at
        most as many as the smaller has, evenly spaced: that also thins what NUTS has drawn.
    seed : int
        Of the classifier.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError, ValueError
        If one of the two is something else or holds several data sets, no model is known, they
        have different parameters, come with different data or membership of different shapes,
        num_draws < 1, or the classifier's seed is no non-negative integer.

    Examples
    --------
    >>> import abmtools as abm
    >>> model = abm.GaussianMixture()
    >>> y = model.simulate(1, rng=np.random.default_rng(1), num_obs=200, num_reps=3)["y"]
    >>> first, second = (
    ...     abm.stan.sample(model, {"y": y}, engine="stanli", seed=seed) for seed in (1, 2)
    ... )
    >>> result = compare(first, second, model=model)
    >>> result.c2st < 0.55
    True
    """
    posterior = Draws.of(posterior, "posterior")
    reference = Draws.of(reference, "reference")
    model = model or posterior.model or reference.model
    if model is None:
        raise ValueError(
            "model: expected a MixtureModel, because neither posterior comes with one."
        )
    for argument, draws in {"posterior": posterior, "reference": reference}.items():
        missing = [name for name in model.parameter_names if name not in draws.parameters]
        if missing:
            raise ValueError(
                f"{argument}: expected the parameters {model.parameter_names}, "
                f"but {missing} is missing from {list(draws.parameters)}."
            )
    if not (isinstance(num_draws, int | np.integer) and num_draws >= 1):
        raise ValueError(f"num_draws: expected a positive integer, got {num_draws!r}.")
    _require_same_labels(model, posterior, reference)
    require_same_data(posterior, reference)
    num_draws = min(num_draws, posterior.num_samples, reference.num_samples)
    return Comparison(
        differences=_differences(model, posterior, reference),
        c2st=_c2st(model, posterior, reference, num_draws, seed) if c2st else float("nan"),
        membership=_membership(posterior, reference),
        num_draws=num_draws,
        reference_ess=_smallest_ess(model, reference),
    )


def _require_same_labels(model, posterior: Draws, reference: Draws) -> None:
    """Refuse vectors of different lengths."""
    ours, theirs = (list(_columns(model, draws)) for draws in (posterior, reference))
    if ours != theirs:
        raise ValueError(f"reference: expected {ours} as in the posterior, got {theirs}.")


def _columns(model, draws: Draws) -> dict[str, np.ndarray]:
    """Columns of the model's parameters; Stan may have generated other quantities."""
    return scalar_columns({name: draws.parameters[name] for name in model.parameter_names})


def _differences(model, posterior: Draws, reference: Draws) -> pd.DataFrame:
    columns, rows = _columns(model, posterior), {}
    for label, theirs in _columns(model, reference).items():
        ours = columns[label]
        difference = [ours.mean() - theirs.mean()]
        difference += list(np.quantile(ours, QUANTILES) - np.quantile(theirs, QUANTILES))
        scale = theirs.std(ddof=1) if np.ptp(theirs) > 0 else np.nan
        rows[label] = np.array(difference) / scale
    columns = ["mean", *(f"q{round(100 * q):02d}" for q in QUANTILES)]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _c2st(model, posterior: Draws, reference: Draws, num_draws: int, seed: int) -> float:
    u, v = (_thin(draws.on_real_line(model), num_draws) for draws in (posterior, reference))
    return float(classifier_two_sample_test(u, v, seed=fold_seed(seed), **TRAINING))


def _smallest_ess(model, reference: Draws) -> float:
    chains = [
        column.reshape(reference.num_chains, -1)
        for column in _columns(model, reference).values()
        if np.ptp(column) > 0
    ]
    return float(min((array_stats.ess(chain) for chain in chains), default=np.nan))


def _thin(draws: np.ndarray, size: int) -> np.ndarray:
    """Evenly spaced rows, `size` of them."""
    return draws[np.arange(size) * len(draws) // size]


def _membership(posterior: Draws, reference: Draws) -> float:
    if posterior.membership is None or reference.membership is None:
        return float("nan")
    shapes = posterior.membership.shape[1:], reference.membership.shape[1:]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"reference: expected membership of {shapes[0][0]} observations and {shapes[0][1]} "
            f"components as in the posterior, got {shapes[1]}."
        )
    difference = posterior.membership.mean(axis=0) - reference.membership.mean(axis=0)
    return float(np.abs(difference).max())

r"""Simulation-based calibration: whether posteriors are as wide as they say.

If :math:`\theta^* \sim p(\theta)`, :math:`y \sim p(y \mid \theta^*)` and
:math:`\theta_1, \ldots, \theta_S \sim p(\theta \mid y)`, then :math:`\theta^*` is one more draw of
the same posterior, so that for any quantity f the rank

.. math:: r = \#\{ s : f(\theta_s, y) < f(\theta^*, y) \} \in \{0, \ldots, S\}

is uniform. Over many data sets its empirical distribution must stay inside a band. With
:math:`\gamma` the smallest two-sided binomial tail probability along the empirical distribution,

.. math:: \log \frac{\gamma}{\gamma_{0.05}} ,

where :math:`\gamma_{0.05}` is the 5 % quantile of :math:`\gamma` under uniform ranks, is positive
exactly where the curve lies inside the 95 % simultaneous band. BayesFlow computes it.

References
----------
Säilynoja, T., Bürkner, P.-C., & Vehtari, A. (2022). Graphical test for discrete uniformity and its
applications in goodness-of-fit evaluation and multiple sample comparison. Statistics and Computing,
32, 32. doi:10.1007/s11222-022-10090-6

Modrák, M., Moon, A. H., Kim, S., Bürkner, P.-C., Huurre, N., Faltejsková, K., Gelman, A., &
Vehtari, A. (2025). Simulation-based calibration checking for Bayesian computation: The choice of
test quantities shapes sensitivity. Bayesian Analysis, 20(2), 461-488, equation 7.
doi:10.1214/23-BA1404
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from bayesflow.diagnostics.metrics import calibration_log_gamma

from ..jobs import run_jobs
from .draws import require_workflow, scalar_columns
from .simulated import parts, truth

__all__ = ["SimulationBasedCalibration", "simulation_based_calibration"]

LOG_LIKELIHOOD = "log_likelihood"


@dataclass(frozen=True)
class SimulationBasedCalibration:
    """Draws and truth of many simulated data sets, in the layout of BayesFlow's diagnostics.

    Attributes
    ----------
    estimates : dict of str to array
        Posterior draws, ``{name: (B, S, k)}``; k is one for a scalar.
    targets : dict of str to array
        True values, ``{name: (B, k)}``.
    names : list of str
        A label for each scalar, such as ``weights[0]``, in the order of these.

    Notes
    -----
    Whatever takes estimates and targets, such as ``bayesflow.diagnostics.recovery``, takes these.
    """

    estimates: dict[str, np.ndarray]
    targets: dict[str, np.ndarray]
    names: list[str]

    @property
    def ranks(self) -> dict[str, np.ndarray]:
        """How many draws are smaller than the truth, ``{name: (B, k)}``, each from 0 to S."""
        return {
            name: np.sum(draws < self.targets[name][:, None], axis=1)
            for name, draws in self.estimates.items()
        }

    @cached_property
    def log_gamma(self) -> pd.Series:
        """The statistic for each scalar: positive inside the 95 % band, negative outside.

        ``-inf`` where the ranks are so far outside that their probability rounds to zero.
        """
        with _seeded(0), np.errstate(divide="ignore"):
            result = calibration_log_gamma(self.estimates, self.targets, variable_names=self.names)
        return pd.Series(result["values"], index=self.names, name="log_gamma")

    @property
    def inside(self) -> pd.Series:
        """Whether each scalar's ranks stay inside the 95 % simultaneous band.

        The band holds for one scalar at a time: with exact posteriors each leaves it with
        probability 0.05.
        """
        return (self.log_gamma >= 0).rename("inside")

    def __str__(self) -> str:
        num_datasets, num_samples = next(iter(self.estimates.values())).shape[:2]
        table = pd.DataFrame({"log_gamma": self.log_gamma.round(2), "inside": self.inside})
        return (
            f"simulation-based calibration, {num_datasets} data sets x {num_samples} draws\n"
            f"{table.to_string()}"
        )


def simulation_based_calibration(
    workflow,
    simulated,
    *,
    num_samples: int = 1000,
    log_likelihood: bool = False,
    seed: int | None = None,
    executor=None,
    retries: int = 2,
    progress: bool = False,
) -> SimulationBasedCalibration:
    """Draw from the posterior of many data sets whose parameters are known.

    Parameters
    ----------
    workflow : MixtureWorkflow
    simulated : dict or list of dict
        What `MixtureModel.simulate` returns. Batches of a list may differ in numbers of
        observations and replicates.
    num_samples : int
        Draws S of each posterior.
    log_likelihood : bool
        Also rank log p(y | theta), where the model has it. Unlike the parameters' ranks it notices
        a posterior that ignores part of the data.
    seed : int, optional
        Makes the draws repeatable.
    executor : concurrent.futures.Executor or distributed.Client, optional
        What draws, for up to 100 data sets at a time; see `abmtools.jobs`.
    retries : int
        How many times data sets that fail are tried again.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    SimulationBasedCalibration

    Raises
    ------
    JobsError
        If some data sets failed for good.
    TypeError, ValueError
        If the simulated data lack the truth or the batch axis or are not as
        `MixtureModel.check_simulated` takes them, or log_likelihood is asked of a model without
        one.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("gaussian_mixture")
    >>> simulated = workflow.simulate(20, num_obs=200, num_reps=3)
    >>> result = simulation_based_calibration(workflow, simulated, num_samples=100, seed=1)
    >>> list(result.inside.index[:3]), result.ranks["means"].shape
    (['weights[0]', 'weights[1]', 'weights[2]'], (20, 3))
    """
    require_workflow(workflow)
    rng = np.random.default_rng(seed)
    batches = parts(workflow.model, simulated, num_samples)
    items = [(batch, int(rng.integers(2**31))) for batch in batches]
    draw = functools.partial(_draw, workflow, num_samples, log_likelihood=log_likelihood)
    jobs = {"executor": executor, "retries": retries, "progress": progress}
    estimates, targets = zip(*run_jobs(draw, items, **jobs, what="calibration"), strict=True)
    first = {name: x[0] for name, x in truth(workflow.model, items[0][0]).items()}
    if log_likelihood:
        first[LOG_LIKELIHOOD] = np.zeros(1)
    return SimulationBasedCalibration(
        estimates={name: np.concatenate([x[name] for x in estimates]) for name in estimates[0]},
        targets={name: np.concatenate([x[name] for x in targets]) for name in targets[0]},
        names=list(scalar_columns(first)),
    )


def _draw(workflow, num_samples: int, item: tuple[dict, int], *, log_likelihood: bool) -> tuple:
    """Draws {name: (B, S, k)} and truth {name: (B, k)} of some data sets."""
    (batch, seed), model = item, workflow.model
    data, theta = model.check_data(batch), truth(model, batch)
    draws = workflow.sample(conditions=data, num_samples=num_samples, seed=seed)
    drawn = dict(draws.parameters)
    if log_likelihood:
        drawn[LOG_LIKELIHOOD] = model.log_likelihood(data, drawn)
        theta[LOG_LIKELIHOOD] = model.log_likelihood(data, theta)
    drawn = {name: x.reshape(*x.shape[:2], -1) for name, x in drawn.items()}
    return drawn, {name: x.reshape(len(x), -1) for name, x in theta.items()}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator, from which BayesFlow simulates the band, and put it back."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002

r"""Refinement: amortized draws where they are good enough, NUTS from there where they are not.

A network answers at once and, for nearly all data sets, nearly exactly. Importance weights say for
which: where Pareto k is below 0.7 and enough effective draws remain, the draws, resampled by these
weights, are draws of the exact posterior. Elsewhere they are good places to start from, and NUTS
draws instead:

===========  =====================================================================================
amortized    :math:`\hat k < 0.7` and enough effective draws: Pareto-smoothed importance resampling
nuts         else: one NUTS run by Stan, each chain from another amortized draw
===========  =====================================================================================

On either route membership, filtering and scores are the model's exact ones at the draws of theta,
so that nothing but Monte Carlo error is left in the result.

References
----------
Vehtari, A., Simpson, D., Gelman, A., Yao, Y., & Gabry, J. (2024). Pareto smoothed importance
sampling. Journal of Machine Learning Research, 25(72), 1-58.
"""

import functools
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from xarray import DataTree

from . import stan
from .diagnostics import importance
from .diagnostics.draws import require_posterior
from .inference import MixturePosterior
from .jobs import run_jobs, runs_here
from .structures.categorical import draw_systematic

__all__ = ["Refinement", "refine"]

MIN_DRAWS = 1000  # of each chain: fewer are too few to say whether chains agree


@dataclass(frozen=True)
class Refinement:
    """Trustworthy draws for every data set of a batch, and where they come from.

    Attributes
    ----------
    posterior : MixturePosterior
        Draws of equal weight, as many as there were.
    route : list of str
        "amortized" or "nuts", for each data set.
    pareto_k, ess : arrays, shape (B,)
        Of the importance weights of the amortized draws; see `diagnostics.ImportanceResult`.
    runs : dict of int to DataTree
        What `stan.sample` returned, by the index of the data set.
    """

    posterior: MixturePosterior
    route: list[str]
    pareto_k: np.ndarray
    ess: np.ndarray
    runs: dict[int, DataTree] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        table = pd.DataFrame(
            {"pareto k": self.pareto_k, "effective draws": self.ess.round(), "route": self.route}
        )
        table.index.name = "data set"
        formats = {"pareto k": "{:.2f}".format, "effective draws": "{:.0f}".format}
        return (
            f"{len(self.route)} data sets x {self.posterior.num_samples} draws, "
            f"{len(self.runs)} by NUTS\n{table.to_string(formatters=formats)}"
        )


def refine(
    posterior: MixturePosterior,
    *,
    threshold: float = 0.7,
    min_ess: float = 400,
    seed: int = 1,
    executor=None,
    retries: int = 2,
    progress: bool = False,
    **options,
) -> Refinement:
    """Turn amortized draws into draws of the exact posterior, as cheaply as each data set allows.

    Parameters
    ----------
    posterior : MixturePosterior
        Draws that come from a network, of a model that has a likelihood.
    threshold : float
        Pareto k at which a data set goes to NUTS.
    min_ess : float
        Effective draws below which it does, too.
    seed : int
        Of resampling and of NUTS.
    executor : concurrent.futures.Executor or distributed.Client, optional
        What runs NUTS for one data set after the other; see `abmtools.jobs`. Each takes one core.
    retries : int
        How many times a data set whose run fails is tried again.
    progress : bool
        Whether to show a progress bar of the NUTS runs.
    **options
        As for `stan.sample`: ``engine``, ``chains``, ``warmup``, ``draws``, ``cores``,
        ``adapt_delta``. By default each chain makes 1,000 draws, or as many as are needed.

    Returns
    -------
    Refinement

    Warns
    -----
    StanDiagnosticsWarning
        If a NUTS run should not be trusted.

    Raises
    ------
    JobsError
        If NUTS runs failed for good; ``results`` holds the others by the index of the data set.
    TypeError
        If `posterior` is no `MixturePosterior`.
    ValueError
        If the model has no likelihood, or no Stan program and a data set needs one; if the draws
        come without their network, are fewer than min_ess, or all have density zero for a data
        set; if NUTS is asked for fewer draws than the posterior has.

    Examples
    --------
    >>> import abmtools as abm, numpy as np
    >>> workflow = abm.load_pretrained("gaussian_hmm")
    >>> data = workflow.simulate(3, num_obs=100, num_reps=3)
    >>> posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=2000, seed=1)
    >>> refine(posterior).route
    ['amortized', 'amortized', 'amortized']
    """
    require_posterior(posterior)
    if posterior.num_samples < min_ess:
        raise ValueError(
            f"posterior: expected at least min_ess = {min_ess} draws, got "
            f"{posterior.num_samples}; sample more, or ask for less."
        )
    weights = importance(posterior)
    trusted = (weights.pareto_k < threshold) & (weights.ess >= min_ess)
    corrected = weights.correct(posterior)
    # As `with_equal_weights`, of the parameters alone: the indicators are computed anew.
    chosen = draw_systematic(np.random.default_rng(seed), corrected.weights, posterior.num_samples)
    u = np.take_along_axis(posterior.unconstrained, chosen[..., None], axis=1)
    if executor is not None:
        options = {"cores": 1} | options
    starts = {i: _start(corrected[i], seed, options) for i in map(int, np.flatnonzero(~trusted))}
    nuts = functools.partial(_nuts, posterior.model, seed)
    jobs = {"executor": executor, "retries": retries, "progress": progress, "what": "NUTS"}
    runs = run_jobs(nuts, starts, **jobs)
    for index, run in runs.items():
        if not runs_here(executor):  # what the other processes warned of
            stan.checks.warn(run, posterior.model.parameter_names)
        u[index] = _thinned(corrected[index], run)
    return Refinement(
        posterior=_with_exact_indicators(posterior, u),
        route=["amortized" if good else "nuts" for good in trusted],
        pareto_k=weights.pareto_k,
        ess=weights.ess,
        runs=runs,
    )


def _start(posterior: MixturePosterior, seed: int, options: dict) -> tuple[dict, dict]:
    """Data and options of a NUTS run for one data set, from different draws, likely ones first."""
    options = {"chains": 4} | options
    chains = options["chains"]
    options = {"draws": max(MIN_DRAWS, -(-posterior.num_samples // chains))} | options
    if chains * options["draws"] < posterior.num_samples:
        raise ValueError(
            f"draws: expected at least {posterior.num_samples} from all chains together, as in "
            f"the posterior, got {chains} x {options['draws']}."
        )
    # The largest of log weights plus Gumbel noise: draws by their weights, without replacement.
    noise = np.random.default_rng(seed).gumbel(size=posterior.num_samples)
    chosen = np.argsort(posterior.log_weights[0] + noise)[-chains:]
    inits = {name: x[0, chosen] for name, x in posterior.parameters.items()}
    return dict(posterior.data), options | {"inits": inits}


def _nuts(model, seed: int, start: tuple[dict, dict]) -> DataTree:
    data, options = start
    return stan.sample(model, data, seed=seed, **options)


def _thinned(posterior: MixturePosterior, run: DataTree) -> np.ndarray:
    """As many draws of a run as the posterior has, evenly spaced, unconstrained: (S, D)."""
    parameters = {
        name: run["posterior"][name].values.reshape(1, -1, *shape)
        for name, shape in posterior.model.parameter_shapes.items()
    }
    u = posterior.model.unconstrain(parameters, posterior.data)[0]
    return u[np.arange(posterior.num_samples) * len(u) // posterior.num_samples]


def _with_exact_indicators(posterior: MixturePosterior, u: np.ndarray) -> MixturePosterior:
    """A posterior with these draws, (B, S, D), and the model's exact indicators at them."""
    model, found = posterior.model, {}
    functions = {"membership": model.exact_membership}
    if not model.structure.exchangeable:
        functions |= {"filtering": model.exact_filtering, "scores": model.emission_scores}
    for index in range(len(u)):  # one at a time: all of them may not fit into memory
        data = posterior[index].data
        parameters = model.constrain(u[index : index + 1], data)
        for name, function in functions.items():
            exact = function(data, parameters)
            if index == 0:
                shape = (len(u), *exact.shape[1:])
                found[name] = np.empty(shape, dtype=posterior.membership.dtype)
            found[name][index] = exact[0]
    return MixturePosterior(model=model, data=posterior.data, unconstrained=u, **found)

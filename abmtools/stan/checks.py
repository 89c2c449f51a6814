r"""Checks: what a NUTS run says about itself, as warnings.

======================  ===================================================================
divergence              a trajectory left the energy level set: a region may be missed
maximal tree depth      trajectories were cut short: valid, but slow to explore
:math:`\hat R > 1.01`   chains disagree: they do not sample one distribution yet
ESS < 100 per chain     too few effective draws for the centre (bulk) or the tails
======================  ===================================================================

R-hat and ESS are the rank-normalized versions of Vehtari et al. (2021), computed by ArviZ for
every scalar of the parameters. Membership probabilities are functions of the parameters and are
left out.

References
----------
Vehtari, A., Gelman, A., Simpson, D., Carpenter, B., & Bürkner, P.-C. (2021). Rank-normalization,
folding, and localization: An improved R-hat for assessing convergence of MCMC. Bayesian Analysis,
16(2), 667-718. doi:10.1214/20-BA1221
"""

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from arviz_stats import ess, rhat
from xarray import Dataset, DataTree

__all__ = ["MAX_RHAT", "MIN_ESS_PER_CHAIN", "StanDiagnosticsWarning", "problems", "warn"]

MAX_RHAT = 1.01
MIN_ESS_PER_CHAIN = 100


class StanDiagnosticsWarning(UserWarning):
    """A NUTS run that should not be trusted as it is."""


def warn(tree: DataTree, parameter_names: Sequence[str], *, stacklevel: int = 2) -> None:
    """Issue a `StanDiagnosticsWarning` for each of the `problems` of a run."""
    for problem in problems(tree, parameter_names):
        warnings.warn(problem, StanDiagnosticsWarning, stacklevel=stacklevel + 1)


def problems(tree: DataTree, parameter_names: Sequence[str]) -> list[str]:
    """Describe what is wrong with a run.

    Parameters
    ----------
    tree : DataTree
        With groups ``posterior`` and ``sample_stats``.
    parameter_names : sequence of str
        Variables of the posterior to check.

    Returns
    -------
    list of str
        One sentence or two for each kind of problem; empty if there is none. R-hat needs two
        chains, and is not checked for one.
    """
    statistics = tree["sample_stats"]
    found = [
        *_transitions(
            statistics["diverging"],
            "ended in a divergence: the draws may miss a part of the posterior. Raise "
            "adapt_delta, or reparameterize the model.",
        ),
        *_transitions(
            statistics["reached_max_treedepth"],
            "reached the maximal tree depth: the sampler explores slowly. Run a longer warm-up, "
            "or reparameterize the model.",
        ),
    ]
    moving = _moving(tree["posterior"].to_dataset()[list(parameter_names)])
    if not moving.data_vars:
        return found
    with np.errstate(all="ignore"):
        mixing = _mixing(moving) if moving.sizes["chain"] > 1 else []
        return found + mixing + _precision(moving)


def _transitions(flags, message: str) -> list[str]:
    count = int(flags.sum())
    return [f"{count} of {flags.size} draws {message}"] if count else []


def _mixing(values: Dataset) -> list[str]:
    bad = {name: value for name, value in _scalars(rhat(values)) if not value <= MAX_RHAT}
    if not bad:
        return []
    worst = max(bad, key=lambda name: np.nan_to_num(bad[name], nan=np.inf))
    return [
        f"R-hat is above {MAX_RHAT} for {', '.join(bad)} (worst: {bad[worst]:.3f} for {worst}): "
        "the chains do not agree. Run a longer warm-up, or look for more than one mode."
    ]


def _precision(values: Dataset) -> list[str]:
    minimum = MIN_ESS_PER_CHAIN * values.sizes["chain"]
    found = []
    for method in ("bulk", "tail"):
        scalars = _scalars(ess(values, method=method))
        bad = {name: value for name, value in scalars if not value >= minimum}
        if bad:
            worst = min(bad, key=lambda name: np.nan_to_num(bad[name]))
            found.append(
                f"The {method} effective sample size is below {minimum} ({MIN_ESS_PER_CHAIN} per "
                f"chain) for {', '.join(bad)} (lowest: {bad[worst]:.0f} for {worst}). Draw more."
            )
    return found


def _moving(values: Dataset) -> Dataset:
    """One scalar variable for each entry that varies: neither statistic is defined otherwise.

    The weight of a single component, for example, is always one.
    """
    scalars = {
        label: (("chain", "draw"), values[name].transpose("chain", "draw", ...).values[:, :, *at])
        for name in values.data_vars
        for at, label in _entries(name, values[name].isel(chain=0, draw=0).shape)
    }
    return Dataset({label: v for label, v in scalars.items() if np.ptp(v[1]) > 0})


def _entries(name: str, shape: tuple) -> Iterator[tuple[tuple, str]]:
    for at in np.ndindex(*shape):
        yield at, f"{name}[{','.join(map(str, at))}]" if at else name


def _scalars(statistic) -> Iterator[tuple[str, float]]:
    yield from ((name, float(value)) for name, value in statistic.data_vars.items())

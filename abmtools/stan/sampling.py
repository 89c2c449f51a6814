r"""Sampling: the posterior of a mixture by NUTS, in Stan.

NUTS needs a density of continuous parameters. The indicators are summed out of it,

.. math:: p(\theta \mid y) \propto p(\theta) \sum_z p(z \mid \theta)
          \prod_i p(y_i \mid z_i, \theta) ,

and come back, draw by draw, as the membership probabilities :math:`p(z_i = k \mid y, \theta)`. For
independent indicators the sum is a product of sums, and

.. math:: p(z_i = k \mid y, \theta) \propto p(z_i = k \mid \theta) \, p(y_i \mid z_i = k, \theta) .

For a chain it is a forward recursion, and they are smoothing. These are the two factors that
abmtools' networks learn, so that a NUTS run is the reference to compare them with. The programs are
in the folder ``programs``.
"""

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from xarray import DataTree

from ..jobs import run_jobs, runs_here
from . import checks
from .conversion import to_datatree
from .engines import Program, Settings, run, select_engine

__all__ = ["sample", "sample_each"]


def sample(
    model,
    data: Mapping[str, np.ndarray],
    *,
    engine: str = "auto",
    chains: int = 4,
    warmup: int = 1000,
    draws: int = 1000,
    seed: int = 1,
    cores: int | None = None,
    adapt_delta: float = 0.8,
    inits: Mapping[str, np.ndarray] | None = None,
    show_progress: bool = False,
) -> DataTree:
    """Draw from the posterior of one data set by NUTS.

    Parameters
    ----------
    model : MixtureModel
        A model with a `stan_program` and `stan_data`.
    data : mapping of str to array
        One data set, ``{"y": (N, ...)}``, or a batch of one, with the masks that the model knows.
    engine : {"auto", "stanli", "cmdstanpy"}
        What runs the program. "auto" is cmdstanpy where CmdStan is installed, else stanli.
    chains, warmup, draws : int
        Number of chains, and of iterations of each before and after adaptation ends.
    seed : int
        Between 0 and 2**32 - 1. An engine repeats a run exactly if all arguments are the same.
    cores : int, optional
        Chains that run at once; by default as many as this process may use.
    adapt_delta : float
        Acceptance rate that the step size aims at. Nearer to 1 is slower and safer.
    inits : mapping of str to array, optional
        Parameters where the chains start, ``{name: (chains, ...)}``; by default the engine draws
        them. The program's own parameters must be those of the model.
    show_progress : bool
        Whether the engine may report its progress.

    Returns
    -------
    DataTree
        ``posterior`` holds the model's parameters, (chain, draw, ...), and ``membership``,
        (chain, draw, obs, component), if the program computes it, for chains also ``filtering`` and
        ``path``, (chain, draw, obs); ``sample_stats`` holds ``lp``,
        ``diverging``, ``tree_depth``, ``reached_max_treedepth``, ``n_steps``, ``step_size``,
        ``energy`` and ``acceptance_rate``, (chain, draw); ``observed_data`` holds the data.
        Attributes of the tree and of ``posterior``: ``engine``, its version, ``program``,
        ``seed``, ``num_warmup``, and the wall-clock seconds ``compile_time`` and
        ``sampling_time`` (warm-up included).

    Warns
    -----
    StanDiagnosticsWarning
        On divergences, trees of maximal depth, R-hat > 1.01, or an effective sample size below
        100 per chain, of any parameter.

    Raises
    ------
    TypeError, ValueError
        If the model has no Stan program, the program and the model disagree, the data hold more
        than one data set, an argument is out of range, or inits lack a parameter or are of another
        shape; with stanli, also if they are outside their constraint.
    FileNotFoundError
        If the program is a path to a file that does not exist.
    ImportError, RuntimeError
        If the engine is not installed, or fails.

    Examples
    --------
    >>> import abmtools as abm, numpy as np
    >>> model = abm.models.GaussianMixture()
    >>> y = model.simulate(1, rng=np.random.default_rng(1), num_obs=200, num_reps=3)["y"]
    >>> tree = abm.stan.sample(model, {"y": y}, engine="stanli")
    >>> dict(tree.posterior["membership"].sizes)
    {'chain': 4, 'draw': 1000, 'obs': 200, 'component': 3}
    """
    settings = Settings(chains, warmup, draws, seed, cores, adapt_delta, show_progress)
    if inits is not None:
        settings = replace(settings, inits=_starts(model, inits, chains))
    engine = select_engine(engine)
    program = _program(model)
    data = _single(model, data)
    fit = run(engine, program, model.stan_data(data), settings)
    attrs = {
        "engine": engine,
        **{f"{package}_version": version for package, version in fit.versions.items()},
        "program": program.name,
        "seed": seed,
        "num_warmup": warmup,
        "compile_time": fit.compile_time,
        "sampling_time": fit.sampling_time,
    }
    tree = to_datatree(fit, model, data, attrs=attrs)
    checks.warn(tree, model.parameter_names)
    return tree


def sample_each(
    model,
    data: Mapping[str, np.ndarray],
    *,
    executor=None,
    retries: int = 2,
    progress: bool = False,
    **options,
) -> list[DataTree]:
    """Draw from the posterior of each of many data sets by NUTS.

    Parameters
    ----------
    model : MixtureModel
    data : mapping of str to array
        ``{"y": (B, N, ...)}`` and masks.
    executor : concurrent.futures.Executor or distributed.Client, optional
        What runs one data set after the other; see `abmtools.jobs`. Each then takes one core.
    retries : int
        How many times a data set whose run fails is tried again.
    progress : bool
        Whether to show a progress bar.
    **options
        As for `sample`, the same for all.

    Returns
    -------
    list of DataTree
        See `sample`.

    Warns
    -----
    StanDiagnosticsWarning
        As `sample` does, wherever it runs.

    Raises
    ------
    JobsError
        If runs failed for good; the others are in its ``results``.
    TypeError, ValueError
        See `sample`; bad data are found before the first run.

    Examples
    --------
    >>> import abmtools as abm, numpy as np
    >>> model = abm.GaussianMixture()
    >>> data = model.simulate(2, rng=np.random.default_rng(1), num_obs=150, num_reps=3)
    >>> trees = abm.stan.sample_each(model, {"y": data["y"]}, chains=1, draws=500)
    >>> len(trees), trees[1]["posterior"].sizes["draw"]
    (2, 500)
    """
    checked = model.check_data(data)
    if executor is not None:
        options = {"cores": 1} | options
    function = functools.partial(sample, model, **options)
    items = [{key: value[i] for key, value in checked.items()} for i in range(len(checked["y"]))]
    jobs = {"executor": executor, "retries": retries, "progress": progress, "what": "NUTS"}
    trees = run_jobs(function, items, **jobs)
    if not runs_here(executor):  # what the other processes warned of
        for tree in trees:
            checks.warn(tree, model.parameter_names)
    return trees


def _program(model) -> Program:
    """The model's Stan program: a path, or code, which is a string with a newline."""
    if not hasattr(model, "stan_program"):
        raise TypeError(f"model: expected a MixtureModel, got {type(model).__name__}.")
    program = model.stan_program
    if program is None or model.stan_data is None:
        lacking = "stan_program" if program is None else "stan_data"
        raise ValueError(f"model: {model.name} has no {lacking}, which Stan needs.")
    if isinstance(program, str) and "\n" in program:
        return Program(model.name, program)
    path = Path(program) if isinstance(program, str) else program
    try:
        return Program(Path(path.name).stem, path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"stan_program: {model.name} names a file that does not exist, {str(path)!r}."
        ) from error


def _single(model, data: Mapping) -> dict[str, np.ndarray]:
    """The only data set in data, checked by the model, without batch axis."""
    checked = model.check_data(data)
    num_datasets = len(checked["y"])
    if num_datasets != 1:
        raise ValueError(
            f"data: expected one data set, got {num_datasets}. Stan fits one at a time: see "
            "abmtools.stan.sample_each."
        )
    return {key: value[0] for key, value in checked.items()}


def _starts(model, inits: Mapping, chains: int) -> list[dict]:
    """The parameters where each chain starts, as plain numbers and lists."""
    if set(inits) != set(model.parameter_names):
        raise ValueError(
            f"inits: expected exactly {list(model.parameter_names)}, got {sorted(inits)}."
        )
    values = {name: np.asarray(inits[name], dtype="float64") for name in model.parameter_names}
    for name, shape in model.parameter_shapes.items():
        if values[name].shape != (chains, *shape):
            raise ValueError(
                f"inits[{name!r}]: expected shape {(chains, *shape)}, one row for each chain, "
                f"got {values[name].shape}."
            )
    return [{name: value[c].tolist() for name, value in values.items()} for c in range(chains)]

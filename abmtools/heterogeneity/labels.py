"""Labels: parameters and indicators that belong to data which no parameters have made."""

import functools
from collections.abc import Callable

import keras
import numpy as np

from ..diagnostics.draws import require_workflow
from ..diagnostics.importance_sampling import MIN_SAMPLES, log_ratio, weigh
from ..diagnostics.proposals import fit_student, temper
from ..inference.padding import pad_to_few_sizes
from ..inference.simulation import make_blocks
from ..jobs import run_jobs
from ..seeds import check_seed
from ..structures.categorical import draw_systematic
from .data import HeterogeneousData
from .simulation import simulate_heterogeneous

__all__ = ["heterogeneous_data"]

THRESHOLD = 0.7  # of Pareto k, below which weights are trusted
NUM_ADAPTED = 3  # proposals after the network's own
DEGREES = 7  # of freedom of these
DRAWS_AT_ONCE = 20_000  # parameter draws at a time: their flow activations stay in cache


def heterogeneous_data(
    workflow,
    num_datasets: int,
    *,
    seed: int,
    block_size: int = 512,
    num_samples: int = 500,
    num_draws: int = 8,
    strays: Callable | None = None,
    executor=None,
    retries: int = 2,
    progress: bool = False,
) -> HeterogeneousData:
    """Simulate heterogeneous data sets, and draw from the posterior of each.

    Parameters
    ----------
    workflow : MixtureWorkflow
        Trained, of a model with a likelihood.
    num_datasets : int
        Some of them will be left out. Training comes back to each of them again and again, with
        other draws; tens of thousands are enough for a long training.
    seed : int
    block_size : int
        Data sets that share N and R.
    num_samples : int
        The network's draws for each data set.
    num_draws : int
        Draws of the posterior to keep of them.
    strays : callable, optional
        As of `simulate_heterogeneous`; with an executor of processes a function that they can find.
    executor : concurrent.futures.Executor or distributed.Client, optional
        What treats the blocks; see `abmtools.jobs`.
    retries : int
        How many times a block that fails is tried again.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    HeterogeneousData

    Raises
    ------
    TypeError, ValueError
        If the model has no likelihood, a number is no positive integer or too small, the seed is no
        non-negative integer, strays have another shape than the observations, or no data set is
        left.
    JobsError
        If some blocks failed for good.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("gaussian_hmm")
    >>> data = abm.heterogeneous_data(workflow, 64, seed=1)
    >>> data.num_datasets + data.num_rejected
    64
    >>> history = workflow.fit_online(
    ...     1, num_batches_per_epoch=2, batch_size=4, simulator=data, verbose=0
    ... )
    """
    require_workflow(workflow)
    blocks = make_blocks(num_datasets, block_size)
    for name, value, least in [
        ("num_samples", num_samples, MIN_SAMPLES),
        ("num_draws", num_draws, 1),
    ]:
        if not (isinstance(value, int | np.integer) and value >= least):
            raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}.")
    seed = check_seed(seed)
    make = functools.partial(_make_block, workflow, seed, num_samples, num_draws, strays)
    jobs = {"executor": executor, "retries": retries, "progress": progress}
    blocks = run_jobs(make, blocks, **jobs, what="heterogeneous data")
    blocks = [block for block in blocks if block is not None]
    kept = sum(len(block["y"]) for block in blocks)
    if not kept:
        raise ValueError(
            f"workflow: importance weights of all {num_datasets} data sets have Pareto k above "
            f"{THRESHOLD}; train it first."
        )
    return HeterogeneousData(workflow.model, blocks, num_rejected=num_datasets - kept)


def _make_block(
    workflow, seed: int, num_samples: int, num_draws: int, strays, block: tuple[int, int]
) -> dict | None:
    """Heterogeneous data sets with draws of their posteriors, as many of a block as are trusted."""
    number, size = block
    model, rng = workflow.model, np.random.default_rng((seed, number))
    data = simulate_heterogeneous(model, size, rng=rng, strays=strays)
    compiles = keras.backend.backend() == "jax"  # anew for each size
    padded = pad_to_few_sizes(data, model) if compiles else data
    rows = max(1, DRAWS_AT_ONCE // num_samples)
    parts = []
    for start in range(0, size, rows):
        part = {name: x[start : start + rows] for name, x in padded.items()}
        trusted, drawn = _draw(workflow, part, num_samples, num_draws, rng)
        own = {name: x[start : start + rows] for name, x in data.items()}
        parts.append({name: x[trusted] for name, x in (own | drawn).items()})
    block = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    u = block.pop("u")
    if not len(u):
        return None
    parameters = model.constrain(u, block)
    data = {name: block[name] for name in data}
    scores = model.emission_scores(data, parameters)
    return block | parameters | {"z": model.structure.draw(scores, parameters, rng=rng)}


def _draw(workflow, data: dict, num_samples: int, num_draws: int, rng) -> tuple[np.ndarray, dict]:
    """Whether to trust the weights of each data set, (B,); draws u, (B, L, D), and log p(u | y)."""
    model, data = workflow.model, workflow.model.check_data(data)
    state = keras.random.SeedGenerator(int(rng.integers(2**31)))
    u = workflow.estimator.sample_unconstrained(data, num_samples, seed=state, strict=False)
    known = ~np.isnan(u).any(axis=(1, 2))  # else the network knows nothing of such data
    u = np.where(known[:, None, None], u, 0.0).astype("float64")
    log_q = workflow.log_prob_unconstrained(data, u)
    ratio = log_ratio(model, data, u, log_q)
    possible = known & np.isfinite(ratio).any(axis=1)
    ratio[~possible] = 0.0
    trusted = possible & (weigh(ratio).pareto_k < THRESHOLD)
    for _ in range(NUM_ADAPTED):
        enough = np.isfinite(ratio).sum(axis=1) >= MIN_SAMPLES
        rows = np.flatnonzero(possible & enough & ~trusted)
        if not rows.size:
            break
        u[rows], log_q[rows] = _propose(rng, u[rows], ratio[rows])
        own = {name: values[rows] for name, values in data.items()}
        ratio[rows] = log_ratio(model, own, u[rows], log_q[rows])
        trusted[rows] = weigh(ratio[rows]).pareto_k < THRESHOLD
    weights = weigh(ratio)
    chosen = draw_systematic(rng, np.exp(weights.log_weights), num_draws)
    log_density = ratio + log_q - weights.log_evidence[:, None]
    return trusted, {
        "u": np.take_along_axis(u, chosen[..., None], axis=1),
        "log_density": np.take_along_axis(log_density, chosen, axis=1),
    }


def _propose(rng, u: np.ndarray, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draws, (B, S, D), and their log density, (B, S), from draws u with log ratios, (B, S)."""
    students = [
        fit_student(draws, degrees=DEGREES, log_weights=temper(row))
        for draws, row in zip(u, ratio, strict=True)
    ]
    draws = np.reshape([x.rvs(u.shape[1], random_state=rng) for x in students], u.shape)
    return draws, np.stack([x.logpdf(own) for x, own in zip(students, draws, strict=True)])

"""Draws for heterogeneous data sets, where a network and the exact posterior have mass."""

import functools
from collections.abc import Callable

import keras
import numpy as np

from ..diagnostics.draws import require_workflow
from ..diagnostics.importance_sampling import MIN_SAMPLES, log_ratio
from ..inference.padding import pad_to_few_sizes
from ..inference.simulation import make_blocks
from ..jobs import run_jobs
from ..seeds import check_seed
from ..structures.categorical import draw_systematic
from .data import HeterogeneousData
from .simulation import simulate_heterogeneous

__all__ = ["heterogeneous_data"]

OWN = 5  # one in so many blocks is the model's own data
DRAWS_AT_ONCE = 20_000  # parameter draws at a time: their flow activations stay in cache


def heterogeneous_data(
    workflow,
    num_datasets: int,
    *,
    seed: int,
    block_size: int = 512,
    num_samples: int = 64,
    num_draws: int = 24,
    strays: Callable | None = None,
    executor=None,
    retries: int = 2,
    progress: bool = False,
) -> HeterogeneousData:
    r"""Simulate heterogeneous data sets, and parameters at which the likelihood is known.

    The parameters are the network's draws, resampled by the square roots of their importance
    weights: half way from the network to the posterior, draws of
    :math:`\propto \sqrt{q(u \mid y) \, p(u, y)}`. Every fifth block is the model's own data. There
    are more short data sets than long ones, so that either take as much of a training's time: the
    logarithm of N is uniform.

    Parameters
    ----------
    workflow : MixtureWorkflow
        Trained, of a model with a likelihood.
    num_datasets : int
        Training comes back to each of them again and again, with other draws; tens of thousands
        are enough for a long training.
    seed : int
    block_size : int
        Data sets that share N and R.
    num_samples : int
        The network's draws for each data set.
    num_draws : int
        Draws to keep of them; each step of a training sees half.
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
        Without the data sets for which fewer than half of the network's draws are possible.

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
        ("num_draws", num_draws, 4),
    ]:
        if not (isinstance(value, int | np.integer) and value >= least):
            raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}.")
    seed = check_seed(seed)
    make = functools.partial(_make_block, workflow, seed, num_samples, num_draws, strays)
    jobs = {"executor": executor, "retries": retries, "progress": progress}
    blocks = run_jobs(make, blocks, **jobs, what="heterogeneous data")
    blocks = [block for block in blocks if len(block["y"])]
    kept = sum(len(block["y"]) for block in blocks)
    if not kept:
        raise ValueError(
            f"workflow: most of its draws are impossible for each of the {num_datasets} data sets; "
            "train it first."
        )
    return HeterogeneousData(workflow.model, blocks, num_rejected=num_datasets - kept)


def _make_block(
    workflow, seed: int, num_samples: int, num_draws: int, strays, block: tuple[int, int]
) -> dict:
    """Heterogeneous data sets with draws, those of a block for which there are some."""
    number, size = block
    model, rng = workflow.model, np.random.default_rng((seed, number))
    spread = {"spread": 0.0} if number % OWN == OWN - 1 else {}
    least, most = model.num_obs
    num_obs = round(least * (most / least) ** rng.random())
    data = simulate_heterogeneous(model, size, rng=rng, num_obs=num_obs, strays=strays, **spread)
    compiles = keras.backend.backend() == "jax"  # anew for each size
    padded = pad_to_few_sizes(data, model) if compiles else data
    rows = max(1, DRAWS_AT_ONCE // num_samples)
    parts = []
    for start in range(0, size, rows):
        part = {name: x[start : start + rows] for name, x in padded.items()}
        kept, drawn = _draw(workflow, part, num_samples, num_draws, rng)
        own = {name: x[start : start + rows] for name, x in data.items()}
        parts.append({name: x[kept] for name, x in (own | drawn).items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _draw(workflow, data: dict, num_samples: int, num_draws: int, rng) -> tuple[np.ndarray, dict]:
    """Which data sets to keep, (B,); draws (B, L, D) and their log p(u, y), (B, L)."""
    model, data = workflow.model, workflow.model.check_data(data)
    state = keras.random.SeedGenerator(int(rng.integers(2**31)))
    u = workflow.estimator.sample_unconstrained(data, num_samples, seed=state, strict=False)
    known = ~np.isnan(u).any(axis=(1, 2))  # else the network knows nothing of such data
    u = np.where(known[:, None, None], u, 0.0).astype("float64")
    log_q = workflow.log_prob_unconstrained(data, u)
    ratio = log_ratio(model, data, u, log_q)
    kept = known & (np.isfinite(ratio).sum(axis=1) >= num_samples / 2)
    ratio[~kept] = 0.0
    weights = np.exp(0.5 * (ratio - ratio.max(axis=1, keepdims=True)))
    chosen = draw_systematic(rng, weights / weights.sum(axis=1, keepdims=True), num_draws)
    return kept, {
        "draws": np.take_along_axis(u, chosen[..., None], axis=1).astype("float32"),
        "log_joint": np.take_along_axis(ratio + log_q, chosen, axis=1),
    }

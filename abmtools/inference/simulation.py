"""Simulation for offline training: many data sets at once, wherever there is a free processor.

Where a simulator is slower than training, its data sets are better simulated once, kept, and used
in every epoch. They come in blocks, each with its own number of observations and its own generator,
so that the same seed gives the same data sets on one processor and on a hundred. For one array
blocks are padded to the largest, with the masks that say what is real.
"""

import functools

import numpy as np

from ..jobs import run_jobs
from ..seeds import check_seed
from .padding import pad

__all__ = ["make_blocks", "simulate_datasets"]


def simulate_datasets(
    model,
    num_datasets: int,
    *,
    seed: int,
    block_size: int = 256,
    executor=None,
    retries: int = 2,
    progress: bool = False,
    **sizes,
) -> dict[str, np.ndarray]:
    """Simulate data sets with their parameters and indicators, for ``fit_offline``.

    Parameters
    ----------
    model : MixtureModel
    num_datasets : int
    seed : int
        Block b comes from the generator with the seed (seed, b).
    block_size : int
        Data sets that share N and R, and are simulated at a time.
    executor : concurrent.futures.Executor or distributed.Client, optional
        What simulates the blocks; see `abmtools.jobs`.
    retries : int
        How many times a block that fails is tried again.
    progress : bool
        Whether to show a progress bar.
    **sizes
        ``num_obs``, ``num_reps``: fixed sizes instead of drawn ones, as in `MixtureModel.simulate`.

    Returns
    -------
    dict
        What `MixtureModel.simulate` returns, padded with ``"mask"``, (B, N), and, where there are
        replicates, ``"replicate_mask"``, (B, N, R), if blocks differ in size.

    Raises
    ------
    TypeError, ValueError
        If num_datasets or block_size is no positive integer, or the seed no non-negative one.
    JobsError
        If some blocks failed for good.

    Examples
    --------
    >>> from abmtools import GaussianMixture
    >>> from abmtools.inference import simulate_datasets
    >>> data = simulate_datasets(GaussianMixture(), 600, seed=1)
    >>> data["means"].shape, data["y"].shape[0] == data["mask"].shape[0]
    ((600, 3), True)
    """
    blocks = make_blocks(num_datasets, block_size)
    jobs = {"executor": executor, "retries": retries, "progress": progress}
    simulate = functools.partial(_simulate, model, check_seed(seed), sizes)
    blocks = run_jobs(simulate, blocks, **jobs, what="simulation")
    return _stack(blocks, replicates=model.num_reps is not None)


def make_blocks(num_datasets: int, block_size: int) -> list[tuple[int, int]]:
    """Number and size of each block.

    Raises
    ------
    ValueError
        If num_datasets or block_size is no positive integer.
    """
    for name, value in {"num_datasets": num_datasets, "block_size": block_size}.items():
        if not (isinstance(value, int | np.integer) and value >= 1):
            raise ValueError(f"{name}: expected a positive integer, got {value!r}.")
    starts = range(0, num_datasets, block_size)
    return [(b, min(block_size, num_datasets - start)) for b, start in enumerate(starts)]


def _simulate(model, seed: int, sizes: dict, block: tuple[int, int]) -> dict[str, np.ndarray]:
    number, size = block
    return model.simulate(size, rng=np.random.default_rng((seed, number)), **sizes)


def _stack(blocks: list[dict], *, replicates: bool) -> dict[str, np.ndarray]:
    """All blocks in one, those that are smaller padded."""
    sizes = np.array([block["y"].shape[1 : 3 if replicates else 2] for block in blocks])
    if np.ptp(sizes, axis=0).any():
        blocks = [pad(block, *sizes.max(axis=0)) for block in blocks]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}

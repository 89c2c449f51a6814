"""Threads: blocks of data sets side by side.

torch shares each operation among the cores. Those of narrow networks are short, so that much of the
time goes into waiting for each other, and what Python does in between stays on one core. Blocks of
data sets need nothing from each other. With one thread for each block, and one core for each
thread, all cores are busy all the time. JAX does this on its own, and a GPU takes one block after
the other.

Random numbers have no place in these threads: some of Keras' distributions seed torch's global
generator, so that two threads would draw each other's numbers.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import keras

from ..structures.recursions import on_gpu

__all__ = ["run_in_threads"]


def run_in_threads(function: Callable, blocks: Iterable) -> list:
    """Apply a function to each block, in as many threads as torch may use.

    Parameters
    ----------
    function : callable
        Of one block; it draws no random numbers and changes nothing that the others use.
    blocks : iterable

    Returns
    -------
    list
        Results in the order of the blocks.
    """
    blocks = list(blocks)
    threads = min(_num_threads(), len(blocks))
    if threads < 2:
        return [function(block) for block in blocks]
    import torch

    cores = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, blocks))
    finally:  # of threads that are still to come
        torch.set_num_threads(cores)


def _num_threads() -> int:
    """How many threads torch may use on CPUs; one with another backend, and on a GPU."""
    if keras.backend.backend() != "torch" or on_gpu():
        return 1
    import torch

    return torch.get_num_threads()

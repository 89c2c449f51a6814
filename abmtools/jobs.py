"""Jobs: the same function of many items, in this process or on many machines.

Simulations, calibration and reference fits treat one data set, or one block of them, after the
other, and no item needs another's result. So they can run wherever there is a free processor:

===========================================  =====================================================
``executor=None``                            here, one after the other
``ThreadPoolExecutor()``                     in threads, for what is not Python most of the time
``ProcessPoolExecutor()``                    on the cores of this machine
``MPIPoolExecutor()``, ...                   any other ``concurrent.futures.Executor``
``distributed.Client(address)``              on the machines of a Dask cluster
===========================================  =====================================================

An item that fails is tried again, though not after a `TypeError` or `ValueError`, which would only
come back. One that fails for good takes nothing with it: all others are finished, and `JobsError`
holds them. Only a pool of processes one of which was killed is broken as a whole: what it had
finished is in the error, too, and the rest has failed. Dask replaces the worker and goes on.

Results come in the order of the items, and because each item brings its own seed they are the same
wherever they ran.

Functions and items travel by cloudpickle, so that those of a notebook may be used.
"""

import functools
import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from queue import SimpleQueue

import cloudpickle
import numpy as np
from tqdm.auto import tqdm

__all__ = ["JobsError", "num_cores", "run_jobs"]

logger = logging.getLogger(__name__)

FINAL = (
    BrokenExecutor,
    CancelledError,
    TypeError,
    ValueError,
)  # what comes back if an item is tried again


class JobsError(RuntimeError):
    """Some items failed each time they were tried.

    Attributes
    ----------
    failures : dict of key to Exception
        The last exception of each item that failed, by its position or key.
    results : dict of key to object
        The results of all others.
    """

    def __init__(self, what: str, failures: dict, results: dict):
        first = next(iter(failures))
        super().__init__(
            f"{what}: {len(failures)} of {len(failures) + len(results)} failed, {first!r} with "
            f"{failures[first]!r}. The results of the others are in `results`, the exceptions in "
            "`failures`."
        )
        self.failures, self.results = failures, results


def run_jobs(
    function: Callable,
    items: Iterable | Mapping,
    *,
    executor=None,
    retries: int = 2,
    progress: bool = False,
    what: str = "jobs",
) -> list | dict:
    """Apply a function to each of many items.

    Parameters
    ----------
    function : callable
        Of one item.
    items : iterable or mapping
        Those of a mapping go by their keys in the results and in messages.
    executor : concurrent.futures.Executor or distributed.Client, optional
        What runs them; without one, this process.
    retries : int
        How many times an item that failed is tried again.
    progress : bool
        Whether to show a progress bar.
    what : str
        Name of the items in the progress bar and in messages.

    Returns
    -------
    list or dict
        Results in the order of the items; a dictionary for a mapping.

    Raises
    ------
    TypeError, ValueError
        If the executor is none, or retries no integer from 0.
    JobsError
        If some items failed for good; it holds the results of the others. Where all of them failed
        there are none, and the first item's own exception is raised.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(2) as executor:
    ...     run_jobs(lambda x: x**2, range(4), executor=executor)
    [0, 1, 4, 9]
    """
    if not (isinstance(retries, int | np.integer) and retries >= 0):
        raise ValueError(f"retries: expected an integer from 0, got {retries!r}.")
    named = dict(items if isinstance(items, Mapping) else enumerate(items))
    executor = as_executor(executor)
    call = portable(function, executor)
    limit = 1 if isinstance(executor, Here) else len(named)  # here, one at a time
    due, running, finished = deque(named), {}, SimpleQueue()
    results, failures, tried = {}, {}, Counter()
    try:
        with tqdm(total=len(named), desc=what, disable=not progress) as bar:
            while due or running:
                while due and len(running) < limit:
                    future = _submit(executor, call, named[due[0]])
                    running[future] = due.popleft()
                    future.add_done_callback(finished.put)
                future = finished.get()
                key = running.pop(future)
                tried[key] += 1
                error = CancelledError() if future.cancelled() else future.exception()
                if error is None:
                    results[key] = future.result()
                elif tried[key] <= retries and not isinstance(error, FINAL):
                    logger.warning("%s: %r failed, is tried again: %r", what, key, error)
                    due.append(key)
                    continue
                else:
                    logger.error("%s: %r failed: %r", what, key, error)
                    failures[key] = error
                bar.update()
    finally:
        for future in running:
            future.cancel()
    results, failures = ({x: y[x] for x in named if x in y} for y in (results, failures))
    if failures and not results:
        raise next(iter(failures.values()))
    if failures:
        raise JobsError(what, failures, results) from next(iter(failures.values()))
    return results if isinstance(items, Mapping) else list(results.values())


def as_executor(executor) -> Executor:
    """The executor of a Dask client, this process for None, any other executor as it is.

    Raises
    ------
    TypeError
        If it is none of these.
    """
    if executor is None:
        return Here()
    if hasattr(executor, "get_executor"):
        return executor.get_executor(pure=False)
    if not isinstance(executor, Executor):
        raise TypeError(
            "executor: expected a concurrent.futures.Executor or a distributed.Client, "
            f"got {type(executor).__name__}."
        )
    return executor


def runs_here(executor) -> bool:
    """Whether an executor is this process, so that functions need no pickling and warnings show."""
    return executor is None or isinstance(executor, Here | ThreadPoolExecutor)


class Here(Executor):
    """An executor that is this process: a job is done when `submit` returns."""

    def submit(self, fn, /, *args, **kwargs) -> Future:
        future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def result_of(future: Future, submit: Callable, *, what: str, retries: int = 2):
    """The result of a future, or, where it failed, of one that `submit` makes in its place."""
    while (error := future.exception()) is not None:
        if isinstance(error, FINAL) or not retries:
            raise error
        logger.warning("%s failed, is tried again: %r", what, error)
        future, retries = submit(), retries - 1
    return future.result()


def portable(function: Callable, executor: Executor) -> Callable:
    """A function that reaches another process whole, also where pickle knows it by name only."""
    if runs_here(executor):
        return function
    return functools.partial(_call, cloudpickle.dumps(function))


def _call(function: bytes, *args):
    return _loaded(function)(*args)


@functools.lru_cache(maxsize=4)
def _loaded(function: bytes) -> Callable:
    """The function, loaded once in each process: a workflow takes a second."""
    return cloudpickle.loads(function)


def _submit(executor: Executor, call: Callable, item) -> Future:
    """The future of a job; one that failed where the executor takes no more of them."""
    try:
        return executor.submit(call, item)
    except BrokenExecutor as error:
        future = Future()
        future.set_exception(error)
        return future


def num_cores() -> int:
    """How many cores this process may use.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(num_cores()) as executor:
    ...     run_jobs(abs, [-1, 2, -3], executor=executor)
    [1, 2, 3]
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

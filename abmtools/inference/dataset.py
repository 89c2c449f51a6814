"""Training data simulated on the fly, repeatably.

Batches come in blocks that are simulated at once, because for small batches the calls cost more
than the numbers. Block b of epoch e comes from a generator seeded by (seed, e, b) alone. So a run
can be repeated, and one that was interrupted goes on with exactly the data it would have seen.
"""

import functools
import itertools
import tempfile
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path
from uuid import uuid4

import bayesflow as bf
import keras
import numpy as np
from bayesflow.datasets.helpers import apply_augmentations

from ..jobs import Here, as_executor, portable, result_of
from ..models.data import KEYS
from ..structures.recursions import on_gpu
from .padding import RATIO, RATIO_ON_GPU, pad_to_few_sizes

__all__ = ["EpochCounter", "ModelSimulator", "SeededDataset"]

BLOCK = 8  # batches that are simulated at once, with one N and R
AHEAD = 32  # blocks that an executor simulates ahead of training: more than it has workers


class ModelSimulator(bf.simulators.Simulator):
    """What simulates data sets as a BayesFlow simulator, with a generator of its own.

    Parameters
    ----------
    model : MixtureModel or ModelChoice
    seed : int, sequence of int or None
    """

    def __init__(self, model, seed=None):
        self.model = model
        self.rng = np.random.default_rng(seed)

    def sample(self, batch_shape, **kwargs) -> dict[str, np.ndarray]:
        """Simulate ``batch_shape`` data sets; ``num_obs`` and ``num_reps`` are passed on."""
        batch_size = batch_shape if isinstance(batch_shape, int) else int(np.prod(batch_shape))
        return self.model.simulate(batch_size, rng=self.rng, **kwargs)


class SeededDataset(bf.datasets.OnlineDataset):
    """BayesFlow's online data set with one seed per block of batches.

    Parameters
    ----------
    model : MixtureModel or ModelChoice
    batch_size, num_batches : int
    adapter : bayesflow.Adapter
    seed : int
    pad : bool
        Whether to pad every batch with masked values to the model's largest R and to one of a few
        N, so that there are few shapes. A compiling backend (JAX) then compiles few times. On a GPU
        there are fewer shapes still.
    augmentations : optional
        As in BayesFlow: applied to each simulated batch before the adapter.
    executor : concurrent.futures.Executor or distributed.Client, optional
        What simulates; it is kept busy `AHEAD` blocks ahead of training. The data are the same.

    Notes
    -----
    Keras prefetches and resets data sets at times of its own, so the epoch is set from outside, by
    `EpochCounter`.
    """

    def __init__(
        self, model, *, batch_size, num_batches, adapter, seed, pad=False, augmentations=None,
        executor=None,
    ):  # fmt: skip
        super().__init__(
            simulator=model, batch_size=batch_size, num_batches=num_batches, adapter=adapter,
            augmentations=augmentations,
        )  # fmt: skip
        self.seed, self.epoch, self.pad = seed, 0, pad
        self.block = (None, None)
        self.executor, self.ahead, self.folder = as_executor(executor), {}, None
        if isinstance(self.executor, ProcessPoolExecutor):
            self.folder = tempfile.TemporaryDirectory(prefix="abmtools-")
        ratio = (RATIO_ON_GPU if on_gpu() else RATIO) if pad else None
        simulate = functools.partial(
            simulate_block, model, BLOCK * batch_size, adapter, self.augmentations, ratio,
            self.folder and self.folder.name,
        )  # fmt: skip
        self.simulate = portable(simulate, self.executor)

    def __getitem__(self, item: int) -> dict:
        key = (self.seed, self.epoch, item // BLOCK)
        known, block = self.block
        if known != key:
            block = self._next_block(key)
            self.block = (key, block)
        start = item % BLOCK * self.batch_size
        rows = slice(start, start + self.batch_size)
        return keras.tree.map_structure(lambda values: values[rows], block)

    def _next_block(self, key: tuple) -> dict:
        """The block of this key, while an executor, if there is one, simulates those after it."""
        if isinstance(self.executor, Here):
            return self.simulate(key)
        wanted = list(itertools.islice(self._keys(key), AHEAD))
        for later in wanted:
            if later not in self.ahead:
                self.ahead[later] = self.executor.submit(self.simulate, later)
        again = functools.partial(self.executor.submit, self.simulate, key)
        return load_block(result_of(self.ahead.pop(key), again, what=f"simulation of block {key}"))

    def _keys(self, key: tuple):
        """The keys from this one on, through all further epochs."""
        seed, epoch, block = key
        while True:
            yield seed, epoch, block
            block += 1
            if block * BLOCK >= self.num_batches:
                epoch, block = epoch + 1, 0

    def cancel(self) -> None:
        """Drop what was asked of the executor and is not needed any more."""
        for future in self.ahead.values():
            future.cancel()
        wait(self.ahead.values())
        self.ahead.clear()
        if self.folder is not None:
            self.folder.cleanup()


def simulate_block(model, size, adapter, augmentations, ratio, folder, key: tuple) -> dict:
    """A block of adapted batches, one after the other; with a folder, files that hold it.

    With a ratio they are padded; see `pad_to_few_sizes`. What the model simulates as ``"others"``,
    data sets without parameters of their own, keeps this name.

    On one machine files are several times faster than a pipe between processes.
    """
    block = model.simulate(size, rng=np.random.default_rng(key))
    others = block.pop("others", None)
    block = apply_augmentations(block, augmentations)
    block = _adapt(block, model, adapter, ratio)
    if others is not None:
        data = {name: others.pop(name) for name in KEYS if name in others}
        block["others"] = _adapt(data, model, adapter, ratio, strict=False) | others
    if folder is None:
        return block
    return keras.tree.map_structure(functools.partial(_save, folder), block)


def _adapt(data: dict, model, adapter, ratio: float | None, **options) -> dict:
    return adapter(pad_to_few_sizes(data, model, ratio) if ratio else data, **options)


def _save(folder: str, values: np.ndarray) -> Path:
    path = Path(folder, f"{uuid4().hex}.npy")
    np.save(path, values)
    return path


def load_block(block: dict) -> dict:
    """What `simulate_block` returned, whose files are deleted."""
    return keras.tree.map_structure(_load, block)


def _load(values):
    if not isinstance(values, Path):
        return values
    array = np.load(values)
    values.unlink()
    return array


class EpochCounter(keras.callbacks.Callback):
    """Tell a `SeededDataset` which epoch is being trained, and when it is over."""

    def __init__(self, dataset: SeededDataset):
        super().__init__()
        self.dataset = dataset

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        self.dataset.epoch = epoch

    def on_train_end(self, logs=None) -> None:
        self.dataset.cancel()

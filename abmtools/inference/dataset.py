"""Training data simulated on the fly, repeatably.

Batches come in blocks that are simulated at once, because for small batches the calls cost more
than the numbers. Block b of epoch e comes from a generator seeded by (seed, e, b) alone. So a run
can be repeated, and one that was interrupted goes on with exactly the data it would have seen.
"""

import bayesflow as bf
import keras
import numpy as np
from bayesflow.datasets.helpers import apply_augmentations

__all__ = ["EpochCounter", "ModelSimulator", "SeededDataset"]

RATIO = 0.7  # of neighbouring sizes to pad to
BLOCK = 8  # batches that are simulated at once, with one N and R


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
        N, so that there are few shapes. A compiling backend (JAX) then compiles few times.
    augmentations : optional
        As in BayesFlow: applied to each simulated batch before the adapter.

    Notes
    -----
    Keras prefetches and resets data sets at times of its own, so the epoch is set from outside, by
    `EpochCounter`.
    """

    def __init__(
        self, model, *, batch_size, num_batches, adapter, seed, pad=False, augmentations=None
    ):
        super().__init__(
            simulator=model, batch_size=batch_size, num_batches=num_batches, adapter=adapter,
            augmentations=augmentations,
        )  # fmt: skip
        self.seed, self.epoch, self.pad = seed, 0, pad
        self.block = (None, None)

    def __getitem__(self, item: int) -> dict:
        key = (self.seed, self.epoch, item // BLOCK)
        known, block = self.block
        if known != key:
            block = self._simulate(np.random.default_rng(key))
            self.block = (key, block)
        start = item % BLOCK * self.batch_size
        return {name: value[start : start + self.batch_size] for name, value in block.items()}

    def _simulate(self, rng: np.random.Generator) -> dict:
        """A block of adapted batches, one after the other."""
        block = self.simulator.simulate(BLOCK * self.batch_size, rng=rng)
        block = apply_augmentations(block, self.augmentations)
        block = pad_to_few_sizes(block, self.simulator) if self.pad else block
        return self.adapter(block)


class EpochCounter(keras.callbacks.Callback):
    """Tell a `SeededDataset` which epoch is being trained."""

    def __init__(self, dataset: SeededDataset):
        super().__init__()
        self.dataset = dataset

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        self.dataset.epoch = epoch


def pad_to_few_sizes(batch: dict, model) -> dict:
    """Pad a simulated batch; masks tell what is real.

    N becomes the next one of N_max, `RATIO` N_max, `RATIO`^2 N_max, ...
    """
    y = batch["y"]
    observed = batch.get("mask", np.ones(y.shape[:2], dtype=bool))
    steps = np.floor(np.log(y.shape[1] / model.num_obs[1]) / np.log(RATIO) + 1e-9)
    size = max(y.shape[1], round(model.num_obs[1] * RATIO**steps))
    padding = [(0, 0), (0, size - y.shape[1])]
    padded = {"mask": np.pad(observed, padding)}
    if "z" in batch:
        padded["z"] = np.pad(batch["z"], padding)
    if model.num_reps is not None:
        replicates = batch.get("replicate_mask", np.ones(y.shape[:3], dtype=bool))
        padding = [*padding, (0, model.num_reps[1] - y.shape[2])]
        padded["replicate_mask"] = np.pad(replicates, padding)
    padding = [*padding, *[(0, 0)] * (y.ndim - len(padding))]
    return batch | padded | {"y": np.pad(y, padding)}

"""Training data simulated on the fly, repeatably.

Batch b of epoch e comes from a generator seeded by (seed, e, b) alone. So a run can be repeated,
and one that was interrupted goes on with exactly the data it would have seen.
"""

import bayesflow as bf
import keras
import numpy as np
from bayesflow.datasets.helpers import apply_augmentations

__all__ = ["EpochCounter", "ModelSimulator", "SeededDataset"]


class ModelSimulator(bf.simulators.Simulator):
    """A `MixtureModel` as a BayesFlow simulator, with a generator of its own.

    Parameters
    ----------
    model : MixtureModel
    seed : int or None
    """

    def __init__(self, model, seed: int | None = None):
        self.model = model
        self.rng = np.random.default_rng(seed)

    def sample(self, batch_shape, **kwargs) -> dict[str, np.ndarray]:
        """Simulate ``batch_shape`` data sets; ``num_obs`` and ``num_reps`` are passed on."""
        batch_size = batch_shape if isinstance(batch_shape, int) else int(np.prod(batch_shape))
        return self.model.simulate(batch_size, rng=self.rng, **kwargs)


class SeededDataset(bf.datasets.OnlineDataset):
    """BayesFlow's online data set with one seed per batch.

    Parameters
    ----------
    model : MixtureModel
    batch_size, num_batches : int
    adapter : bayesflow.Adapter
    seed : int
    augmentations : optional
        As in BayesFlow: applied to each simulated batch before the adapter.

    Notes
    -----
    Keras prefetches and resets data sets at times of its own, so the epoch is set from outside, by
    `EpochCounter`.
    """

    def __init__(
        self, model, *, batch_size, num_batches, adapter, seed, augmentations=None
    ):
        super().__init__(
            simulator=model, batch_size=batch_size, num_batches=num_batches, adapter=adapter,
            augmentations=augmentations,
        )  # fmt: skip
        self.seed, self.epoch = seed, 0

    def __getitem__(self, item: int) -> dict:
        rng = np.random.default_rng((self.seed, self.epoch, item))
        batch = self.simulator.simulate(self.batch_size, rng=rng)
        batch = apply_augmentations(batch, self.augmentations)
        return self.adapter(batch)


class EpochCounter(keras.callbacks.Callback):
    """Tell a `SeededDataset` which epoch is being trained."""

    def __init__(self, dataset: SeededDataset):
        super().__init__()
        self.dataset = dataset

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        self.dataset.epoch = epoch

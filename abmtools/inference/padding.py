"""Padding: simulated data sets of different sizes in arrays of one size, with masks.

A masked observation contributes nothing to any summary, score or loss, so padding changes no
result. It costs the networks' work on what is not there, and saves a compiling backend (JAX) from
compiling once for each size.
"""

import numpy as np

__all__ = ["RATIO", "RATIO_ON_GPU", "pad", "pad_to_few_sizes"]

RATIO = 0.7  # of neighbouring sizes to pad to
RATIO_ON_GPU = 0.3  # where padding costs little, and compiling as much as anywhere


def pad_to_few_sizes(batch: dict, model, ratio: float = RATIO) -> dict:
    """Pad a simulated batch to the model's largest R and to one of a few N.

    N becomes the next one of N_max, ratio N_max, ratio^2 N_max, ...
    """
    num_obs, (_, largest) = batch["y"].shape[1], model.num_obs
    steps = np.floor(np.log(num_obs / largest) / np.log(ratio) + 1e-9)
    size = max(num_obs, round(largest * ratio**steps))
    return pad(batch, size, None if model.num_reps is None else model.num_reps[1])


def pad(batch: dict, num_obs: int, num_reps: int | None = None) -> dict:
    """Pad a simulated batch to these numbers of observations and, if it has some, replicates.

    Returns
    -------
    dict
        The batch with ``"y"``, ``"z"``, if it has that, ``"mask"``, (B, N), and, where there are
        replicates, ``"replicate_mask"``, (B, N, R).
    """
    y = batch["y"]
    observed = batch.get("mask", np.ones(y.shape[:2], dtype=bool))
    padding = [(0, 0), (0, num_obs - y.shape[1])]
    padded = {"mask": np.pad(observed, padding)}
    if "z" in batch:
        padded["z"] = np.pad(batch["z"], padding)
    if num_reps is not None:
        replicates = batch.get("replicate_mask", np.ones(y.shape[:3], dtype=bool))
        padding = [*padding, (0, num_reps - y.shape[2])]
        padded["replicate_mask"] = np.pad(replicates, padding)
    padding = [*padding, *[(0, 0)] * (y.ndim - len(padding))]
    return batch | padded | {"y": np.pad(y, padding)}

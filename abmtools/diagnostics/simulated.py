"""Simulated data sets with known truth, in parts that fit memory.

Diagnostics over many data sets take what `MixtureModel.simulate` returns, or a list of such
batches, because one batch has one number of observations.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ..models.data import require_truth

__all__ = ["MASKS", "parts", "simulate_like", "truth"]

MASKS = ("mask", "replicate_mask")
DATASETS_AT_ONCE = 100
DRAWS_AT_ONCE = 20_000


def parts(model, simulated, num_samples: int = 1) -> Iterator[dict[str, np.ndarray]]:
    """Yield the data sets of one batch or of a list of batches, a few at a time.

    Parameters
    ----------
    model : MixtureModel
    simulated : dict or list of dict
    num_samples : int
        Posterior draws that each data set is going to have; fewer data sets at a time for more.

    Raises
    ------
    TypeError
        If `simulated` is neither a mapping nor a list of them.
    ValueError
        If there are no data sets, or a batch lacks a parameter of the model, ``"z"`` or ``"y"``.
    """
    batches = [simulated] if isinstance(simulated, Mapping) else list(simulated)
    if not batches:
        raise ValueError("simulated: expected at least one batch of data sets, got none.")
    for batch in batches:
        require_truth(model, batch)
    size = max(1, min(DATASETS_AT_ONCE, DRAWS_AT_ONCE // max(1, num_samples)))
    for batch in batches:
        for start in range(0, len(batch["y"]), size):
            yield {key: np.asarray(value)[start : start + size] for key, value in batch.items()}


def truth(model, batch: Mapping) -> dict[str, np.ndarray]:
    """The true parameters of a batch, {name: (B, 1, ...)}: one draw for each data set."""
    return {name: batch[name][:, None] for name in model.parameter_names}


def simulate_like(
    model, data: Mapping, parameters: Mapping, *, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Simulate a data set for each parameter vector, of the size of an observed one.

    Parameters
    ----------
    model : MixtureModel
    data : mapping of str to array
        ``"y"``, (M, N, ...), and masks, as `MixtureModel.check_data` returns them. What is missing
        here is missing in the simulated data too.
    parameters : mapping of str to array
        ``{name: (M, ...)}``.
    rng : numpy.random.Generator

    Returns
    -------
    dict
        ``"y"``, (M, N, ...), ``"z"``, (M, N), and the masks of the data.

    Raises
    ------
    ValueError
        If the model's emission masks what is observed in the data.
    """
    sizes = {"num_obs": data["y"].shape[1]}
    if model.num_reps is not None:
        sizes["num_reps"] = data["y"].shape[2]
    simulated = model.simulate_data(parameters, rng=rng, **sizes)
    for key in MASKS:
        if np.any(data.get(key, True) & ~np.asarray(simulated.get(key, True), dtype=bool)):
            raise ValueError(
                f"{key}: the emission of {model.name} masks what is observed in the data, so its "
                "simulations are no replications of them. Leave masks to a model that only trains "
                "the networks, as the simulator of fit_online."
            )
    masks = {key: data[key] for key in MASKS if key in data}
    return {"y": simulated["y"], "z": simulated["z"]} | masks

"""Simulated data sets with known truth, in parts that fit memory.

Diagnostics over many data sets take what `MixtureModel.simulate` returns, or a list of such
batches, because one batch has one number of observations.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from ..models.data import KEYS, MASKS, ObservedData, require_truth

__all__ = ["parts", "simulate_like", "truth"]

DATASETS_AT_ONCE = 100
DRAWS_AT_ONCE = 20_000


def parts(model, simulated, num_samples: int = 1) -> Iterator[dict[str, np.ndarray]]:
    """Yield the data sets of one batch or of a list of batches, a few at a time, all checked.

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
        If there are no data sets, a batch lacks a parameter of the model, ``"z"``, ``"y"`` or the
        batch axis, or holds anything else; or as `MixtureModel.check_simulated`.
    """
    if not isinstance(simulated, Iterable):
        raise TypeError(
            "simulated: expected what model.simulate returns, or a list of that, "
            f"got {type(simulated).__name__}."
        )
    batches = [simulated] if isinstance(simulated, Mapping) else list(simulated)
    if not batches:
        raise ValueError("simulated: expected at least one batch of data sets, got none.")
    batches = [_checked(model, batch) for batch in batches]
    size = max(1, min(DATASETS_AT_ONCE, DRAWS_AT_ONCE // max(1, num_samples)))
    for batch in batches:
        for start in range(0, len(batch["y"]), size):
            yield {key: value[start : start + size] for key, value in batch.items()}


def _checked(model, batch: Mapping) -> dict[str, np.ndarray]:
    """A batch as `check_simulated` returns it; with a batch axis, and nothing unknown."""
    require_truth(model, batch)
    unknown = set(batch) - {*KEYS, "z", *model.parameter_names}
    if unknown:  # a misspelled mask would be left out in silence
        raise ValueError(
            f"simulated: expected parameters, 'z', 'y' and masks, got {sorted(unknown)}, too."
        )
    if np.ndim(batch["y"]) == ObservedData(model).rank - 1:
        raise ValueError(
            "simulated['y']: expected a batch of data sets, shape (B, N, ...), got one without "
            f"the axis B, shape {np.shape(batch['y'])}."
        )
    return model.check_simulated(batch)


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

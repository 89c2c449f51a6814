"""Probes: what a user's prior and emission return, found out by calling them once.

A model is made of functions. Calling them on tiny batches, with a generator of their own, gives
the shapes that everything else needs, and lets mistakes surface where the model is made.
"""

import inspect
from collections.abc import Mapping

import numpy as np

from .data import KEYS, zero_masked

__all__ = ["probe_data", "probe_emission", "probe_features", "probe_prior"]


def probe_prior(prior) -> tuple[dict[str, tuple], dict[str, np.ndarray]]:
    """Event shapes of the parameters, from two small draws, and one of these draws."""
    shapes = []
    for batch_size in (2, 3):
        parameters = prior(np.random.default_rng(0), batch_size)
        if not isinstance(parameters, Mapping) or not parameters:
            raise TypeError(
                f"prior: expected a dictionary of arrays, got {type(parameters).__name__}."
            )
        for name, value in parameters.items():
            if np.ndim(value) < 1 or len(value) != batch_size:
                raise ValueError(
                    f"prior: expected {name!r} of shape (batch_size, ...), here "
                    f"({batch_size}, ...), got {np.shape(value)}."
                )
        again = prior(np.random.default_rng(0), batch_size)
        _require_repeatable("prior", parameters, again)
        shapes.append({name: np.shape(value)[1:] for name, value in parameters.items()})
    if shapes[0] != shapes[1]:
        raise ValueError(f"prior: shapes change with the batch size: {shapes[0]}, {shapes[1]}.")
    return shapes[0], parameters


def probe_emission(model) -> tuple[int, dict[str, np.ndarray]]:
    """Number of features of an observation (or of a replicate), and a small simulation."""
    takes_reps = len(inspect.signature(model.emission).parameters) > 3
    if takes_reps != (model.num_reps is not None):
        raise ValueError(
            "emission: expected emission(rng, parameters, z, num_reps) exactly when the model "
            f"has num_reps, got num_reps={model.num_reps} and "
            f"{'a' if takes_reps else 'no'} fourth argument."
        )
    try:
        emitted = _emit(model, np.random.default_rng(0))
        simulated, again = (
            model.simulate(3, rng=np.random.default_rng(1), num_obs=model.num_obs[0])
            for _ in range(2)
        )
    except (IndexError, KeyError, ValueError) as error:
        raise ValueError(
            f"emission: failed with parameters of shapes {model.parameter_shapes} and "
            f"indicators 0 to {model.num_components - 1}: {error!r}."
        ) from error
    model.space.check({name: simulated[name] for name in model.parameter_names})
    if "y" not in emitted or set(emitted) - set(KEYS):
        raise ValueError(
            'emission: expected the key "y" and possibly "mask" or "replicate_mask", '
            f"got {sorted(emitted)}."
        )
    shape = np.shape(simulated["y"])
    base = 2 if model.num_reps is None else 3
    features = shape[base:]
    if shape[:2] != (3, model.num_obs[0]) or len(shape) < base or features[1:] or 1 in features:
        raise ValueError(
            f'emission: expected "y" of shape (B, N{", R" if base == 3 else ""}[, D]) = '
            f"(3, {model.num_obs[0]}, ...), without an axis D of length one, got {shape}."
        )
    _require_repeatable("emission", simulated, again)
    return (features[0] if features else 1), simulated


def _require_repeatable(what: str, first: Mapping, again: Mapping) -> None:
    """Refuse a function that draws from another generator than the one it is given."""
    for name, value in first.items():
        value, repeated = np.asarray(value), np.asarray(again[name])
        if not np.array_equal(value, repeated, equal_nan=value.dtype.kind == "f"):
            raise ValueError(
                f"{what}: expected the same {name!r} from generators with the same seed, got "
                "others; draw all random numbers from rng."
            )


def _emit(model, rng: np.random.Generator) -> Mapping:
    """What the emission returns on its own: in a simulation, parameters and indicators join it."""
    parameters, num_obs = model.prior(rng, 3), model.num_obs[0]
    z = model.structure.sample(rng, parameters, num_obs)
    num_reps = () if model.num_reps is None else (model.num_reps[0],)
    emitted = model.emission(rng, parameters, z, *num_reps)
    if not isinstance(emitted, Mapping):
        raise TypeError(f"emission: expected a dictionary of arrays, got {type(emitted).__name__}.")
    return emitted


def probe_data(model, simulated: dict) -> None:
    """Refuse simulated data that the model would not accept as observed ones."""
    data = {key: simulated[key] for key in KEYS if key in simulated}
    try:
        model.check_data(data)
    except ValueError as error:
        raise ValueError(f"emission: it returns bad data, {error}") from error


def probe_features(model, simulated: dict) -> int:
    """Number of features that relate an observation to its data set, from simulated data."""
    functions = {
        "observation_features": model.observation_features,
        "dataset_features": model.dataset_features,
    }
    given = {name: function for name, function in functions.items() if function is not None}
    if given and (model.num_reps is not None or "observation_features" not in given):
        wrong = "no replicates" if model.num_reps is not None else "observation_features beside it"
        raise ValueError(f"{next(iter(given))}: expected {wrong}.")
    data, sizes = zero_masked(simulated), {"dataset_features": 0}
    for name, function in given.items():
        features = np.asarray(function(data))
        if features.shape[:2] != data["y"].shape[:2] or features.ndim != 3:
            raise ValueError(
                f"{name}: expected shape (B, N, F) = {(*data['y'].shape[:2], '...')}, "
                f"got {features.shape}."
            )
        if not np.all(np.isfinite(features)):
            raise ValueError(f"{name}: expected finite numbers, got NaN or infinity.")
        if name == "observation_features":
            _require_own_features(function, data, features)
        sizes[name] = features.shape[2]
    return sizes["dataset_features"]


def _require_own_features(function, data: dict, features: np.ndarray) -> None:
    """Refuse features of an observation that change with what is observed later."""
    size = features.shape[1] // 2
    part = {name: data[name][:, :size] for name in KEYS if name in data}
    if size and not np.allclose(function(part), features[:, :size], rtol=1e-3, atol=1e-6):
        raise ValueError(
            "observation_features: expected each row to be a function of its own observation, got "
            "others for the first half of the data; see dataset_features."
        )

"""The adapter: from a model's simulations to what the networks take.

==========================  ==================================================================
``inference_variables``     unconstrained parameters u, (B, D)
``summary_variables``       observations (B, N, D), or (B, N, R, D + 1) with a last channel that
                            tells which replicates are observed
``summary_mask``            which observations are observed, (B, N); only where there are masks
``indicators``              z, (B, N)
``bounds``                  upper bounds of the parameters whose bound depends on the data, (B, P)
==========================  ==================================================================
"""

import bayesflow as bf
import keras
import numpy as np
from bayesflow.adapters.transforms import MapTransform, Transform
from bayesflow.utils.serialization import serializable, serialize

from ..models.data import zero_masked

__all__ = [
    "ObservationFeatures",
    "PackObservations",
    "RelativeToBounds",
    "Trainable",
    "append_observations",
    "make_adapter",
]


@serializable("abmtools.inference")
class RelativeToBounds(Transform):
    """Divide parameters by upper bounds that depend on the data, and hand the bounds on.

    Parameters
    ----------
    bounds : dict of str to callable
        See `abmtools.below`.
    """

    def __init__(self, bounds: dict):
        self.bounds = bounds

    def get_config(self) -> dict:
        return serialize({"bounds": self.bounds})

    def _evaluate(self, data: dict) -> dict:
        data = zero_masked(data)
        return {name: bound(data) for name, bound in self.bounds.items()}

    def forward(self, data: dict, **kwargs) -> dict:
        bounds = self._evaluate(data)
        relative = {name: data[name] / bound for name, bound in bounds.items() if name in data}
        bounds = np.stack(list(bounds.values()), axis=-1).astype("float32")
        return data | relative | {"bounds": bounds}

    def inverse(self, data: dict, **kwargs) -> dict:
        return data

    def log_det_jac(self, data: dict, log_det_jac: dict, **kwargs) -> dict:
        for name, bound in self._evaluate(data).items():
            if name in data:
                term = keras.ops.convert_to_tensor(-np.log(bound))
                log_det_jac[name] = log_det_jac[name] + term if name in log_det_jac else term
        return log_det_jac


@serializable("abmtools.inference")
class ObservationFeatures(Transform):
    """Replace ``"y"`` by a model's features of it.

    Parameters
    ----------
    functions : list of callable
        The model's `observation_features` and `dataset_features`, those that it has.
    """

    def __init__(self, functions: list):
        self.functions = functions

    def get_config(self) -> dict:
        return serialize({"functions": self.functions})

    def forward(self, data: dict, **kwargs) -> dict:
        if "y" not in data:
            return data
        given = zero_masked(data)
        features = [function(given) for function in self.functions]
        return data | {"y": np.concatenate(features, axis=-1)}

    def inverse(self, data: dict, **kwargs) -> dict:
        return data


@serializable("abmtools.inference")
class PackObservations(Transform):
    """Name data for the networks, and give ``"y"`` its feature axis and replicate channel.

    What is masked is set to zero, so that it may hold NaN, and an observation without any observed
    replicate is masked.

    Parameters
    ----------
    replicates : bool
        Whether y has a replicate axis.
    scalar : bool
        Whether an observation (or replicate) is one number without a feature axis.
    """

    NAMES = {"y": "summary_variables", "mask": "summary_mask", "z": "indicators"}

    def __init__(self, replicates: bool, scalar: bool):
        self.replicates, self.scalar = replicates, scalar

    def get_config(self) -> dict:
        return serialize({"replicates": self.replicates, "scalar": self.scalar})

    def forward(self, data: dict, **kwargs) -> dict:
        data = zero_masked(data)
        data = {self.NAMES.get(key, key): value for key, value in data.items()}
        replicate_mask = data.pop("replicate_mask", None)
        if "summary_variables" not in data:
            return data
        y = np.asarray(data["summary_variables"], dtype="float32")
        y = y[..., None] if self.scalar else y
        if self.replicates:
            observed = np.ones(y.shape[:-1]) if replicate_mask is None else replicate_mask
            y = np.concatenate([y, observed[..., None]], axis=-1)
        return data | {"summary_variables": y.astype("float32")}

    def inverse(self, data: dict, **kwargs) -> dict:
        return data


@serializable("abmtools.inference")
class Trainable(Transform):
    """Refuse batches that would train networks to NaN, or to nothing.

    Parameters
    ----------
    names : list of str
        Unconstrained coordinates.
    """

    def __init__(self, names: list):
        self.names = names

    def get_config(self) -> dict:
        return serialize({"names": self.names})

    def forward(self, data: dict, **kwargs) -> dict:
        if "inference_variables" in data:
            u = keras.ops.convert_to_numpy(data["inference_variables"])
            wrong = ~np.isfinite(u)
            if wrong.any():
                raise ValueError(
                    f"{self.names[np.argmax(wrong.any(axis=0))]}: expected finite numbers, got NaN "
                    f"or infinity in {wrong.any(axis=1).sum()} of {len(wrong)} data sets, where a "
                    "parameter is outside its constraint, or its prior returns such numbers."
                )
        wrong = ~np.isfinite(data["summary_variables"])
        if wrong.any():
            raise ValueError(
                "y: expected finite numbers where observed, got NaN or infinity in "
                f"{wrong.reshape(len(wrong), -1).any(axis=1).sum()} of {len(wrong)} data sets."
            )
        empty = ~np.any(data.get("summary_mask", True), axis=-1)
        if np.any(empty):
            raise ValueError(
                f"mask: expected an observation in each data set, got none in {empty.sum()}."
            )
        return data

    def inverse(self, data: dict, **kwargs) -> dict:
        return data


def make_adapter(model) -> bf.Adapter:
    """The BayesFlow adapter of a `MixtureModel`."""
    space = model.space
    scalars = [name for name, shape in space.shapes.items() if not shape]
    transforms = {
        name: constraint.transform
        for name, constraint in space.constraints.items()
        if constraint.transform is not None
    }
    adapter = bf.Adapter()
    if space.bounded:
        bounds = {name: space.constraints[name].bound for name in space.bounded}
        adapter.append(RelativeToBounds(bounds))
    if scalars:
        adapter.expand_dims(scalars, axis=-1)
    if transforms:
        adapter.append(MapTransform(transforms))
    adapter.concatenate(space.names, into="inference_variables")
    append_observations(adapter, model)
    adapter.append(Trainable(model.unconstrained_names))
    adapter.keep(["inference_variables", "bounds", *PackObservations.NAMES.values()])
    # BayesFlow learns the split points of `concatenate` from a first, strict pass.
    adapter(model.simulate(2, rng=np.random.default_rng(0), num_obs=model.num_obs[0]))
    return adapter


def append_observations(adapter: bf.Adapter, model) -> None:
    """Append the transforms of a model's data, which leave its parameters alone."""
    features = [x for x in (model.observation_features, model.dataset_features) if x is not None]
    if features:
        adapter.append(ObservationFeatures(features))
    scalar = model.num_features == 1 and not features
    adapter.append(PackObservations(replicates=model.num_reps is not None, scalar=scalar))

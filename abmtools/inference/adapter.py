"""The adapter: from a model's simulations to what the networks take.

==========================  ==================================================================
``inference_variables``     unconstrained parameters u, (B, D)
``summary_variables``       observations (B, N, D), or (B, N, R, D + 1) with a last channel that
                            tells which replicates are observed
``summary_mask``            which observations are observed, (B, N); only where there are masks
``indicators``              z, (B, N)
==========================  ==================================================================
"""

import bayesflow as bf
import numpy as np
from bayesflow.adapters.transforms import MapTransform, Transform
from bayesflow.utils.serialization import serializable, serialize

__all__ = ["PackObservations", "make_adapter"]


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
        data = {self.NAMES.get(key, key): value for key, value in data.items()}
        replicate_mask = data.pop("replicate_mask", None)
        if "summary_variables" not in data:
            return data
        y = np.asarray(data["summary_variables"], dtype="float32")
        y = y[..., None] if self.scalar else y
        if replicate_mask is not None:
            replicate_mask = np.asarray(replicate_mask, dtype=bool)
            observed = replicate_mask.any(axis=-1)
            data["summary_mask"] = observed & np.asarray(data.get("summary_mask", True), dtype=bool)
            y = np.where(replicate_mask[..., None], y, 0.0)
        if "summary_mask" in data:
            mask = np.asarray(data["summary_mask"], dtype=bool)
            y = np.where(mask.reshape(mask.shape + (1,) * (y.ndim - 2)), y, 0.0)
        if self.replicates:
            observed = np.ones(y.shape[:-1]) if replicate_mask is None else replicate_mask
            y = np.concatenate([y, observed[..., None]], axis=-1)
        return data | {"summary_variables": y.astype("float32")}

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
    if scalars:
        adapter.expand_dims(scalars, axis=-1)
    if transforms:
        adapter.append(MapTransform(transforms))
    adapter.concatenate(space.names, into="inference_variables")
    adapter.append(
        PackObservations(replicates=model.num_reps is not None, scalar=model.num_features == 1)
    )
    adapter.keep(["inference_variables", *PackObservations.NAMES.values()])
    # BayesFlow learns the split points of `concatenate` from a first, strict pass.
    adapter(model.prior(np.random.default_rng(0), 2))
    return adapter

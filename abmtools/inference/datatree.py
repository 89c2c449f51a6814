"""DataTree: draws and data of a mixture under ArviZ' names, with labelled dimensions."""

import numpy as np

from ..models.data import MASKS

__all__ = ["INDICATOR_DIMS", "to_datatree"]

INDICATOR_DIMS = {
    "membership": ("obs", "component"),
    "filtering": ("obs", "component"),
    "path": ("obs",),
    "most_probable_path": ("obs",),
}


def to_datatree(model, *, draws: dict, data: dict, attrs: dict, log_weights=None):
    """Label draws {name: (chain, draw, B, ...)} of a model as an ArviZ DataTree.

    The axis B is called "dataset", and dropped where there is one data set. Weights of the draws,
    (chain, draw, B), make a group of their own.
    """
    from arviz_base import from_dict  # takes longer to import than all of abmtools

    single = len(data["y"]) == 1
    dims = dict(model.parameter_dims) | INDICATOR_DIMS | {"log_weight": ()}
    named = [*draws] if log_weights is None else [*draws, "log_weight"]
    dims = {name: list(dims[name] if single else ("dataset", *dims[name])) for name in named}
    names = ["dataset", *model.observation_dims]
    dims |= {key: names[single : value.ndim] for key, value in data.items()}
    groups = {
        "posterior": {name: x[:, :, 0] if single else x for name, x in draws.items()},
        "observed_data": {key: x[0] if single else x for key, x in _observed(data).items()},
    }
    if log_weights is not None:
        groups["sample_stats"] = {"log_weight": log_weights[:, :, 0] if single else log_weights}
    coords = {
        "component": np.arange(model.num_components),
        "obs": np.arange(data["y"].shape[1]),
    }
    return from_dict(groups, dims=dims, coords=coords, attrs={"/": attrs, "posterior": attrs})


def _observed(data: dict) -> dict:
    """The data, with NaN for what is missing, where `MixtureModel.check_data` has zeros."""
    y = data["y"]
    for name in MASKS:
        if name in data:
            there = data[name].reshape(*data[name].shape, *[1] * (y.ndim - data[name].ndim))
            y = np.where(there, y, np.nan)
    return data | {"y": y}

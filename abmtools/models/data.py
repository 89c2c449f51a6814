"""Observed data: what a model accepts as a data set, checked once at the boundary.

A data set is a dictionary with ``"y"``, of shape (N,), (N, D), or (N, R[, D]) where the model has
replicates; a batch of them has a leading axis B. Missing observations are marked in ``"mask"``,
(B, N), and missing replicates in ``"replicate_mask"``, (B, N, R); True is observed. What is
masked may hold any number, NaN included: it is set to zero here and used nowhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["MASKS", "ObservedData", "require_truth", "zero_masked"]

MASKS = ("mask", "replicate_mask")
KEYS = ("y", *MASKS)


@dataclass(frozen=True)
class ObservedData:
    """The checks of `MixtureModel.check_data`.

    Parameters
    ----------
    model : MixtureModel
    """

    model: object

    def check(self, data: Mapping) -> dict[str, np.ndarray]:
        """Return validated arrays with a batch axis.

        Raises
        ------
        TypeError
            If data is not a mapping.
        ValueError
            If a key is unknown, "y" is missing, no array of real numbers, of the wrong rank, empty
            or not finite where observed, a mask has the wrong shape, an array has a mask of its
            own, or a data set has no observation at all.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"data: expected a dictionary with key 'y', got {type(data).__name__}.")
        allowed = {*KEYS, "z", *self.model.parameter_names}
        unknown = set(data) - allowed
        if unknown or "y" not in data:
            raise ValueError(
                f"data: expected the key 'y' and possibly 'mask' or 'replicate_mask', "
                f"got {sorted(data)}."
            )
        for key in KEYS:
            _refuse_masked_array(data.get(key), key)
        y = _as_numbers(data["y"])
        single = y.ndim == self.rank - 1
        checked = {
            key: np.asarray(data[key])[None] if single else np.asarray(data[key])
            for key in KEYS
            if data.get(key) is not None
        }
        checked["y"] = self._check_y(np.array(y[None] if single else y))
        for key in KEYS[1:]:
            if key in checked:
                checked[key] = self._check_mask(checked[key], key, checked["y"].shape)
        return self._check_observed(checked)

    @property
    def rank(self) -> int:
        """Number of axes of "y" with the batch axis."""
        return 2 + (self.model.num_reps is not None) + (self.model.num_features > 1)

    def _check_y(self, y: np.ndarray) -> np.ndarray:
        axes = ["B", "N"]
        axes += ["R"] if self.model.num_reps is not None else []
        axes += [str(self.model.num_features)] if self.model.num_features > 1 else []
        if y.ndim != self.rank or (
            self.model.num_features > 1 and y.shape[-1] != self.model.num_features
        ):
            raise ValueError(
                f"data['y']: expected shape ({', '.join(axes)}), or one data set without the "
                f"axis B, got {y.shape}."
            )
        if y.size == 0:
            raise ValueError(f"data['y']: expected at least one observation, got shape {y.shape}.")
        return y

    def _check_mask(self, mask: np.ndarray, key: str, shape: tuple) -> np.ndarray:
        if key == "replicate_mask" and self.model.num_reps is None:
            raise ValueError(f"data['replicate_mask']: {self.model.name} has no replicates.")
        expected = shape[: 2 if key == "mask" else 3]
        if mask.shape != expected:
            raise ValueError(f"data[{key!r}]: expected shape {expected}, got {mask.shape}.")
        if mask.dtype != bool and not np.all(np.isin(mask, (0, 1))):
            raise ValueError(f"data[{key!r}]: expected booleans (True = observed).")
        return mask.astype(bool)

    def _check_observed(self, data: dict) -> dict:
        """Zero what is masked, and refuse data sets with nothing or NaN in them."""
        zeroed = zero_masked(data)
        y, observed = zeroed["y"], zeroed.get("mask", np.ones(data["y"].shape[:2], dtype=bool))
        if not observed.all():
            data["mask"] = observed
        if not observed.any(axis=1).all():
            empty = np.flatnonzero(~observed.any(axis=1))
            raise ValueError(f"data: every observation is masked in data set(s) {empty.tolist()}.")
        if not np.all(np.isfinite(y)):
            where = np.argwhere(~np.isfinite(y))[0].tolist()
            raise ValueError(
                f"data['y']: expected finite numbers where observed, got {y[tuple(where)]} at "
                f"index {where}; mark missing values in data['mask']."
            )
        return data | {"y": y}


def require_truth(model, simulated) -> None:
    """Refuse what lacks the true parameters, "z" or "y"."""
    if not isinstance(simulated, Mapping):
        raise TypeError(
            "simulated: expected what model.simulate returns, or a list of that, "
            f"got {type(simulated).__name__}."
        )
    missing = [key for key in (*model.parameter_names, "z", "y") if key not in simulated]
    if missing:
        raise ValueError(
            f"simulated: expected the true parameters, 'z' and 'y', but {missing} "
            f"is missing from {sorted(simulated)}."
        )


def _refuse_masked_array(values, key: str) -> None:
    """NumPy would drop the masks of masked arrays, and of those in a list."""
    parts = values if isinstance(values, list | tuple) else [values]
    if any(np.ma.isMaskedArray(part) for part in parts):
        raise ValueError(
            f"data[{key!r}]: expected an array without a mask of its own, got a masked array; "
            "say in data['mask'] which observations there are (True = observed)."
        )


def _as_numbers(y) -> np.ndarray:
    """The array in double precision; NumPy would read text and times as numbers, too."""
    try:
        found = np.asarray(y)
        kind = found.dtype.kind
        text = kind in "OSU" and any(isinstance(x, str | bytes) for x in found.flat)
        if text or kind not in "biufO":
            raise TypeError(f"got {'text' if text else found.dtype}")
        return np.asarray(y, dtype="float64")
    except (TypeError, ValueError) as error:
        raise ValueError(f"data['y']: expected an array of numbers: {error}") from error


def zero_masked(data: Mapping) -> dict:
    """Data with zeros where "y" is masked, and "mask" False where no replicate is observed."""
    if "y" not in data:
        return dict(data)
    y, masks = np.asarray(data["y"]), {}
    if data.get("replicate_mask") is not None:
        observed = np.asarray(data["replicate_mask"], dtype=bool)
        y = np.where(_expand(observed, y), y, 0)
        masks["mask"] = observed.any(axis=2)
    if data.get("mask") is not None:
        masks["mask"] = np.asarray(data["mask"], dtype=bool) & masks.get("mask", True)
    if masks:
        y = np.where(_expand(masks["mask"], y), y, 0)
    return {**data, "y": y, **masks}


def _expand(mask: np.ndarray, y: np.ndarray) -> np.ndarray:
    return mask.reshape(mask.shape + (1,) * (y.ndim - mask.ndim))

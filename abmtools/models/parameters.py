r"""The parameter space: all of a model's parameters as one unconstrained vector.

A model's parameters are a dictionary such as ``{"weights": (..., K), "means": (..., K)}``. Networks
want one real vector :math:`u \in \mathbb{R}^D`. The space concatenates the parameters'
`constraints`, in the order of the prior's keys, so

.. math:: \log \left| \frac{du}{d\theta} \right| =
          \sum_{\text{parameters } p} \log \left| \frac{du_p}{d\theta_p} \right| .

Parameters with a constraint `below` a bound that the data set are transformed relative to it;
functions here take these bounds, {name: (B,)}, which `bounds` computes from the data.
"""

from collections.abc import Mapping
from types import MappingProxyType

import keras
import numpy as np

from .constraints import Constraint, unconstrained
from .data import zero_masked

__all__ = ["ParameterSpace"]

NO_BOUNDS = MappingProxyType({})


class ParameterSpace:
    """Names, shapes and constraints of a model's parameters.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Event shape of each parameter: () for a scalar, (k,) for a vector.
    constraints : mapping of str to Constraint
        Parameters that are not named are `unconstrained`.

    Raises
    ------
    ValueError
        If a constraint names no parameter, a shape has more than one axis, or a vector constraint
        meets a scalar, or a bound that depends on the data a vector.
    TypeError
        If a constraint is not a `Constraint`.
    """

    def __init__(self, shapes: Mapping[str, tuple], constraints: Mapping[str, Constraint]):
        unknown = set(constraints) - set(shapes)
        if unknown:
            raise ValueError(
                f"constraints: expected parameters of the prior {sorted(shapes)}, "
                f"got {sorted(unknown)}."
            )
        self.shapes = dict(shapes)
        self.constraints = {name: constraints.get(name, unconstrained) for name in shapes}
        for name, constraint in self.constraints.items():
            if not isinstance(constraint, Constraint):
                raise TypeError(
                    f"constraints[{name!r}]: expected an abmtools constraint such as "
                    f"abmtools.positive, got {constraint!r}."
                )
            if constraint.bound is not None and self.shapes[name]:
                raise ValueError(
                    f"prior: parameter {name!r} with constraint {constraint.name} must be a scalar "
                    f"per data set, got event shape {self.shapes[name]}."
                )
            if len(self.shapes[name]) > 1 or len(self.shapes[name]) < constraint.event_ndim:
                raise ValueError(
                    f"prior: parameter {name!r} with constraint {constraint.name} must be a "
                    f"{'vector' if constraint.event_ndim else 'scalar or a vector'} per data set, "
                    f"got event shape {self.shapes[name]}. Of a matrix let each row be a "
                    "parameter, as in Markov(['row_0', 'row_1'])."
                )
        self.sizes = {
            name: (shape[0] if shape else 1) - self.constraints[name].lost
            for name, shape in self.shapes.items()
        }
        self.size = sum(self.sizes.values())

    def describe(self) -> list:
        """Names, shapes and constraints, as JSON has them: what tells one space from another."""
        return [
            [name, list(self.shapes[name]), constraint.name]
            for name, constraint in self.constraints.items()
        ]

    @property
    def names(self) -> list[str]:
        """Names of the parameters, in order."""
        return list(self.shapes)

    @property
    def unconstrained_names(self) -> list[str]:
        """A name for each of the D unconstrained coordinates."""
        return [
            f"{name}[{i}]" if self.shapes[name] else name
            for name, size in self.sizes.items()
            for i in range(size)
        ]

    def check(self, parameters: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Validate names, shapes, common leading axes and constraints; return float64 arrays.

        Raises
        ------
        ValueError
            If a parameter is missing, unknown, of the wrong shape or outside its constraint.
        """
        if set(parameters) != set(self.shapes):
            raise ValueError(
                f"parameters: expected exactly {self.names}, got {sorted(parameters)}."
            )
        checked, leading = {}, None
        for name, shape in self.shapes.items():
            value = np.asarray(parameters[name], dtype="float64")
            if value.shape[value.ndim - len(shape) :] != shape:
                raise ValueError(
                    f"parameters[{name!r}]: expected shape (..., {', '.join(map(str, shape))}), "
                    f"got {value.shape}."
                )
            batch = value.shape[: value.ndim - len(shape)]
            if leading is not None and batch != leading:
                raise ValueError(
                    f"parameters[{name!r}]: expected leading axes {leading} as in "
                    f"{self.names[0]!r}, got {batch}."
                )
            leading = batch
            self.constraints[name].check(value, f"parameters[{name!r}]")
            checked[name] = value
        return checked

    @property
    def bounded(self) -> list[str]:
        """Names of the parameters whose upper bound depends on the data."""
        return [name for name, x in self.constraints.items() if x.bound is not None]

    def bounds(self, data: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray]:
        """Upper bounds {name: (B,)} of the parameters that have one, from data {"y": (B, N, ...)}.

        Raises
        ------
        ValueError
            If there are such parameters and no data, or a bound is not a positive number.
        """
        if not self.bounded:
            return {}
        if data is None:
            raise ValueError(f"data: expected the data set, which bounds {self.bounded}, got None.")
        found, data = {}, zero_masked(data)
        for name in self.bounded:
            bound = np.asarray(self.constraints[name].bound(data), dtype="float64")
            if bound.shape != (len(data["y"]),) or not np.all(np.isfinite(bound) & (bound > 0)):
                raise ValueError(
                    f"constraints[{name!r}]: expected a positive number for each of "
                    f"{len(data['y'])} data sets, got {bound}."
                )
            found[name] = bound
        return found

    def unconstrain(
        self, parameters: Mapping[str, np.ndarray], bounds: Mapping = NO_BOUNDS
    ) -> np.ndarray:
        """Map parameters ``{name: (..., *shape)}`` to u, (..., D), float64.

        With bounds, the first of the leading axes is that of the data sets.

        Raises
        ------
        ValueError
            As `check`, and if a parameter is not below its bound.
        """
        parts = []
        for name, value in self.check(parameters).items():
            if name in bounds:
                value = value / _along(bounds[name], value)
                if not np.all(value < 1):
                    raise ValueError(
                        f"parameters[{name!r}]: expected values below the data's bound, got "
                        f"{value.max()} times it."
                    )
            parts.append(
                _numpy(self.constraints[name].unconstrain(self._at_least_vector(name, value)))
            )
        return np.concatenate(parts, axis=-1)

    def constrain(self, u, bounds: Mapping = NO_BOUNDS) -> dict:
        """Map u, (..., D), to parameters ``{name: (..., *shape)}``; the inverse of `unconstrain`.

        NumPy in, NumPy out; a backend tensor in gives tensors out, differentiably.
        """
        if u.shape[-1] != self.size:
            raise ValueError(f"u: expected a last axis of {self.size}, got shape {tuple(u.shape)}.")
        parameters, start = {}, 0
        for name, size in self.sizes.items():
            value = self.constraints[name].constrain(u[..., start : start + size])
            value = value if self.shapes[name] else value[..., 0]
            value = _numpy(value) if isinstance(u, np.ndarray) else value
            parameters[name] = value * _along(bounds[name], value) if name in bounds else value
            start += size
        return parameters

    def log_det_jacobian(
        self, parameters: Mapping[str, np.ndarray], bounds: Mapping = NO_BOUNDS
    ) -> np.ndarray:
        """``log |du / dtheta|`` of each parameter vector, shape (...)."""
        total = 0.0
        for name, value in self.check(parameters).items():
            constraint = self.constraints[name]
            if name in bounds:
                bound = _along(bounds[name], value)
                value, total = value / bound, total - np.log(bound)
            terms = _numpy(constraint.log_det_jacobian(self._at_least_vector(name, value)))
            total = total + (terms if constraint.event_ndim else terms.sum(axis=-1))
        return total

    def _at_least_vector(self, name: str, value: np.ndarray) -> np.ndarray:
        return value if self.shapes[name] else value[..., None]


def _along(bound, value):
    """Bounds (B,) as (B, 1, ...), to go with values (B, ...)."""
    return bound.reshape(bound.shape + (1,) * (len(value.shape) - 1))


def _numpy(x) -> np.ndarray:
    return keras.ops.convert_to_numpy(x)

r"""Constraints: bijections between the parameters' own space and the real numbers.

The posterior network works on real numbers, so each parameter :math:`\theta` is written as
:math:`\theta = g(u)` with an unconstrained :math:`u`. Densities change by the Jacobian,

.. math:: p(u) = p(\theta) \, \left| \frac{d\theta}{du} \right|, \qquad
          \log p(u) = \log p(\theta) - \log \left| \frac{du}{d\theta} \right| .

:meth:`Constraint.log_det_jacobian` is :math:`\log |du / d\theta|`.

==================  ==================================================================
`positive`          :math:`u = \log\theta`
`interval`          :math:`u = \operatorname{logit} ((\theta - a) / (b - a))`
`simplex`           stick breaking, :math:`u_k = \log \theta_k - \log \sum_{j > k} \theta_j
                    + \log(K - k)` for :math:`k < K`, so that equal weights map to zero
`ordered`           :math:`u_1 = \theta_1`, :math:`u_k = \log(\theta_k - \theta_{k-1})`
`positive_ordered`  :math:`u_1 = \log\theta_1`, :math:`u_k = \log(\theta_k - \theta_{k-1})`
`below`             :math:`u = \operatorname{logit} (\theta / b(y))`, with a bound that
                    depends on the data
==================  ==================================================================

Where the bound of a parameter depends on the data, as that of a time by which the fastest response
is known to come later, the density of u is still one of the parameter: b(y) is a constant once the
data are known, and adds :math:`-\log b(y)` to :math:`\log |du / d\theta|`.

The elementwise ones are BayesFlow's own adapter transforms. `StickBreaking` is BayesFlow's
``AsSimplex(method="stick")`` in the log domain, where a weight next to one stays finite in float32.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import keras
import numpy as np
from bayesflow.adapters.transforms import Constrain
from bayesflow.adapters.transforms.elementwise_transform import ElementwiseTransform
from bayesflow.utils.serialization import deserialize, serializable, serialize

__all__ = [
    "Bounded",
    "Constraint",
    "Ordered",
    "PositiveOrdered",
    "StickBreaking",
    "below",
    "interval",
    "ordered",
    "positive",
    "positive_ordered",
    "simplex",
    "unconstrained",
]


@serializable("abmtools.models")
class Bounded(Constrain):
    """BayesFlow's `Constrain`, pickled by its bounds because pickle refuses its local functions."""

    def __reduce__(self):
        return deserialize, (serialize(self),)


@serializable("abmtools.models")
class Ordered(ElementwiseTransform):
    """Map an increasing vector to its first element and the logarithms of its steps.

    A BayesFlow adapter transform along the last axis; the inverse of Stan's ``ordered`` type.
    """

    def get_config(self) -> dict:
        return serialize({})

    def forward(self, data, **kwargs):
        steps = data[..., 1:] - data[..., :-1]
        return keras.ops.concatenate([data[..., :1], keras.ops.log(steps)], axis=-1)

    def inverse(self, data, **kwargs):
        steps = keras.ops.concatenate([data[..., :1], keras.ops.exp(data[..., 1:])], axis=-1)
        return _cumulative(steps)

    def ldj(self, data):
        return -keras.ops.sum(keras.ops.log(data[..., 1:] - data[..., :-1]), axis=-1)

    def log_det_jac(self, data, inverse: bool = False, **kwargs):
        ldj = self._sum_except_batch(self.ldj(data))
        return -ldj if inverse else ldj


@serializable("abmtools.models")
class PositiveOrdered(Ordered):
    """Map an increasing vector of positive numbers to the logarithms of its steps from zero.

    A BayesFlow adapter transform along the last axis; the inverse of Stan's ``positive_ordered``.
    """

    def forward(self, data, **kwargs):
        u = super().forward(data)
        return keras.ops.concatenate([keras.ops.log(u[..., :1]), u[..., 1:]], axis=-1)

    def inverse(self, data, **kwargs):
        return _cumulative(keras.ops.exp(data))

    def ldj(self, data):
        return super().ldj(data) - keras.ops.log(data[..., 0])


@serializable("abmtools.models")
class StickBreaking(ElementwiseTransform):
    r"""Map K positive weights that sum to one to K - 1 real numbers, and back.

    With :math:`v_k = u_k - \log(K - k)` weight k is the part :math:`\sigma(v_k)` of the stick that
    is left, so :math:`\log\theta_k = \log\sigma(v_k) + \sum_{j<k} \log\sigma(-v_j)`. The Jacobian
    is triangular and telescopes: :math:`\log|du / d\theta| = -\sum_{k=1}^K \log\theta_k`.
    """

    def get_config(self) -> dict:
        return serialize({})

    def forward(self, data, **kwargs):
        rest = keras.ops.flip(_cumulative(keras.ops.flip(data, axis=-1)), axis=-1)[..., 1:]
        offset = _log_sticks_left(rest)
        return keras.ops.log(data[..., :-1]) - keras.ops.log(rest) + offset

    def inverse(self, data, **kwargs):
        data = keras.ops.convert_to_tensor(data)  # in JAX's precision, where that is float32
        v = data - _log_sticks_left(data)
        whole = keras.ops.sum(keras.ops.zeros_like(v), axis=-1, keepdims=True)  # also where K = 1
        left = [whole, _cumulative(keras.ops.log_sigmoid(-v))]
        left = keras.ops.concatenate(left, axis=-1)
        log_first = keras.ops.log_sigmoid(v) + left[..., :-1]
        return keras.ops.exp(keras.ops.concatenate([log_first, left[..., -1:]], axis=-1))

    def ldj(self, data):
        return -keras.ops.sum(keras.ops.log(data), axis=-1)

    def log_det_jac(self, data, inverse: bool = False, **kwargs):
        ldj = self._sum_except_batch(self.ldj(data))
        return -ldj if inverse else ldj


def _log_sticks_left(x):
    """log(K - k) for k = 1, ..., K - 1, in the precision of x, (..., K - 1)."""
    size = x.shape[-1]
    return keras.ops.log(keras.ops.arange(size, 0, -1, dtype=keras.ops.dtype(x)))


def _cumulative(x):
    """Cumulative sum along the last axis in the precision of x; keras.ops.cumsum has float32."""
    sums = [x[..., :1]]
    for k in range(1, x.shape[-1]):
        sums.append(sums[-1] + x[..., k : k + 1])
    return keras.ops.concatenate(sums, axis=-1)


@dataclass(frozen=True)
class Constraint:
    """A named bijection from a constrained parameter to real numbers.

    Parameters
    ----------
    name : str
        Name used in messages.
    transform : ElementwiseTransform or None
        BayesFlow adapter transform; ``None`` is the identity.
    event_ndim : {0, 1}
        Number of trailing axes that the transform couples (1 for `simplex` and `ordered`).
    lost : int
        By how much the last axis shrinks when the constraint is removed (1 for `simplex`).
    inside : callable
        ``inside(x)`` tells, elementwise over the leading axes, whether x obeys the constraint.
    requirement : str
        What `inside` tests, in words.
    bound : callable, optional
        ``bound(data)`` returns an upper bound b for each data set, (B,), from NumPy arrays
        ``{"y": (B, N, ...)}`` and masks. The transform then is that of the parameter over b.

    Examples
    --------
    >>> import numpy as np
    >>> from abmtools import ordered
    >>> from keras.ops import convert_to_numpy
    >>> u = ordered.unconstrain(np.array([1.0, 2.0, 3.0]))
    >>> convert_to_numpy(u).tolist()
    [1.0, 0.0, 0.0]
    >>> convert_to_numpy(ordered.constrain(u)).tolist()
    [1.0, 2.0, 3.0]
    """

    name: str
    transform: ElementwiseTransform | None
    event_ndim: int
    lost: int
    inside: Callable
    requirement: str
    bound: Callable | None = None

    def __repr__(self) -> str:
        return f"abmtools.{self.name}"

    def check(self, x: np.ndarray, argument: str = "x") -> None:
        """Raise a ValueError that names `argument` unless every value obeys the constraint."""
        x = np.asarray(x)
        if x.ndim < self.event_ndim:
            raise ValueError(f"{argument}: expected a vector ({self.name}), got a scalar.")
        if not np.all(np.isfinite(x)):
            raise ValueError(f"{argument}: expected finite numbers, got NaN or infinity.")
        if not np.all(self.inside(x)):
            raise ValueError(f"{argument}: expected {self.requirement}, got {_first(x, self)}.")

    def unconstrain(self, x):
        """Map the parameter x, (..., k), to u, (..., k - lost)."""
        return x if self.transform is None else self.transform.forward(x)

    def constrain(self, u):
        """Map unconstrained u to the parameter; the inverse of `unconstrain`."""
        return u if self.transform is None else self.transform.inverse(u)

    def log_det_jacobian(self, x):
        """``log |du / dx|`` of each event, shape x.shape[: x.ndim - event_ndim]."""
        if self.transform is None:
            return keras.ops.zeros_like(x)
        return self.transform.ldj(keras.ops.convert_to_tensor(x))


def _first(x: np.ndarray, constraint: Constraint) -> str:
    """The first offending value, for messages."""
    bad = ~np.asarray(constraint.inside(x))
    events = x.reshape(bad.size, *x.shape[x.ndim - constraint.event_ndim :])
    return np.array2string(events[bad.ravel()][0], precision=6)


# What constraints test. Functions with a name, because pickle knows no others.


def _is_positive(x: np.ndarray) -> np.ndarray:
    return x > 0


def _is_between(lower: float, upper: float, x: np.ndarray) -> np.ndarray:
    return (lower < x) & (x < upper)


def _is_simplex(x: np.ndarray) -> np.ndarray:
    return np.all(x > 0, axis=-1) & (np.abs(np.sum(x, axis=-1) - 1) < 1e-5)


def _is_increasing(x: np.ndarray) -> np.ndarray:
    return np.all(np.diff(x, axis=-1) > 0, axis=-1)


def _is_positive_increasing(x: np.ndarray) -> np.ndarray:
    return np.all(np.diff(x, axis=-1, prepend=0.0) > 0, axis=-1)


def interval(lower: float, upper: float) -> Constraint:
    """Constrain to the open interval (lower, upper) by a logit.

    Raises
    ------
    ValueError
        If the bounds are not finite or lower >= upper.

    Examples
    --------
    >>> import numpy as np
    >>> from abmtools import interval
    >>> share = interval(0.0, 0.5)
    >>> share.inside(np.array([0.2, 0.7]))
    array([ True, False])
    """
    if not (np.isfinite(lower) and np.isfinite(upper) and lower < upper):
        raise ValueError(f"interval: expected finite lower < upper, got ({lower}, {upper}).")
    return Constraint(
        name=f"interval({lower}, {upper})",
        transform=Bounded(lower=float(lower), upper=float(upper), inclusive="none"),
        event_ndim=0,
        lost=0,
        inside=partial(_is_between, lower, upper),
        requirement=f"values strictly between {lower} and {upper}",
    )


def below(bound: Callable) -> Constraint:
    """Constrain a scalar to lie between zero and a bound that depends on the data, by a logit.

    Parameters
    ----------
    bound : callable
        ``bound(data)`` returns a positive number for each data set, (B,), from NumPy arrays:
        ``"y"``, (B, N, ...), and, where observations are missing, ``"mask"``, (B, N).

    Raises
    ------
    TypeError
        If it is not callable.

    Examples
    --------
    >>> import numpy as np
    >>> from abmtools import below
    >>> def fastest(data):
    ...     return data["y"].min(axis=1)
    >>> constraints = {"non_decision_time": below(fastest)}
    >>> constraints["non_decision_time"].bound({"y": np.array([[0.3, 0.5], [0.9, 0.4]])})
    array([0.3, 0.4])
    """
    if not callable(bound):
        raise TypeError(f"bound: expected a function of the data, got {type(bound).__name__}.")
    return Constraint(
        name="below",
        transform=Bounded(lower=0.0, upper=1.0, inclusive="none"),
        event_ndim=0,
        lost=0,
        inside=_is_positive,
        requirement="positive values",
        bound=bound,
    )


#: Any finite numbers, in any shape, such as a location.
unconstrained = Constraint("unconstrained", None, 0, 0, np.isfinite, "finite numbers")

#: Positive numbers, in any shape, such as a scale.
positive = Constraint(
    name="positive",
    transform=Bounded(lower=0.0, method="exp", inclusive="none"),
    event_ndim=0,
    lost=0,
    inside=_is_positive,
    requirement="positive values",
)

#: Positive numbers that add up to one, (K,), such as mixture weights.
simplex = Constraint(
    name="simplex",
    transform=StickBreaking(),
    event_ndim=1,
    lost=1,
    inside=_is_simplex,
    requirement="positive values that sum to one along the last axis",
)

#: Numbers in increasing order, (K,), such as the means of components.
ordered = Constraint(
    name="ordered",
    transform=Ordered(),
    event_ndim=1,
    lost=0,
    inside=_is_increasing,
    requirement="values that increase strictly along the last axis",
)

#: Positive numbers in increasing order, (K,), such as thresholds.
positive_ordered = Constraint(
    name="positive_ordered",
    transform=PositiveOrdered(),
    event_ndim=1,
    lost=0,
    inside=_is_positive_increasing,
    requirement="positive values that increase strictly along the last axis",
)

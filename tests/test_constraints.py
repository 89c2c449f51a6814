"""Constraints: bijections, their Jacobians, their domains; and the space of all parameters."""

from dataclasses import dataclass

import keras
import numpy as np
import pytest
import torch
from bayesflow.utils.serialization import deserialize, serialize
from conftest import to_numpy

from abmtools.models import constraints
from abmtools.models.constraints import (
    below,
    interval,
    ordered,
    positive,
    positive_ordered,
    simplex,
    unconstrained,
)
from abmtools.models.parameters import ParameterSpace


@dataclass
class Case:
    """A constraint, the length of its vectors (None: scalars) and a way to draw values."""

    constraint: constraints.Constraint
    size: int | None
    draw: object

    def values(self, rng, *leading):
        return self.draw(rng, (*leading, *(() if self.size is None else (self.size,))))


CASES = {
    "positive": Case(positive, None, lambda rng, shape: rng.gamma(2.0, size=shape)),
    "positive vector": Case(positive, 3, lambda rng, shape: rng.gamma(0.2, size=shape)),
    "interval": Case(interval(-1, 3), None, lambda rng, shape: rng.uniform(-1, 3, shape)),
    "unconstrained": Case(unconstrained, 2, lambda rng, shape: rng.normal(size=shape)),
    **{
        f"simplex of {k}": Case(simplex, k, lambda rng, s: rng.dirichlet(np.full(s[-1], 2), s[:-1]))
        for k in (2, 3, 6)
    },
    "sparse simplex": Case(simplex, 4, lambda rng, s: rng.dirichlet(np.full(s[-1], 0.2), s[:-1])),
    **{
        f"ordered {k}": Case(
            ordered, k, lambda rng, shape: np.sort(rng.normal(size=shape), axis=-1)
        )
        for k in (1, 2, 5)
    },
    **{
        f"positive_ordered {k}": Case(
            positive_ordered, k, lambda rng, shape: rng.gamma(1.0, size=shape).cumsum(axis=-1)
        )
        for k in (1, 3)
    },
}
VECTORS = [name for name, case in CASES.items() if case.constraint.event_ndim]


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return CASES[request.param]


def test_round_trip_from_parameter(case, rng):
    x = case.values(rng, 50, 4)
    u = to_numpy(case.constraint.unconstrain(x))
    assert u.dtype == np.float64
    shorter = x.shape if not case.constraint.lost else (*x.shape[:-1], x.shape[-1] - 1)
    assert u.shape == shorter
    back = to_numpy(case.constraint.constrain(u))
    assert back.dtype == np.float64
    np.testing.assert_allclose(back, x, rtol=1e-10, atol=1e-12)


def test_round_trip_from_real_numbers(case, rng):
    x = case.values(rng, 50)
    u = 2.0 * rng.normal(size=np.shape(to_numpy(case.constraint.unconstrain(x))))
    x = to_numpy(case.constraint.constrain(u))
    case.constraint.check(x)
    np.testing.assert_allclose(to_numpy(case.constraint.unconstrain(x)), u, atol=1e-10)


def test_tensors_keep_their_precision(case, rng):
    x = keras.ops.convert_to_tensor(case.values(rng, 5), dtype="float32")
    u = case.constraint.unconstrain(x)
    assert u.dtype == case.constraint.constrain(u).dtype == torch.float32


def numerical_log_det(constraint, x, step=1e-6):
    """log |du / dx| of one event by central differences; a simplex has K - 1 coordinates."""
    free = len(x) - constraint.lost
    columns = []
    for j in range(free):
        shift = np.zeros_like(x)
        shift[j] = step * x[j] if constraint.lost else step
        shift[-1] -= shift[j] if constraint.lost else 0.0
        difference = to_numpy(constraint.unconstrain(x + shift)) - to_numpy(
            constraint.unconstrain(x - shift)
        )
        columns.append(difference / (2 * shift[j]))
    return np.linalg.slogdet(np.stack(columns, axis=1))[1]


@pytest.mark.parametrize("name", [name for name in VECTORS if name != "sparse simplex"])
def test_log_det_jacobian_of_vectors(name, rng):
    constraint = CASES[name].constraint
    x = CASES[name].values(rng, 8)
    log_det = to_numpy(constraint.log_det_jacobian(x))
    assert log_det.shape == (8,)
    assert log_det.dtype == np.float64
    np.testing.assert_allclose(
        log_det, [numerical_log_det(constraint, row) for row in x], atol=1e-6
    )


@pytest.mark.parametrize("name", ["positive", "positive vector", "interval", "unconstrained"])
def test_log_det_jacobian_of_numbers(name, rng):
    constraint = CASES[name].constraint
    x = CASES[name].values(rng, 8)
    step = 1e-6 * np.minimum(1, np.abs(x))
    up, down = (to_numpy(constraint.unconstrain(x + sign * step)) for sign in (1, -1))
    log_det = to_numpy(constraint.log_det_jacobian(x))
    assert log_det.shape == x.shape
    np.testing.assert_allclose(log_det, np.log((up - down) / (2 * step)), atol=1e-6)


@pytest.mark.parametrize("name", [name for name in CASES if name != "unconstrained"])
def test_bayesflow_transform(name, rng):
    """As an adapter transform: both signs of the Jacobian, one number per data set."""
    case = CASES[name]
    x = case.values(rng, 6)
    transform = case.constraint.transform
    log_det = to_numpy(transform.log_det_jac(x))
    per_event = to_numpy(case.constraint.log_det_jacobian(x))
    np.testing.assert_allclose(log_det, per_event.reshape(6, -1).sum(axis=1))
    np.testing.assert_allclose(to_numpy(transform.log_det_jac(x, inverse=True)), -log_det)
    copy = deserialize(serialize(transform))
    np.testing.assert_array_equal(to_numpy(copy.forward(x)), to_numpy(transform.forward(x)))


def test_equal_weights_are_zero():
    np.testing.assert_allclose(to_numpy(simplex.unconstrain(np.full(5, 0.2))), 0.0, atol=1e-14)


@pytest.mark.parametrize("u", [-80.0, -20.0, 20.0, 80.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_simplex_far_out(u, dtype):
    """One weight next to zero or one: nothing overflows, and the sum stays one."""
    for row in np.eye(3, dtype=dtype) * u:
        x = to_numpy(simplex.constrain(row))
        assert x.dtype == dtype
        assert np.all(np.isfinite(x))
        assert x.sum() == pytest.approx(1.0, abs=1e-6)


def test_simplex_with_tiny_weights():
    for x in ([1 - 2e-18, 1e-18, 1e-18], [0.5, 0.5, 1e-200], [1e-200, 1e-100, 1.0]):
        u = simplex.unconstrain(np.array(x))
        np.testing.assert_allclose(to_numpy(simplex.constrain(u)), x, rtol=1e-10)
        np.testing.assert_allclose(
            to_numpy(simplex.log_det_jacobian(np.array(x))), -np.log(x).sum(), rtol=1e-12
        )


OUTSIDE = {
    "zero": (positive, [1.0, 0.0], r"theta: expected positive values, got 0\."),
    "negative": (positive, [[1.0], [-2.5]], r"got -2\.5"),
    "lower bound": (interval(0, 1), [0.5, 0.0], r"strictly between 0 and 1, got 0\."),
    "above": (interval(-2, 1), 1.5, r"strictly between -2 and 1, got 1\.5"),
    "sum": (
        simplex,
        [[0.5, 0.5], [0.5, 0.6]],
        r"sum to one along the last axis, got \[0\.5 0\.6\]",
    ),
    "zero weight": (simplex, [0.0, 1.0], r"positive values that sum to one"),
    "decreasing": (ordered, [[0.0, 1.0], [1.0, 0.0]], r"increase strictly.*got \[1\. 0\.\]"),
    "ties": (ordered, [1.0, 1.0, 2.0], r"increase strictly"),
    "NaN": (unconstrained, [0.0, np.nan], r"theta: expected finite numbers"),
    "infinity": (positive, [1.0, np.inf], r"theta: expected finite numbers"),
    "scalar simplex": (simplex, 1.0, r"theta: expected a vector \(simplex\), got a scalar"),
    "scalar order": (ordered, 1.0, r"theta: expected a vector \(ordered\), got a scalar"),
}


@pytest.mark.parametrize(("constraint", "value", "match"), OUTSIDE.values(), ids=OUTSIDE)
def test_outside_of_domain(constraint, value, match):
    with pytest.raises(ValueError, match=match):
        constraint.check(value, "theta")


@pytest.mark.parametrize("bounds", [(1, 1), (2, 1), (0, np.inf), (np.nan, 1)], ids=str)
def test_bad_interval(bounds):
    with pytest.raises(ValueError, match="interval: expected finite lower < upper"):
        interval(*bounds)


def test_repr():
    assert repr(simplex) == "abmtools.simplex"
    assert repr(interval(0, 2)) == "abmtools.interval(0, 2)"


# --- all parameters at once ------------------------------------------------------------------

SHAPES = {"weights": (3,), "means": (2,), "sigma": (), "shift": (), "rates": (2,)}
CONSTRAINTS = {
    "weights": simplex,
    "means": ordered,
    "sigma": positive,
    "rates": interval(0.0, 2.0),
}


@pytest.fixture
def space():
    return ParameterSpace(SHAPES, CONSTRAINTS)


def draw_parameters(rng, *leading):
    return {
        "weights": rng.dirichlet([1, 2, 3], leading),
        "means": np.sort(rng.normal(size=(*leading, 2)), axis=-1),
        "sigma": rng.gamma(2.0, size=leading),
        "shift": rng.normal(size=leading),
        "rates": rng.uniform(0, 2, (*leading, 2)),
    }


@pytest.mark.parametrize("leading", [(), (4,), (4, 3)], ids=str)
def test_space_round_trip(space, rng, leading):
    parameters = draw_parameters(rng, *leading)
    u = space.unconstrain(parameters)
    assert u.shape == (*leading, space.size)
    assert u.dtype == np.float64
    back = space.constrain(u)
    assert list(back) == list(SHAPES)
    for name, value in parameters.items():
        assert back[name].dtype == np.float64
        np.testing.assert_allclose(back[name], value, rtol=1e-10, err_msg=name)
    np.testing.assert_allclose(space.unconstrain(back), u, atol=1e-10)


def test_space_names(space):
    assert space.size == len(space.unconstrained_names) == 2 + 2 + 1 + 1 + 2
    assert space.unconstrained_names[:5] == [
        "weights[0]", "weights[1]", "means[0]", "means[1]", "sigma"
    ]  # fmt: skip


def test_space_log_det_is_the_sum(space, rng):
    parameters = draw_parameters(rng, 4, 3)
    parts = [
        CONSTRAINTS.get(name, unconstrained).log_det_jacobian(value)
        for name, value in parameters.items()
    ]
    expected = sum(to_numpy(part).reshape(4, 3, -1).sum(axis=-1) for part in parts)
    np.testing.assert_allclose(space.log_det_jacobian(parameters), expected)


def test_space_is_differentiable(space):
    with torch.enable_grad():
        u = torch.zeros((2, space.size), requires_grad=True)
        total = sum((value**2).sum() for value in space.constrain(u).values())
        total.backward()
    assert torch.all(torch.isfinite(u.grad))


BAD_SPACES = {
    "unknown name": ({"sigma": ()}, {"tau": positive}, ValueError, r"got \['tau'\]"),
    "no constraint": ({"sigma": ()}, {"sigma": "positive"}, TypeError, r"got 'positive'"),
    "scalar simplex": ({"w": ()}, {"w": simplex}, ValueError, r"'w' .*must be a vector"),
    "bounded vector": ({"t": (2,)}, {"t": below(len)}, ValueError, r"'t' .*must be a scalar"),
    "matrix": ({"w": (2, 2)}, {}, ValueError, r"must be a scalar or a vector.*\(2, 2\)"),
}


@pytest.mark.parametrize(("shapes", "given", "error", "match"), BAD_SPACES.values(), ids=BAD_SPACES)
def test_bad_space(shapes, given, error, match):
    with pytest.raises(error, match=match):
        ParameterSpace(shapes, given)


BAD_PARAMETERS = {
    "missing": (
        {"sigma": None},
        r"expected exactly .* got \['means', 'rates', 'shift', 'weights'\]",
    ),
    "unknown": ({"tau": 1.0}, r"expected exactly"),
    "shape": ({"means": np.zeros((4, 3))}, r"parameters\['means'\]: expected shape \(\.\.\., 2\)"),
    "leading axes": ({"shift": np.zeros(5)}, r"'shift'\]: expected leading axes \(4,\)"),
    "domain": ({"sigma": -np.ones(4)}, r"parameters\['sigma'\]: expected positive values, got -1"),
    "weights": ({"weights": np.full((4, 3), 0.5)}, r"'weights'\]: .* sum to one"),
}


@pytest.mark.parametrize(("change", "match"), BAD_PARAMETERS.values(), ids=BAD_PARAMETERS)
def test_bad_parameters(space, rng, change, match):
    parameters = draw_parameters(rng, 4) | change
    parameters = {name: value for name, value in parameters.items() if value is not None}
    for function in (space.check, space.unconstrain, space.log_det_jacobian):
        with pytest.raises(ValueError, match=match):
            function(parameters)


def test_bad_unconstrained_vector(space):
    with pytest.raises(ValueError, match=r"u: expected a last axis of 8, got shape \(4, 7\)"):
        space.constrain(np.zeros((4, 7)))


def largest(data):
    return np.abs(data["y"]).max(axis=1)


def test_bounds_that_depend_on_the_data(rng):
    space = ParameterSpace({"rate": (), "shift": ()}, {"rate": positive, "shift": below(largest)})
    data = {"y": rng.normal(size=(4, 9))}
    bounds = space.bounds(data)
    share = rng.uniform(size=(4, 5))
    parameters = {"rate": rng.gamma(2, size=(4, 5)), "shift": share * largest(data)[:, None]}
    u = space.unconstrain(parameters, bounds)
    np.testing.assert_allclose(u[..., 1], np.log(share) - np.log1p(-share))
    back = space.constrain(u, bounds)
    for name, value in parameters.items():
        np.testing.assert_allclose(back[name], value)
    step = 1e-6 * parameters["shift"]
    moved = parameters | {"shift": parameters["shift"] + step}
    slope = (space.unconstrain(moved, bounds) - u)[..., 1] / step
    expected = np.log(slope) - np.log(parameters["rate"])
    np.testing.assert_allclose(space.log_det_jacobian(parameters, bounds), expected, atol=1e-3)


def test_bad_bounds():
    space = ParameterSpace({"shift": ()}, {"shift": below(largest)})
    with pytest.raises(ValueError, match="data: expected the data set, which bounds"):
        space.bounds(None)
    with pytest.raises(ValueError, match=r"constraints\['shift'\]: expected a positive number"):
        space.bounds({"y": np.zeros((2, 3))})
    bounds = space.bounds({"y": np.ones((2, 3))})
    with pytest.raises(ValueError, match=r"below the data's bound, got 1\.5 times it"):
        space.unconstrain({"shift": np.array([0.5, 1.5])}, bounds)
    with pytest.raises(TypeError, match="bound: expected a function of the data, got float"):
        below(1.0)

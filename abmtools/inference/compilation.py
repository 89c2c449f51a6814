"""Compilation: on JAX, what the networks compute becomes a few programs.

JAX starts each operation anew, which takes longer than the arithmetic of a narrow network; a method
that is compiled starts once. A program fits one set of shapes, so the first call with others takes
seconds. Weights are arguments of the program, not constants in it, so it goes on to fit while they
are trained.
"""

import functools
from collections.abc import Callable

import keras

__all__ = ["compiled"]

PROGRAMS = "_programs"  # in a layer's __dict__: nothing for Keras to track, save or restore


def compiled(method: Callable) -> Callable:
    """A method of a Keras layer as one program on JAX; on other backends the method itself.

    Parameters
    ----------
    method : callable
        ``method(layer, *arrays, seed=..., **static)``. It may read the layer's weights, and the
        arrays, which may be nested in dictionaries. Other numbers it takes by keyword; each value
        has a program of its own. It draws random numbers from ``seed``, a
        ``keras.random.SeedGenerator``, if it has that argument, and changes nothing else.

    Returns
    -------
    callable
        With the same arguments, and the method as ``__wrapped__``.
    """
    if keras.backend.backend() != "jax":
        return method

    @functools.wraps(method)
    def run(layer, *arrays, seed=None, **static):
        programs = layer.__dict__.setdefault(PROGRAMS, {})
        if method.__name__ not in programs:
            programs[method.__name__] = _make_program(layer, method)
        variables, program = programs[method.__name__]
        weights = [variable.value for variable in variables]
        state = None if seed is None else seed.state.value
        found, state = program(weights, state, arrays, (*static.items(),))
        if seed is not None:
            seed.state.assign(state)
        return found

    return run


def _make_program(layer, method: Callable) -> tuple[list, Callable]:
    """The layer's variables, of which it takes the values, and the program.

    From these, a generator's state, arrays and other arguments to a result and a new state.
    """
    import jax

    variables = layer.weights
    generator = keras.random.SeedGenerator(0)  # stands for the caller's, which changes

    @functools.partial(jax.jit, static_argnums=3)
    def program(weights, state, arrays, static):
        mapping, options = [*zip(variables, weights, strict=True)], dict(static)
        if state is not None:
            mapping.append((generator.state, state))
            options["seed"] = generator
        with keras.StatelessScope(state_mapping=mapping) as scope:
            found = method(layer, *arrays, **options)
            return found, None if state is None else scope.get_current_value(generator.state)

    return variables, program

"""Seeds: what a user gives, checked in one place, and what Keras takes."""

import keras
import numpy as np

__all__ = ["check_seed", "fold_seed", "seed_keras"]

GLOBAL_BITS = 32  # of Keras' global seed, which is NumPy's, too
GENERATOR_BITS = 31  # of a generator of Keras: on torch its state is of signed integers


def check_seed(seed) -> int:
    """A seed as an integer of Python's.

    Raises
    ------
    TypeError
        If it is no integer; a truth value is none.
    ValueError
        If it is negative.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"seed: expected a non-negative integer, got {seed!r}.")
    if seed < 0:
        raise ValueError(f"seed: expected a non-negative integer, got {seed}.")
    return int(seed)


def fold_seed(seed, num_bits: int = GENERATOR_BITS) -> int:
    """A checked seed of so many bits, 32 at most: a small one as it is, of a larger one a hash.

    Raises
    ------
    TypeError, ValueError
        See `check_seed`.
    """
    seed = check_seed(seed)
    if seed < 2**num_bits:
        return seed
    return int(np.random.SeedSequence(seed).generate_state(1)[0]) >> (32 - num_bits)


def seed_keras(seed) -> None:
    """Set the global seed, from which Keras' initializers draw theirs; None leaves it alone.

    Raises
    ------
    TypeError, ValueError
        See `check_seed`.
    """
    if seed is not None:
        keras.utils.set_random_seed(fold_seed(seed, GLOBAL_BITS))

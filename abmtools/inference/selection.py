"""Selection: which of several data sets an index means."""

import numpy as np

__all__ = ["select_datasets"]


def select_datasets(index, num_datasets: int) -> slice | np.ndarray:
    """What an index selects along the axis B, which stays.

    Parameters
    ----------
    index : int, slice, or list or array of int or bool
    num_datasets : int

    Raises
    ------
    IndexError
        If there is no such data set.
    TypeError
        If the index is anything else.
    """
    if isinstance(index, int | np.integer) and not isinstance(index, bool):
        if not -num_datasets <= index < num_datasets:
            raise IndexError(f"dataset {index} is out of range for {num_datasets} data sets.")
        return slice(index % num_datasets, index % num_datasets + 1)
    if isinstance(index, slice):
        return index
    chosen = None if isinstance(index, tuple) else np.asarray(index)
    if chosen is None or chosen.ndim != 1 or chosen.dtype.kind not in "iub":
        raise TypeError(
            "index: expected an integer, a slice, or a list of integers or booleans of data sets, "
            f"got {index!r}. with_equal_weights(n) thins draws."
        )
    return chosen

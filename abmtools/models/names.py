"""Names: what parameters may not be called, because something beside them has that name already.

A parameter of such a name would be lost without a word: simulations hold parameters and data in
one dictionary, and an ArviZ ``DataTree`` holds draws, indicators and dimensions in one group.
"""

from .data import KEYS

__all__ = ["RESERVED", "check_names"]

DIMENSIONS = ("chain", "draw", "dataset", "component", "obs", "replicate", "feature")
INDICATORS = ("membership", "filtering", "path", "most_probable_path")
NETWORK_INPUTS = (
    "inference_variables", "summary_variables", "summary_mask", "indicators", "bounds",
)  # fmt: skip
TABLES = ("weight", "log_weight", "log_likelihood")  # columns beside those of the parameters
RESERVED = frozenset({*KEYS, "z", *DIMENSIONS, *INDICATORS, *NETWORK_INPUTS, *TABLES})


def check_names(model) -> None:
    """Refuse parameters with a reserved name, or with that of a dimension of the model.

    Raises
    ------
    ValueError
        If there are some.
    """
    dimensions = {name for dims in model.parameter_dims.values() for name in dims}
    taken = [name for name in model.parameter_names if name in RESERVED | dimensions]
    if taken:
        raise ValueError(
            f"prior: expected names that data, draws and dimensions do not have, got {taken}; "
            f"taken are {sorted(RESERVED | dimensions)}."
        )

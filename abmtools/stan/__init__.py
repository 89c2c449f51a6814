"""Stan: NUTS draws of p(theta | y) and p(z | y, theta) for any model that has a program."""

from .checks import StanDiagnosticsWarning
from .sampling import sample, sample_each

__all__ = ["StanDiagnosticsWarning", "sample", "sample_each"]

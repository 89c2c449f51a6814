"""Structures: how the indicators depend on each other, p(z | theta)."""

from .independent import Independent
from .markov import Markov
from .simulated import Simulated
from .transitions import persistent

__all__ = ["Independent", "Markov", "Simulated", "persistent"]

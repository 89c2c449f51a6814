"""Structures: how the indicators depend on each other, p(z | theta)."""

from .independent import Independent
from .markov import Markov, persistent
from .simulated import Simulated

__all__ = ["Independent", "Markov", "Simulated", "persistent"]

"""Structures: how the indicators depend on each other, p(z | theta)."""

from .independent import Independent

__all__ = ["Independent"]

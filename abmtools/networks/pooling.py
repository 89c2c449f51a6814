"""Pooling over a set, some of whose members may be missing."""

import keras

__all__ = ["masked_mean", "observed_count"]


def observed_count(x, mask):
    """Number of observed members, (B, ..., 1), of sets x with members on axis -2."""
    if mask is None:
        return keras.ops.full_like(x[..., 0, :1], x.shape[-2])
    return keras.ops.sum(keras.ops.cast(mask, x.dtype), axis=-1, keepdims=True)


def masked_mean(x, mask):
    """Mean of x, (..., M, F), over its axis -2, leaving out members with mask, (..., M), False.

    A set without any observed member has mean zero.
    """
    if mask is None:
        return keras.ops.mean(x, axis=-2)
    weights = keras.ops.cast(mask, x.dtype)[..., None]
    total = keras.ops.sum(x * weights, axis=-2)
    return total / keras.ops.maximum(observed_count(x, mask), 1.0)

"""Pooling over a set, some of whose members may be missing."""

import keras

__all__ = ["masked_mean", "masked_outer_mean", "observed_count"]


def observed_count(x, mask):
    """Number of observed members, (B, ..., 1), of sets x with members on axis -2."""
    if mask is None:
        return keras.ops.sum(keras.ops.ones_like(x[..., :1]), axis=-2)
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


def masked_outer_mean(a, b, mask):
    """Mean over sets of the outer products of a, (B, M, F), and b, (B, M, G): (B, F * G)."""
    if mask is not None:
        b = b * keras.ops.cast(mask, b.dtype)[..., None]
    total = keras.ops.matmul(keras.ops.transpose(a, (0, 2, 1)), b)
    total = keras.ops.reshape(total, (-1, a.shape[-1] * b.shape[-1]))
    return total / keras.ops.maximum(observed_count(a, mask), 1.0)

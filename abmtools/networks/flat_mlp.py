r"""Flat MLP: BayesFlow's multi-layer perceptron as one layer call.

A hidden layer :math:`x \mapsto h(W x + b)` of that network is a block with a dense layer and an
activation in it, three Keras layer calls. For one data set the calls take longer than the numbers,
and a coupling flow has dozens of them. `affine` does what a dense layer does, without the call.
"""

import bayesflow as bf
from bayesflow.utils.serialization import serializable
from keras import ops

__all__ = ["FlatMLP", "affine"]


def affine(layer, x, activation=None):
    """h(W x + b) of a built ``keras.layers.Dense``; by default with its own activation h."""
    return (activation or layer.activation)(ops.matmul(x, layer.kernel) + layer.bias)


@serializable("abmtools.networks")
class FlatMLP(bf.networks.MLP):
    """``bayesflow.networks.MLP`` with fewer calls.

    Parameters and variables are the same, so weights can be exchanged. With skip connections,
    dropout or normalization it is the parent class in every respect.
    """

    def call(self, x, training: bool | None = None):
        if self.residual or self.dropout or self.norm is not None:
            return super().call(x, training=training)
        for block in self.blocks:
            x = affine(block.dense, x, block.activation.activation)
        return x

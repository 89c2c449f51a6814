"""A multilayer perceptron whose layers are applied directly.

Calling a Keras layer costs tens of microseconds before anything is computed: arguments are bound
and checked, masks looked for, scopes entered. On a backend that compiles, that happens once. On
torch it happens each time, and a coupling flow calls a hundred layers: for a few thousand draws
that took longer than the arithmetic. The layers inside a perceptron need none of it.
"""

import bayesflow as bf
from bayesflow.utils.serialization import serializable

__all__ = ["DirectMLP"]


@serializable("abmtools.networks")
class DirectMLP(bf.networks.MLP):
    """BayesFlow's MLP, with the same weights and the same output, in less time on torch.

    Parameters
    ----------
    widths : sequence of int
    **kwargs
        Passed to ``bayesflow.networks.MLP``. With dropout or a normalization it is that MLP.

    Examples
    --------
    >>> import bayesflow as bf
    >>> from abmtools.networks import DirectMLP
    >>> flow = bf.networks.CouplingFlow(
    ...     subnet=DirectMLP, subnet_kwargs={"widths": (64, 64), "dropout": 0.0}
    ... )
    """

    def call(self, x, training: bool | None = None):
        """Hidden units (..., widths[-1]) of x, (..., P)."""
        if self.dropout or self.norm is not None:
            return super().call(x, training=training)
        for block in self.blocks:
            hidden = block.activation.call(block.dense.call(x))
            if block.residual:
                hidden = hidden + (x if block.projector is None else block.projector.call(x))
            x = hidden
        return x

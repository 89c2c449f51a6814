r"""An optimizer for long training: Muon with one cosine.

Muon (Jordan et al., 2024; Liu et al., 2025, arXiv:2502.16982) replaces the averaged gradient G of a
weight matrix by the nearest orthogonal one, :math:`U V^\top` of :math:`G = U S V^\top`, so that
directions in which the loss is flat move as fast as those in which it is steep. Summaries need
that: the pooled features that tell close components apart vary far less than those that locate
them. Biases and the last layers of a flow are left to Adam.

A step costs more than Adam's, above all where the backend does not compile (torch), and gets
further. It is meant for long training on JAX.
"""

import keras

__all__ = ["make_muon"]

WARMUP = 0.05  # share of the steps in which the rate rises
LAST_LAYERS = ["output_projector"]  # of BayesFlow's coupling layers


def make_muon(learning_rate: float, num_steps: int) -> keras.optimizers.Optimizer:
    """Muon whose learning rate rises to a peak and falls to zero along a cosine.

    Parameters
    ----------
    learning_rate : float
        The peak.
    num_steps : int
        Steps of the whole training.

    Returns
    -------
    keras.optimizers.Muon
        With gradients clipped to norm 1.5, as in BayesFlow, and no weight decay, because fresh
        simulations cannot be overfitted.

    Examples
    --------
    >>> from abmtools import GaussianMixture, MixtureWorkflow
    >>> from abmtools.inference import make_muon
    >>> optimizer = make_muon(learning_rate=1e-3, num_steps=20_000)
    >>> workflow = MixtureWorkflow(GaussianMixture(), optimizer=optimizer)
    >>> workflow.optimizer is optimizer
    True
    """
    warmup_steps = int(WARMUP * num_steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.1 * learning_rate,
        warmup_target=learning_rate,
        warmup_steps=warmup_steps,
        decay_steps=num_steps - warmup_steps,
        alpha=0,
    )
    return keras.optimizers.Muon(
        schedule,
        clipnorm=1.5,
        weight_decay=0.0,
        adam_weight_decay=0.0,
        exclude_layers=LAST_LAYERS,
    )

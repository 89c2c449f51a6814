r"""The gap to exact: how much of the networks' losses is their own fault.

The two losses of a perfect network are not zero; they are the expected losses of the exact factors.
What can be improved is the difference,

.. math:: \mathbb{E}\left[ \log p(u \mid y) - \log q(u \mid y) \right]
          \qquad \text{and} \qquad
          \frac{1}{N} \sum_i
          \mathbb{E}\left[ \log p(z_i \mid y, \theta) - \log q(z_i \mid y, \theta) \right] ,

over data simulated from the model with their true u and z. Both are expected Kullback-Leibler
divergences from exact to amortized: zero where the network is exact, positive otherwise. The second
one is of single indicators. For a chain that is smoothing, though training has the loss of whole
paths.

For the first, :math:`\log p(u \mid y) = \log p(u, y) - \log p(y)` with the evidence by importance
sampling from q itself. Its error makes the gap too large rather than too small, by about half the
relative variance of the weights over S: less than 0.001 nats once the effective draws exceed 500.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .draws import require_workflow
from .exact import log_posterior
from .importance_sampling import importance
from .simulated import parts, truth

__all__ = ["Gap", "gap_to_exact", "membership_losses", "posterior_losses"]


@dataclass(frozen=True)
class Gap:
    """Losses of both networks beside those of the exact factors.

    Attributes
    ----------
    posterior_loss, exact_posterior_loss : arrays, shape (B,)
        -log q(u | y) and -log p(u | y) at the true parameters of each data set, in nats, on the
        unconstrained scale.
    pareto_k : array, shape (B,)
        Of the importance weights; where it is above 0.7 the exact loss is uncertain.
    membership_loss, exact_membership_loss : arrays, shape (B,)
        -log q(z_i | y, theta) and -log p(z_i | y, theta) of the true indicators at the true
        parameters, mean over the observations of each data set, in nats.
    """

    posterior_loss: np.ndarray
    exact_posterior_loss: np.ndarray
    pareto_k: np.ndarray
    membership_loss: np.ndarray
    exact_membership_loss: np.ndarray

    @property
    def posterior(self) -> float:
        """Mean gap of the posterior, nats per data set."""
        return float(np.mean(self.posterior_loss - self.exact_posterior_loss))

    @property
    def posterior_se(self) -> float:
        """Standard error of `posterior`."""
        return _standard_error(self.posterior_loss - self.exact_posterior_loss)

    @property
    def membership(self) -> float:
        """Mean gap of the membership, nats per observation."""
        return float(np.mean(self.membership_loss - self.exact_membership_loss))

    @property
    def membership_se(self) -> float:
        """Standard error of `membership`."""
        return _standard_error(self.membership_loss - self.exact_membership_loss)

    def __str__(self) -> str:
        lines = [f"{'loss in nats':<28}{'network':>10}{'exact':>10}{'gap':>10}{'s.e.':>10}"]
        lines += [
            f"{label:<28}{np.mean(loss):10.4f}{np.mean(exact):10.4f}{gap:10.5f}{error:10.5f}"
            for label, loss, exact, gap, error in (
                ("posterior, per data set", self.posterior_loss, self.exact_posterior_loss,
                 self.posterior, self.posterior_se),
                ("membership, per observation", self.membership_loss, self.exact_membership_loss,
                 self.membership, self.membership_se),
            )
        ]  # fmt: skip
        below = 100 * np.mean(self.pareto_k < 0.7)
        lines.append(
            f"{len(self.posterior_loss)} and {len(self.membership_loss)} data sets; "
            f"Pareto k below 0.7 in {below:.1f} %, largest {self.pareto_k.max():.2f}"
        )
        return "\n".join(lines)


def gap_to_exact(workflow, simulated, *, num_samples: int = 2000, seed: int | None = None) -> Gap:
    """Compare both losses of a workflow with the exact ones.

    Parameters
    ----------
    workflow : MixtureWorkflow
        Of a model that has a likelihood.
    simulated : dict or list of dict
        What `MixtureModel.simulate` returns: parameters, ``"z"`` and ``"y"``. Batches of a list
        may differ in numbers of observations and replicates.
    num_samples : int
        Draws for the evidence of each data set.
    seed : int, optional
        Makes the draws repeatable.

    Returns
    -------
    Gap

    Raises
    ------
    TypeError, ValueError
        If the model has no likelihood, the simulated data lack the truth or the batch axis or are
        not as `MixtureModel.check_simulated` takes them, num_samples is below 25, or all draws
        for a data set have density zero.

    Notes
    -----
    The evidence costs about a tenth of a second per data set, the membership almost nothing. To
    use more data sets for it, call `posterior_losses` and `membership_losses`:
    ``Gap(*posterior_losses(workflow, few), *membership_losses(workflow, many))``.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("gaussian_mixture")
    >>> simulated = workflow.simulate(4, num_obs=200, num_reps=3)
    >>> gap = gap_to_exact(workflow, simulated, num_samples=500, seed=1)
    >>> gap.posterior_loss.shape, abs(gap.membership) < 0.01
    ((4,), True)
    """
    if isinstance(simulated, Iterator):  # which could be used only once
        simulated = list(simulated)
    return Gap(
        *posterior_losses(workflow, simulated, num_samples=num_samples, seed=seed),
        *membership_losses(workflow, simulated),
    )


def posterior_losses(
    workflow, simulated, *, num_samples: int = 2000, seed: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-log q(u | y) and -log p(u | y) at the true parameters, and Pareto k, each (B,).

    Arguments and errors are those of `gap_to_exact`.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("gaussian_mixture")
    >>> simulated = workflow.simulate(2, num_obs=200, num_reps=3)
    >>> network, exact, pareto_k = posterior_losses(workflow, simulated, num_samples=500, seed=1)
    >>> network.shape, exact.shape, pareto_k.shape
    ((2,), (2,), (2,))
    """
    require_workflow(workflow)
    model, rng = workflow.model, np.random.default_rng(seed)
    losses = []
    for batch in parts(model, simulated, num_samples):
        data = model.check_data(batch)
        u = model.unconstrain(truth(model, batch), data)
        draws = workflow.sample(
            conditions=data, num_samples=num_samples, seed=int(rng.integers(2**31))
        )
        weights = importance(draws)
        log_p = log_posterior(model, data, u)[:, 0] - weights.log_evidence
        log_q = workflow.log_prob_unconstrained(data, u)[:, 0]
        losses.append((-log_q, -log_p, weights.pareto_k))
    return tuple(np.concatenate(column) for column in zip(*losses, strict=True))


def membership_losses(
    workflow, simulated, *, kind: str = "membership"
) -> tuple[np.ndarray, np.ndarray]:
    """Means over i of -log q(z_i | y, theta) and -log p(z_i | y, theta), each (B,).

    Parameters
    ----------
    workflow, simulated
        As for `gap_to_exact`.
    kind : {"membership", "filtering"}
        Membership, which for a chain is smoothing, or a chain's filtering.

    Returns
    -------
    network, exact : arrays, shape (B,)

    Raises
    ------
    TypeError, ValueError
        As for `gap_to_exact`; if `kind` is neither of the two, or there is nothing to filter.

    Examples
    --------
    >>> import abmtools as abm, numpy as np
    >>> workflow = abm.load_pretrained("gaussian_mixture")
    >>> rng = np.random.default_rng(1)
    >>> simulated = workflow.model.simulate(50, rng=rng, num_obs=200, num_reps=3)
    >>> network, exact = membership_losses(workflow, simulated)
    >>> bool(np.abs(network - exact).mean() < 0.01)
    True
    """
    require_workflow(workflow)
    model = workflow.model
    if kind not in {"membership", "filtering"}:
        raise ValueError(f"kind: expected 'membership' or 'filtering', got {kind!r}.")
    functions = getattr(workflow, kind), getattr(model, f"exact_{kind}")
    losses = []
    for batch in parts(model, simulated):
        theta = truth(model, batch)
        data = model.check_data(batch)
        pair = [function(data, theta)[:, 0] for function in functions]
        losses.append([_cross_entropy(p, batch["z"], data.get("mask")) for p in pair])
    return tuple(np.concatenate(column) for column in zip(*losses, strict=True))


def _cross_entropy(probabilities: np.ndarray, z: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Mean of -log p(z_i) over the observed i of each data set, (B,)."""
    chosen = np.take_along_axis(probabilities, z[..., None], axis=-1)[..., 0]
    with np.errstate(divide="ignore"):  # a probability of zero costs infinitely much
        loss = -np.log(chosen.astype("float64"))
    return loss.mean(axis=1) if mask is None else np.mean(loss, axis=1, where=mask)


def _standard_error(x: np.ndarray) -> float:
    return float(np.std(x, ddof=1) / np.sqrt(len(x))) if len(x) > 1 else float("nan")

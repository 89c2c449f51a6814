r"""Another prior for draws that a network has made.

A network has been trained with one prior :math:`p`. With another one, :math:`p'`, the posterior is

.. math:: p'(\theta \mid y) \propto p(y \mid \theta) \, p'(\theta)
                            \propto p(\theta \mid y) \, \frac{p'(\theta)}{p(\theta)} ,

so the network's draws become draws of the new posterior when each carries the ratio of the priors
as its weight. That takes no likelihood and no new training, and it works as far as the old draws
reach: Pareto-smoothed importance sampling says by its k how far that is. The posterior that is
reweighted is the network's own, errors included.
"""

from ...diagnostics.importance_sampling import ImportanceResult, weigh
from ...models import EvidenceAccumulationHMM

__all__ = ["rescaled", "reweigh"]

THRESHOLDS = ("guessing_threshold", "threshold_difference")
DRIFTS = ("guessing_drift", "incorrect_drift", "drift_difference")


def rescaled(
    model: EvidenceAccumulationHMM, *, thresholds: float, drifts: float
) -> EvidenceAccumulationHMM:
    """The model with other scales of the priors of its thresholds and drifts.

    Parameters
    ----------
    model : EvidenceAccumulationHMM
    thresholds, drifts : float
        Factors on the scales of the truncated normal priors.

    Returns
    -------
    EvidenceAccumulationHMM

    Raises
    ------
    ValueError
        If a factor is not positive.

    Examples
    --------
    >>> model = rescaled(EvidenceAccumulationHMM(), thresholds=2.0, drifts=1.0)
    >>> model.normals["guessing_threshold"]
    (0.5, 0.6)
    """
    factors = dict.fromkeys(THRESHOLDS, thresholds) | dict.fromkeys(DRIFTS, drifts)
    normals = {
        name: (location, scale * factors[name]) for name, (location, scale) in model.normals.items()
    }
    return EvidenceAccumulationHMM(
        stay_prior=model.stay_prior,
        non_decision_time=model.non_decision_time,
        num_obs=model.num_obs,
        **normals,
    )


def reweigh(posterior, model: EvidenceAccumulationHMM) -> ImportanceResult:
    """Weights of draws for the prior of another model.

    Parameters
    ----------
    posterior : MixturePosterior
        Of a model that has the same likelihood.
    model : EvidenceAccumulationHMM
        The one that has the prior.

    Returns
    -------
    ImportanceResult
        With equal weights if both priors are the same. Its `log_evidence` is that of the model
        relative to the posterior's own, up to the constants of the priors.
    """
    parameters = posterior.parameters
    return weigh(model.log_prior(parameters) - posterior.model.log_prior(parameters))

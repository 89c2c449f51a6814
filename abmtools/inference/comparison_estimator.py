"""The estimator of p(M | y): BayesFlow's, with data as the models take them."""

import bayesflow as bf
import keras
import numpy as np
from bayesflow.utils.serialization import deserialize, serialize

from ..models.model_choice import ModelChoice
from .adapter import append_observations

__all__ = ["ComparisonEstimator", "make_comparison_adapter"]


class ComparisonEstimator(bf.estimators.ModelComparisonEstimator):
    """BayesFlow estimator of p(M | y).

    Parameters
    ----------
    choice : ModelChoice
    summary_network : SetSummary
    inference_network : bayesflow.networks.ScoringRuleNetwork
    """

    def __init__(self, choice: ModelChoice, *, summary_network, inference_network):
        super().__init__(
            inference_network=inference_network,
            summary_network=summary_network,
            adapter=make_comparison_adapter(choice),
            standardize=None,  # the encoder standardizes
        )
        self.model = choice

    def __reduce__(self):
        """Pickle what it is made of: Keras knows neither models nor their features."""
        networks = [serialize(x) for x in (self.summary_network, self.inference_network)]
        weights = [keras.ops.convert_to_numpy(variable.value) for variable in self.weights]
        return _restore, (self.model, *networks, weights)


def make_comparison_adapter(choice: ModelChoice) -> bf.Adapter:
    """The BayesFlow adapter of a `ModelChoice`: data as for its models, model as target."""
    adapter = bf.Adapter().rename("model_indices", "inference_variables")
    append_observations(adapter, choice.first)
    return adapter.keep(["inference_variables", "summary_variables", "summary_mask"])


def _restore(choice, summary: dict, inference: dict, weights: list) -> ComparisonEstimator:
    """An estimator from what `ComparisonEstimator.__reduce__` returns."""
    estimator = ComparisonEstimator(
        choice, summary_network=deserialize(summary), inference_network=deserialize(inference)
    )
    simulated = choice.simulate(2, rng=np.random.default_rng(0))
    estimator.build_from_data(estimator.adapter(simulated))
    for variable, value in zip(estimator.weights, weights, strict=True):
        variable.assign(value)
    return estimator

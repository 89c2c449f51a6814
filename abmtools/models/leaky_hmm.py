r"""Guessing or a leaky competing race: a model of speeded decisions with no likelihood.

The controlled state of `EvidenceAccumulationHMM` has two accumulators that do not know of each
other. Here they leak and compete (`leaky_accumulators`):

.. math::
    I_1 &\sim \operatorname{N}^+(3, 1), \qquad I_2 - I_1 \sim \operatorname{N}^+(2.5, 1), \\
    \kappa &\sim \operatorname{N}^+(0, 2), \qquad \beta \sim \operatorname{N}^+(0, 2),
    \qquad \text{given that } \kappa \, \alpha_2 < I_2 ,

with I the inputs of the incorrect and the correct response, :math:`\kappa` the leak and
:math:`\beta` the inhibition. The condition says that the correct accumulator, without noise and
alone, would arrive: what it rules out are people who hardly ever respond. The density of the
controlled state's responses, and with the condition that of the prior up to a constant only, are
not known in closed form; nothing here needs them. All else is as in `speeded_decisions`.
"""

import numpy as np

from .constraints import positive, positive_ordered
from .leaky_accumulators import race
from .speeded_decisions import SpeededDecisionHMM

__all__ = ["LeakyAccumulatorHMM"]


class LeakyAccumulatorHMM(SpeededDecisionHMM):
    r"""Hidden Markov model with a guessing state and a leaky competing accumulator.

    Its emission can only be simulated, by code that numba compiles
    (``pip install 'abmtools[cognitive]'``).

    Parameters
    ----------
    incorrect_input, input_difference : (float, float)
        Location and scale of the truncated normal priors of :math:`I_1` and :math:`I_2 - I_1`, per
        second.
    leak, inhibition : (float, float)
        The same for :math:`\kappa` and :math:`\beta`, per second.
    **shared
        ``stay_prior``, ``guessing_threshold``, ``threshold_difference``, ``guessing_drift``,
        ``non_decision_time`` and ``num_obs``, see `SpeededDecisionHMM`.

    Raises
    ------
    ValueError
        As `SpeededDecisionHMM`.
    ImportError
        If numba is not installed.

    Notes
    -----
    Parameters are ``stay``, (2,), ``threshold``, (2,), guessing and controlled, ``guessing_drift``,
    ``input``, (2,), incorrect and correct, ``leak``, ``inhibition`` and ``non_decision_time``;
    components are 0, guessing, and 1, controlled. Data are ``y``, (T, 2): response times in
    seconds, and whether the response was correct, 1 or 0.

    Examples
    --------
    >>> import numpy as np
    >>> from abmtools import LeakyAccumulatorHMM
    >>> model = LeakyAccumulatorHMM()
    >>> model.has_likelihood
    False
    >>> model.simulate(2, rng=np.random.default_rng(0), num_obs=400)["y"].shape
    (2, 400, 2)
    """

    def __init__(
        self,
        *,
        incorrect_input=(3.0, 1.0),
        input_difference=(2.5, 1.0),
        leak=(0.0, 2.0),
        inhibition=(0.0, 2.0),
        **shared,
    ):
        super().__init__(
            race={
                "incorrect_input": incorrect_input,
                "input_difference": input_difference,
                "leak": leak,
                "inhibition": inhibition,
            },
            race_constraints={"input": positive_ordered, "leak": positive, "inhibition": positive},
            **shared,
        )

    @property
    def parameter_dims(self) -> dict[str, tuple]:
        """As for any `MixtureModel`; inputs are of accumulators, not components."""
        return super().parameter_dims | {"input": ("accumulator",)}

    def draw_normals(self, rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
        """Draws, (size,), of the truncated normals, given that kappa alpha_2 < I_2."""
        draws = super().draw_normals(rng, size)
        while (rejected := np.flatnonzero(~_arrives(draws))).size:
            for name, fresh in super().draw_normals(rng, rejected.size).items():
                draws[name][rejected] = fresh
        return draws

    def _race_parameters(self, draws: dict) -> dict:
        inputs = [draws["incorrect_input"], draws["input_difference"]]
        return {
            "input": np.cumsum(inputs, axis=0).T,
            "leak": draws["leak"],
            "inhibition": draws["inhibition"],
        }

    def _race(self, rng: np.random.Generator, parameters: dict, rows: np.ndarray):
        names = ("input", "leak", "inhibition")
        return race(rng, *(parameters[x] for x in names), parameters["threshold"][:, 1], rows)


def _arrives(draws: dict) -> np.ndarray:
    """Whether the correct accumulator reaches the threshold without noise and alone, (size,)."""
    threshold = draws["guessing_threshold"] + draws["threshold_difference"]
    return draws["leak"] * threshold < draws["incorrect_input"] + draws["input_difference"]

r"""Markov indicators: a hidden Markov model's chain.

.. math:: p(z_{1:T} \mid \theta) = \rho_{z_1} \prod_{t > 1} A_{z_{t-1} z_t} , \qquad
          q(z_{1:T} \mid y, \theta) = \frac{p(z_{1:T} \mid \theta) \prod_t \exp f_{t z_t}}{
                                      \sum_z p(z \mid \theta) \prod_t \exp f_{t z_t}}

where :math:`f_{tk}` is a score of observation t under component k: a trained network's, or the
exact :math:`\log p(y_t \mid z_t = k, \theta)`. With exact scores the sum in the denominator is the
likelihood. Scores may contain any constant per time point; it cancels in everything else.

With the forward and backward terms of `recursions`

=====================  ==================================  =====================================
filtering              :math:`p(z_t \mid y_{1:t})`         :math:`\propto \alpha_t(k)`
prediction             :math:`p(z_{t+1} \mid y_{1:t})`     :math:`\propto \sum_j \alpha_t(j) A_{jk}`
backward filtering     :math:`p(z_t \mid y_{t:T})`         :math:`\propto p(z_t = k) \, e^{f_{tk}} \, \beta_t(k)`
smoothing              :math:`p(z_t \mid y_{1:T})`         :math:`\propto \alpha_t(k) \, \beta_t(k)`
pairwise smoothing     :math:`p(z_t, z_{t+1} \mid y)`      :math:`\propto \alpha_t(j) \, A_{jk} \, e^{f_{t+1,k}} \, \beta_{t+1}(k)`
=====================  ==================================  =====================================

A missing observation has score zero for every component; the chain moves on through it. So
sequences of different length share an array: what follows the end is masked, and says nothing.

References
----------
Rabiner, L. R. (1989). A tutorial on hidden Markov models and selected applications in speech
recognition. Proceedings of the IEEE, 77(2), 257-286.
"""  # noqa: E501

import numpy as np
from keras import ops

from .categorical import draw_categorical
from .chain import ask
from .recursions import is_traced
from .transitions import stationary

__all__ = ["Markov"]

INITIAL = ("uniform", "stationary")


class Markov:
    """Indicators that form a chain.

    In all methods scores are (..., T, K), parameters ``{name: (..., *shape)}``, and mask, a bool
    array that broadcasts to (..., T), is False where an observation is missing.

    Parameters
    ----------
    transition : array of shape (K, K), list of K str, str or callable
        Fixed; or the names of the simplex parameters, (K,), that are its rows; or a function of
        the parameters ``{name: (..., *shape)}`` that returns (..., K, K), written with
        ``keras.ops``, such as `persistent`; or the name of one parameter, (K, K), for use without
        a `MixtureModel`, whose parameters are numbers and vectors. Row j holds the probabilities
        of what follows state j.
    initial : str or array of shape (K,)
        ``"uniform"``, ``"stationary"`` (the distribution that the transitions leave unchanged),
        the name of a simplex parameter, or fixed probabilities.

    Raises
    ------
    ValueError
        If fixed probabilities are negative or do not sum to one.

    Notes
    -----
    Conditional distributions given an impossible sequence, one whose every path has probability
    zero, do not exist: asking for them is a ``ValueError``. `log_likelihood` is then -inf.

    Examples
    --------
    >>> import numpy as np
    >>> from abmtools import Markov
    >>> from keras.ops import convert_to_numpy
    >>> structure = Markov([[0.8, 0.2], [0.3, 0.7]])
    >>> scores = np.log([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    >>> convert_to_numpy(structure.filtering(scores, {})).round(3)
    array([[0.9  , 0.1  ],
           [0.75 , 0.25 ],
           [0.342, 0.658]])
    >>> convert_to_numpy(structure.most_probable_path(scores, {}))
    array([0, 0, 0], dtype=int32)
    """

    exchangeable = False  # the order of the observations means something

    def __init__(self, transition="transition", initial="uniform"):
        if _is_names(transition):
            transition = list(transition)
        elif not (isinstance(transition, str) or callable(transition)):
            transition = _check_fixed(transition, 2, "transition")
        if not isinstance(initial, str):
            initial = _check_fixed(initial, 1, "initial")
        fixed = [x for x in (transition, initial) if isinstance(x, np.ndarray)]
        if len({x.shape[-1] for x in fixed}) > 1:
            raise ValueError(
                f"initial has {len(initial)} components, transition {len(transition)}."
            )
        self.transition, self.initial = transition, initial

    def __repr__(self) -> str:
        return f"Markov(transition={self.transition!r}, initial={self.initial!r})"

    # --- the chain ------------------------------------------------------------------------

    @property
    def simplex_parameters(self) -> list[str]:
        """Names of the parameters that must be on the simplex."""
        rows = self.transition if _is_names(self.transition) else [self.transition]
        names = [part for part in (*rows, self.initial) if isinstance(part, str)]
        return [name for name in names if name not in INITIAL]

    def num_components(self, parameters: dict) -> int:
        """K, from draws of the prior {name: (B, ...)}.

        Raises
        ------
        ValueError
            If a parameter is missing or the probabilities are no chain's.
        """
        for name in self.simplex_parameters:
            if name not in parameters:
                raise ValueError(
                    f"structure: expected a parameter named {name!r} in the prior, "
                    f"got {sorted(parameters)}."
                )
        transition = ops.convert_to_numpy(self.transition_matrix(parameters))
        _check_stochastic(transition, 2, "structure: transition")
        initial = ops.convert_to_numpy(self.initial_probabilities(parameters))
        _check_stochastic(initial, 1, "structure: initial")
        if initial.shape[-1] != transition.shape[-1]:
            raise ValueError(
                f"structure: initial has {initial.shape[-1]} components, "
                f"transition {transition.shape[-1]}."
            )
        return transition.shape[-1]

    def transition_matrix(self, parameters):
        """A, shape (..., K, K); a fixed one has no leading axes."""
        if callable(self.transition):
            return ops.convert_to_tensor(self.transition(parameters))
        if _is_names(self.transition):
            return ops.stack([parameters[name] for name in self.transition], axis=-2)
        if isinstance(self.transition, str):
            return ops.convert_to_tensor(parameters[self.transition])
        return ops.convert_to_tensor(self.transition)

    def initial_probabilities(self, parameters):
        """p(z_1), shape (..., K)."""
        if isinstance(self.initial, str) and self.initial == "stationary":
            return stationary(self.transition_matrix(parameters))
        if isinstance(self.initial, str) and self.initial == "uniform":
            size = self.transition_matrix(parameters).shape[-1]
            return ops.convert_to_tensor(np.full(size, 1 / size))
        if isinstance(self.initial, str):
            return ops.convert_to_tensor(parameters[self.initial])
        return ops.convert_to_tensor(self.initial)

    def sample(self, rng: np.random.Generator, parameters, num_obs: int) -> np.ndarray:
        """Simulate paths.

        Parameters
        ----------
        rng : numpy.random.Generator
        parameters : dict
            Parameters with one leading axis (B, ...); a fixed chain takes only B from them.
        num_obs : int
            T.

        Returns
        -------
        z : array of int, shape (B, T)
        """
        batch = len(next(iter(parameters.values())))
        initial = ops.convert_to_numpy(self.initial_probabilities(parameters))
        transition = ops.convert_to_numpy(self.transition_matrix(parameters))
        size = transition.shape[-1]
        initial = np.broadcast_to(initial, (batch, size))
        edges = np.cumsum(np.broadcast_to(transition, (batch, size, size)), axis=-1)[..., :-1]
        z = np.empty((num_obs, batch), dtype=np.int64)
        z[0] = draw_categorical(rng, initial)
        uniform = rng.random((num_obs, batch, 1))
        rows = np.arange(batch)
        for t in range(1, num_obs):
            z[t] = (uniform[t] > edges[rows, z[t - 1]]).sum(axis=-1)
        return np.ascontiguousarray(z.T)

    # --- what is known of the states --------------------------------------------------------

    def log_likelihood(self, scores, parameters, mask=None):
        """log sum_z p(z) prod_t exp f_t(z_t), (...): with exact scores, log p(y | theta)."""
        (log_sum,) = self._ask("log_likelihood", scores, parameters, mask)
        return log_sum

    def log_filtering(self, scores, parameters, mask=None):
        """log p(z_t = k | y_{1:t}, theta), (..., T, K)."""
        return self._ask_possible("log_filtering", scores, parameters, mask)

    def filtering(self, scores, parameters, mask=None):
        """p(z_t = k | y_{1:t}, theta), (..., T, K).

        Too small a number for the precision of the scores is zero; `log_filtering` keeps it.
        """
        return self._ask_possible("filtering", scores, parameters, mask)

    def log_prediction(self, scores, parameters, mask=None):
        """log p(z_{t+1} = k | y_{1:t}, theta), t = 1, ..., T: (..., T, K).

        The last is a forecast of the first state after the data.
        """
        return self._ask_possible("log_prediction", scores, parameters, mask)

    def log_backward_filtering(self, scores, parameters, mask=None):
        """log p(z_t = k | y_{t:T}, theta), (..., T, K)."""
        return self._ask_possible("log_backward_filtering", scores, parameters, mask)

    def log_smoothing(self, scores, parameters, mask=None):
        """log p(z_t = k | y_{1:T}, theta), (..., T, K)."""
        return self._ask_possible("log_smoothing", scores, parameters, mask)

    def smoothing(self, scores, parameters, mask=None):
        """p(z_t = k | y_{1:T}, theta), (..., T, K); of small ones as in `filtering`."""
        return self.filtering_and_smoothing(scores, parameters, mask)[1]

    def filtering_and_smoothing(self, scores, parameters, mask=None):
        """Both at the price of one, each (..., T, K)."""
        return self._ask_possible("filtering_and_smoothing", scores, parameters, mask)

    log_membership, membership = log_smoothing, smoothing  # as the other structures call it

    def log_pairwise_smoothing(self, scores, parameters, mask=None):
        """log p(z_t = j, z_{t+1} = k | y_{1:T}, theta), (..., T - 1, K, K)."""
        return self._ask_possible("log_pairwise_smoothing", scores, parameters, mask)

    def _ask(self, question: str, scores, parameters, mask, *others) -> tuple:
        """The answer by the method of `Chain` of that name; the last is the log of the sum."""
        transition = self.transition_matrix(parameters)
        initial = self.initial_probabilities(parameters)
        return ask(question, scores, transition, initial, mask, *others)

    def _ask_possible(self, question: str, scores, parameters, mask, *others):
        """The answer without that, for sequences that are possible."""
        *found, log_sum = self._ask(question, scores, parameters, mask, *others)
        _require_possible(log_sum)
        return found[0] if len(found) == 1 else tuple(found)

    # --- paths ----------------------------------------------------------------------------

    def log_prob(self, z, scores, parameters, mask=None):
        """log q(z_{1:T} | y, theta) of paths z, (..., T); shape (...).

        Indicators of missing observations are summed out: those after the end of a sequence mean
        nothing.
        """
        z, scores = ops.cast(ops.convert_to_tensor(z), "int32"), ops.convert_to_tensor(scores)
        both = np.broadcast_shapes(tuple(z.shape), tuple(scores.shape[:-1]))
        scores = ops.broadcast_to(scores, (*both, scores.shape[-1]))
        return self._ask_possible("log_prob", scores, parameters, mask, z)

    def draw(self, scores, parameters, mask=None, *, rng: np.random.Generator) -> np.ndarray:
        """Draw paths z ~ q(z_{1:T} | y, theta), (..., T), by backward sampling.

        The last state is drawn from its filtering distribution, each earlier one from
        p(z_t | z_{t+1}, y_{1:t}), which is proportional to p(z_t | y_{1:t}) A[z_t, z_{t+1}].
        """
        filtering = ops.convert_to_numpy(self.log_filtering(scores, parameters, mask))
        *shape, num_times, size = filtering.shape
        transition = ops.convert_to_numpy(self.transition_matrix(parameters))
        with np.errstate(divide="ignore"):
            log_transition = np.log(transition).astype(filtering.dtype)
        log_transition = np.broadcast_to(log_transition, (*shape, size, size))
        # The states first and all data sets last, where NumPy is fast.
        log_transition = _data_sets_last(log_transition)
        filtering = _data_sets_last(filtering)
        z = np.empty((num_times, filtering.shape[-1]), dtype=np.int64)
        columns = np.arange(z.shape[-1])
        terms = filtering[-1]
        for t in reversed(range(num_times)):
            probabilities = np.exp(terms - terms.max(axis=0))
            probabilities /= probabilities.sum(axis=0)
            z[t] = draw_categorical(rng, probabilities.T)
            if t > 0:
                terms = filtering[t - 1] + log_transition[:, z[t], columns]
        return np.ascontiguousarray(z.T).reshape(*shape, num_times)

    def most_probable_path(self, scores, parameters, mask=None):
        """The path z_{1:T} with the largest q(z | y, theta), int (..., T); the Viterbi path."""
        return self._ask_possible("most_probable_path", scores, parameters, mask)


def _is_names(x) -> bool:
    return isinstance(x, list | tuple) and all(isinstance(name, str) for name in x)


def _data_sets_last(x: np.ndarray) -> np.ndarray:
    """(..., L, K) as (L, K, M), contiguous."""
    return np.ascontiguousarray(np.moveaxis(x.reshape(-1, *x.shape[-2:]), 0, -1))


def _require_possible(log_sum) -> None:
    """Refuse sequences whose every path has probability zero."""
    if is_traced(log_sum):
        return
    possible = np.isfinite(ops.convert_to_numpy(log_sum))
    if not possible.all():
        first = np.argwhere(~possible)[0].tolist()
        raise ValueError(
            "scores: no path has positive probability, or a score is NaN or infinite, "
            f"for {np.sum(~possible)} of {possible.size} sequences, the first at index {first}."
        )


def _check_fixed(probabilities, ndim: int, argument: str) -> np.ndarray:
    probabilities = np.asarray(probabilities, dtype="float64")
    if probabilities.ndim != ndim:
        raise ValueError(f"{argument}: expected {ndim} axes, got shape {probabilities.shape}.")
    _check_stochastic(probabilities, ndim, argument)
    return probabilities


def _check_stochastic(probabilities: np.ndarray, ndim: int, argument: str) -> None:
    square = ndim == 1 or probabilities.shape[-2:-1] == probabilities.shape[-1:]
    sums = np.abs(probabilities.sum(axis=-1) - 1) if probabilities.ndim >= ndim else np.inf
    if not (square and np.all(probabilities >= 0) and np.all(sums < 1e-5)):
        shape = "(..., K, K)" if ndim == 2 else "(..., K)"
        raise ValueError(
            f"{argument}: expected probabilities {shape} that sum to one over the last axis, got "
            f"shape {probabilities.shape} and sums off by up to {np.max(sums):.2g}."
        )

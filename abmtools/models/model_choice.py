r"""A choice of models: data sets whose model is unknown, too.

.. math:: p(M, \theta, z, y) = p(M) \; p(\theta, z, y \mid M)
"""

from collections.abc import Mapping

import numpy as np

from .data import KEYS

__all__ = ["ModelChoice", "check_prior"]


class ModelChoice:
    """Several models of the same kind of data, one of which is drawn for each data set.

    Parameters
    ----------
    models : mapping of name to MixtureModel
        At least two.
    prior : sequence of float, optional
        Prior probabilities of the models; equal by default.

    Raises
    ------
    TypeError
        If models is not a mapping.
    ValueError
        If there are fewer than two models, they disagree about what a data set is or what networks
        see of it, or the prior has other than one positive number for each, summing to one.

    Examples
    --------
    >>> import abmtools as abm, numpy as np
    >>> from abmtools.models import ModelChoice
    >>> choice = ModelChoice({size: abm.GaussianLocationMixture(size) for size in (1, 2, 3)})
    >>> data = choice.simulate(4, rng=np.random.default_rng(1), num_obs=100)
    >>> data["y"].shape, data["model_indices"].shape
    ((4, 100), (4, 3))
    """

    def __init__(self, models: Mapping, prior=None):
        if not isinstance(models, Mapping):
            raise TypeError(
                f"models: expected a dictionary of models, got {type(models).__name__}."
            )
        if len(models) < 2:
            raise ValueError(f"models: expected at least two, got {list(models)}.")
        self.models = dict(models)
        self.first = next(iter(self.models.values()))
        self.num_obs, self.num_reps = self.first.num_obs, self.first.num_reps
        self.name = " or ".join(dict.fromkeys(model.name for model in self.models.values()))
        self.prior = check_prior(prior, len(self.models))
        self._check_agreement()

    def _check_agreement(self) -> None:
        """Refuse models whose data sets differ in kind: that would say which model it is."""
        attributes = ("num_obs", "num_reps", "num_features", "num_dataset_features")
        data = self.first.simulate(2, rng=np.random.default_rng(0), num_obs=self.num_obs[0])
        for name, model in self.models.items():
            for attribute in attributes:
                expected, found = getattr(self.first, attribute), getattr(model, attribute)
                if found != expected:
                    raise ValueError(
                        f"models[{name!r}]: expected {attribute}={expected} as in the first "
                        f"model, got {found}."
                    )
            for attribute in ("observation_features", "dataset_features"):
                ours, theirs = (getattr(x, attribute) for x in (self.first, model))
                same = (ours is None) == (theirs is None)
                if not same or (ours and not np.array_equal(ours(data), theirs(data))):
                    raise ValueError(
                        f"models[{name!r}]: expected the {attribute} of the first model."
                    )

    @property
    def exchangeable(self) -> bool:
        """Whether the order of the observations means nothing in any model."""
        return all(model.structure.exchangeable for model in self.models.values())

    def check_data(self, data: Mapping) -> dict[str, np.ndarray]:
        """Data as every model accepts them; see `MixtureModel.check_data`.

        Raises
        ------
        TypeError, ValueError
            If any of the models refuses them.
        """
        checked = [model.check_data(data) for model in self.models.values()]
        return checked[0]

    def simulate(
        self,
        batch_size: int,
        *,
        rng: np.random.Generator,
        num_obs: int | None = None,
        num_reps: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Simulate data sets of one size, each from a model drawn from the prior.

        Parameters
        ----------
        batch_size : int
        rng : numpy.random.Generator
        num_obs, num_reps : int, optional
            Drawn as the first model draws them if not given.

        Returns
        -------
        dict
            ``"y"``, masks where a model has them, and ``"model_indices"``, one-hot (B, M).
        """
        sizes = self._sizes(rng, num_obs, num_reps)
        chosen = rng.choice(len(self.models), size=batch_size, p=self.prior)
        data = {"model_indices": np.eye(len(self.models), dtype="float32")[chosen]}
        for index, model in enumerate(self.models.values()):
            rows = np.flatnonzero(chosen == index)
            if rows.size:
                simulated = model.simulate(rows.size, rng=rng, **sizes)
                for key in KEYS:
                    if key in simulated:
                        _put(data, key, rows, simulated[key], batch_size)
        return data

    def _sizes(self, rng, num_obs, num_reps) -> dict:
        """N and R as given, or as in a data set of the first model."""
        y = self.first.simulate(1, rng=rng, num_obs=num_obs, num_reps=num_reps)["y"]
        return {"num_obs": y.shape[1], "num_reps": None if self.num_reps is None else y.shape[2]}


def _put(data: dict, key: str, rows: np.ndarray, values: np.ndarray, batch_size: int) -> None:
    """Put values into some rows; what no model masks is observed."""
    if key not in data:
        shape = (batch_size, *values.shape[1:])  # counts of one model may be numbers of another
        data[key] = np.zeros(shape) if key == "y" else np.ones(shape, dtype=bool)
    data[key][rows] = values


def check_prior(prior, num_models: int) -> np.ndarray:
    """Prior probabilities of the models, (M,), checked; equal ones for None."""
    if prior is None:
        return np.full(num_models, 1 / num_models)
    found = np.asarray(prior, dtype="float64")
    if found.shape != (num_models,) or not np.all(found > 0) or abs(found.sum() - 1) > 1e-6:
        raise ValueError(
            f"prior: expected {num_models} positive numbers that sum to one, got {prior}."
        )
    return found / found.sum()

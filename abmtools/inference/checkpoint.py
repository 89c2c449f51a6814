"""Checkpoints: everything that a training run needs to go on, in one file without pickle.

A checkpoint is a NumPy ``.npz`` with the estimator's weights, the states of its random generators,
the optimizer's variables, the number of finished epochs and the history of losses. It is written
to a temporary name beside the target and then moved, so a run that is killed while writing leaves
the previous checkpoint as it was.
"""

import json
import os
import zipfile
from pathlib import Path

import keras
import numpy as np

from ..models.description import describe_prior
from ..models.model_choice import ModelChoice

__all__ = [
    "Checkpoint",
    "RequireFinite",
    "count_fits",
    "load_checkpoint",
    "load_weights",
    "save_weights",
]


def _write(path: Path, arrays: dict, *, compressed: bool = False) -> None:
    """Write an npz file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.npz")
    try:
        save = np.savez_compressed if compressed else np.savez
        save(temporary, **arrays)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path) -> dict:
    """Read an npz file; a clear error for a missing or corrupted one."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No weights file at {path}.")
    try:
        with path.open("rb") as file:  # np.load would leave a broken file open
            arrays = np.load(file, allow_pickle=False)
            return {key: arrays[key] for key in arrays.files}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, AttributeError) as error:
        raise ValueError(f"{path} is corrupted and cannot be read as weights: {error}") from error


def _variables(prefix: str, variables) -> dict:
    return {
        f"{prefix}/{i:04d}": keras.ops.convert_to_numpy(variable.value)
        for i, variable in enumerate(variables)
    }


def _generators(estimator) -> list:
    """States of the estimator's random generators: its variables that are no weights."""
    weights = {id(variable) for variable in estimator.weights}
    return [variable for variable in estimator.variables if id(variable) not in weights]


def _assign(groups: dict, arrays: dict, path: Path) -> None:
    """Assign what is stored to variables, {prefix: list}, if all of it fits."""
    pairs = []
    for prefix, variables in groups.items():
        stored = sorted(key for key in arrays if key.startswith(f"{prefix}/"))
        if len(stored) != len(variables):
            raise ValueError(
                f"{path}: expected {len(variables)} {prefix} arrays for this architecture, "
                f"got {len(stored)}."
            )
        pairs += zip(stored, variables, strict=True)
    for key, variable in pairs:
        if arrays[key].shape != tuple(variable.shape):
            raise ValueError(
                f"{path}: expected {key} of shape {tuple(variable.shape)}, got {arrays[key].shape}."
            )
    for key, variable in pairs:
        variable.assign(arrays[key])


def _targets(estimator) -> dict[str, str]:
    """What the networks' numbers are about, which the shapes of weights do not tell."""
    if isinstance(estimator.model, ModelChoice):
        names = estimator.model.models
        targets = [x.item() if isinstance(x, np.generic) else x for x in names]
    else:
        targets = estimator.model.space.describe()
    return {"targets": json.dumps(targets)}


def _require_targets(estimator, arrays: dict, path: Path) -> None:
    """Refuse weights for other parameters, or for others of the models; old files do not tell."""
    expected = _targets(estimator)["targets"]
    stored = str(arrays.get("targets", expected))
    if stored != expected:
        raise ValueError(f"{path}: expected weights for {expected}, got weights for {stored}.")


def _require_prior(estimator, arrays: dict, path: Path) -> None:
    """Refuse to go on with what was trained for another prior; old files do not tell."""
    expected = json.dumps(describe_prior(estimator.model))
    if str(arrays.get("prior", expected)) != expected:
        raise ValueError(
            f"{path}: expected a training of this model, got one whose prior makes other draws of "
            "the same generator. Give the checkpoint another name."
        )


def save_weights(estimator, path) -> None:
    """Save the variables of a workflow's networks to a compressed ``.npz`` file, atomically.

    Parameters
    ----------
    estimator : MixtureWorkflow, MixtureComparisonWorkflow or MixtureEstimator
    path : str or pathlib.Path

    Examples
    --------
    >>> import abmtools as abm, tempfile
    >>> from abmtools.inference import load_weights, save_weights
    >>> workflow, other = (abm.MixtureWorkflow(abm.GaussianMixture(), seed=s) for s in (1, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(workflow, f"{folder}/mixture.npz")
    ...     load_weights(other, f"{folder}/mixture.npz")
    >>> all((x == y).all() for x, y in zip(
    ...     workflow.estimator.get_weights(), other.estimator.get_weights()))
    True
    """
    arrays = _variables("weights", estimator.weights) | _targets(estimator)
    _write(Path(path), arrays, compressed=True)


def load_weights(estimator, path) -> None:
    """Load variables saved by `save_weights` or by a `Checkpoint`.

    Parameters
    ----------
    estimator : MixtureWorkflow, MixtureComparisonWorkflow or MixtureEstimator
        Of the same model and with the same networks.
    path : str or pathlib.Path

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If the file is corrupted or belongs to another architecture, or to a model with other
        parameters or another order of them (or of the models that are compared); nothing is
        changed then.

    Examples
    --------
    >>> import abmtools as abm
    >>> from abmtools.inference.pretrained import weights_folder
    >>> workflow = abm.MixtureWorkflow(abm.GaussianHMM(), seed=1)
    >>> load_weights(workflow, weights_folder("gaussian_mixture") / "weights.npz")
    Traceback (most recent call last):
        ...
    ValueError: ...
    """
    arrays = _read(path)
    _require_targets(estimator, arrays, Path(path))
    _assign({"weights": estimator.weights}, arrays, Path(path))


def count_fits(path) -> int:
    """Finished calls of ``fit_*`` before the one that wrote a checkpoint."""
    return int(_read(path).get("num_fits", 0))


def load_checkpoint(estimator, optimizer, path) -> tuple[int, dict, int, int | None]:
    """Restore estimator and optimizer.

    Returns
    -------
    epochs : int
        How many are finished.
    history : dict of str to list
        Their losses.
    num_fits : int
        Finished calls of ``fit_*`` before this one.
    seed : int or None
        Of the workflow's data; old files do not tell.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        As `load_weights`, or if the file belongs to another optimizer or another prior; nothing is
        changed then.
    """
    arrays = _read(path)
    _require_targets(estimator, arrays, Path(path))
    optimizer.build(estimator.trainable_variables)
    _require_prior(estimator, arrays, Path(path))
    groups = {
        "weights": estimator.weights,
        "generators": _generators(estimator),
        "optimizer": optimizer.variables,
    }
    _assign(groups, arrays, Path(path))
    history = json.loads(str(arrays["history"]))
    seed = int(arrays["seed"]) if "seed" in arrays else None
    return int(arrays["epoch"]), history, int(arrays.get("num_fits", 0)), seed


class RequireFinite(keras.callbacks.Callback):
    """Stop a training whose loss is not a number, before a `Checkpoint` is overwritten by it."""

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        wrong = {name: value for name, value in (logs or {}).items() if not np.isfinite(value)}
        if wrong:
            raise FloatingPointError(
                f"training: expected finite losses, got {wrong} in epoch {epoch + 1}. The networks "
                "are of no use now. A lower initial_learning_rate may help; where there is a "
                "checkpoint, it is that of an epoch before."
            )


class Checkpoint(keras.callbacks.Callback):
    """Keras callback that writes a checkpoint after each epoch.

    Parameters
    ----------
    path : path
    history : dict
        Losses of epochs that were finished before, {name: list}.
    num_fits, seed : int
        See `load_checkpoint`.
    every : int
        Write after every so many epochs; the last is always written.
    """

    def __init__(self, path, history: dict, *, seed: int, num_fits: int = 0, every: int = 1):
        super().__init__()
        self.path, self.num_fits, self.every = Path(path), num_fits, every
        self.seed = seed
        self.history = {name: list(values) for name, values in history.items()}

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        last = epoch + 1 == self.params.get("epochs")
        if last or (epoch + 1) % self.every == 0:
            arrays = _variables("weights", self.model.weights) | _targets(self.model)
            arrays |= _variables("generators", _generators(self.model))
            arrays |= _variables("optimizer", self.model.optimizer.variables)
            arrays |= {
                "epoch": epoch + 1,
                "history": json.dumps(self.history),
                "num_fits": self.num_fits,
                "seed": self.seed,
                "prior": json.dumps(describe_prior(self.model.model)),
            }
            _write(self.path, arrays)

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

__all__ = ["Checkpoint", "load_checkpoint", "load_weights", "save_weights"]


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


def _assign(prefix: str, variables, arrays: dict, path: Path) -> None:
    stored = sorted(key for key in arrays if key.startswith(f"{prefix}/"))
    if len(stored) != len(variables):
        raise ValueError(
            f"{path}: expected {len(variables)} {prefix} arrays for this architecture, "
            f"got {len(stored)}."
        )
    for key, variable in zip(stored, variables, strict=True):
        if arrays[key].shape != tuple(variable.shape):
            raise ValueError(
                f"{path}: expected {key} of shape {tuple(variable.shape)}, got {arrays[key].shape}."
            )
    for key, variable in zip(stored, variables, strict=True):
        variable.assign(arrays[key])


def save_weights(estimator, path) -> None:
    """Save a built estimator's variables to a compressed ``.npz`` file, atomically."""
    _write(Path(path), _variables("weights", estimator.weights), compressed=True)


def load_weights(estimator, path) -> None:
    """Load variables saved by `save_weights` or by a `Checkpoint`.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If the file is corrupted or belongs to another architecture; nothing is changed then.
    """
    _assign("weights", estimator.weights, _read(path), Path(path))


def load_checkpoint(estimator, optimizer, path) -> tuple[int, dict]:
    """Restore estimator and optimizer; return finished epochs and the history {name: list}."""
    arrays = _read(path)
    optimizer.build(estimator.trainable_variables)
    _assign("weights", estimator.weights, arrays, Path(path))
    _assign("generators", _generators(estimator), arrays, Path(path))
    _assign("optimizer", optimizer.variables, arrays, Path(path))
    return int(arrays["epoch"]), json.loads(str(arrays["history"]))


class Checkpoint(keras.callbacks.Callback):
    """Keras callback that writes a checkpoint after each epoch.

    Parameters
    ----------
    path : path
    history : dict
        Losses of epochs that were finished before, {name: list}.
    every : int
        Write after every so many epochs; the last is always written.
    """

    def __init__(self, path, history: dict, *, every: int = 1):
        super().__init__()
        self.path, self.every = Path(path), every
        self.history = {name: list(values) for name, values in history.items()}

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        last = epoch + 1 == self.params.get("epochs")
        if last or (epoch + 1) % self.every == 0:
            arrays = _variables("weights", self.model.weights)
            arrays |= _variables("generators", _generators(self.model))
            arrays |= _variables("optimizer", self.model.optimizer.variables)
            arrays |= {"epoch": epoch + 1, "history": json.dumps(self.history)}
            _write(self.path, arrays)

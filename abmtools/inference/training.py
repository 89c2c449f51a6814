"""Training: repeatable, and able to go on where it was interrupted.

A mixin for BayesFlow workflows. Data come from a `SeededDataset`, the state of training goes to a
`Checkpoint`; both are functions of the number of finished epochs alone.
"""

import inspect
from collections.abc import Mapping
from numbers import Real
from pathlib import Path

import keras
import numpy as np

from .checkpoint import Checkpoint, RequireFinite, count_fits, load_checkpoint
from .dataset import EpochCounter, SeededDataset

__all__ = ["SeededTraining"]

# What training passes on: options of Keras, and the metrics of BayesFlow.
OPTIONS = {*inspect.signature(keras.Model.fit).parameters, "metrics", "validation_data_kwargs"}


class SeededTraining:
    """A workflow that simulates its training data from `model`, seeded by epoch and block.

    Goes before ``bayesflow.BasicWorkflow`` in the list of bases. Attributes that a workflow has
    beside BayesFlow's: ``model``, what is simulated from; ``seed``, an integer; ``losses``, {name:
    list}, of the last call of ``fit_*``, also of its epochs before an interruption; ``num_fits``,
    the number of finished calls; ``checkpoint``, a path or None, and ``checkpoint_every``;
    ``card``, of a network that ships with the package, else None.
    """

    card = None

    def _init_training(
        self, seed: int, *, initial_learning_rate, optimizer, checkpoint, checkpoint_every
    ) -> None:
        """What comes before the first fit."""
        if not (isinstance(checkpoint_every, int | np.integer) and checkpoint_every >= 1):
            raise ValueError(
                f"checkpoint_every: expected a positive integer, got {checkpoint_every!r}."
            )
        self.seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
        if not (isinstance(initial_learning_rate, Real) and 0 < initial_learning_rate < np.inf):
            raise ValueError(
                f"initial_learning_rate: expected a positive number, got {initial_learning_rate!r}."
            )
        self._init_optimizer(initial_learning_rate, optimizer)
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        if checkpoint is not None and self.checkpoint.is_dir():
            raise ValueError(f"checkpoint: expected a file, got the folder {self.checkpoint}.")
        self.checkpoint_every = checkpoint_every
        self.checkpoint_filepath = None  # BayesFlow's own checkpoints are not atomic
        self.history, self.losses, self.num_fits = None, {}, 0
        self._needs_compile = True

    def __getstate__(self) -> dict:
        """What is pickled: all but the state of training, which a `checkpoint` keeps."""
        return self.__dict__ | {"history": None, "optimizer": None, "_needs_compile": True}

    def fit_online(
        self,
        epochs: int = 50,
        num_batches_per_epoch: int = 200,
        batch_size: int = 128,
        *,
        resume: bool = False,
        simulator=None,
        pad: bool | None = None,
        executor=None,
        **kwargs,
    ):
        """Train on fresh simulations, with a progress bar that shows the losses.

        Parameters
        ----------
        epochs, num_batches_per_epoch, batch_size : int
            N and R are drawn anew for each block of eight batches. A second call brings new data.
        resume : bool
            Go on from the workflow's checkpoint file if there is one; the data and learning rates
            of the remaining epochs are those of an uninterrupted run, whatever this workflow's
            seed. The file that an earlier, finished call of this workflow has left is none. The
            file is of one call: a new process repeats that call, and none of those before it.
        simulator : optional
            What simulates the training data in place of the workflow's model. It has the model's
            ``simulate(batch_size, rng=rng)``, ``num_obs`` and ``num_reps``; for instance a
            `HeterogeneousData`, or the same model with other settings.
        pad : bool, optional
            See `SeededDataset`; by default only where the backend compiles (JAX).
        executor : concurrent.futures.Executor or distributed.Client, optional
            What simulates the data, while this process trains. They are the same data. A block
            that fails is tried again, twice at most.
        **kwargs
            ``keep_optimizer``, ``validation_data``, ``augmentations``, ``verbose``, ``callbacks``
            and others, as in ``bayesflow.BasicWorkflow.fit_online``.

        Returns
        -------
        keras.callbacks.History
            Mean losses of each epoch, in nats. Those of a `MixtureWorkflow` are ``loss``,
            ``posterior_loss`` (per data set, standardized scale) and ``membership_loss`` (per
            observation).

        Raises
        ------
        TypeError
            If an option is unknown.
        ValueError
            If a number is not positive, `resume` is asked of a workflow without a checkpoint file,
            that file is corrupted or of another architecture, optimizer, model or prior, or the
            validation data are wrong.
        FloatingPointError
            If a loss is not a number; the checkpoint stays as it was.
        """
        for name, value in {
            "epochs": epochs,
            "num_batches_per_epoch": num_batches_per_epoch,
            "batch_size": batch_size,
        }.items():
            if not (isinstance(value, int | np.integer) and value >= 1):
                raise ValueError(f"{name}: expected a positive integer, got {value!r}.")
        dataset = SeededDataset(
            self.model if simulator is None else simulator,
            batch_size=batch_size,
            num_batches=num_batches_per_epoch,
            adapter=self.adapter,
            seed=self.seed,
            pad=keras.backend.backend() == "jax" if pad is None else pad,
            augmentations=kwargs.pop("augmentations", None),
            executor=executor,
        )
        kwargs.setdefault("shuffle", False)  # fresh batches come in the order of their blocks
        keep_optimizer = kwargs.pop("keep_optimizer", False)
        validation_data = kwargs.pop("validation_data", None)
        return self._fit(
            dataset, epochs, "online", keep_optimizer, validation_data, resume=resume, **kwargs
        )

    def _fit(
        self, dataset, epochs, strategy, keep_optimizer, validation_data, *, resume=False, **kwargs
    ):
        unknown = sorted(kwargs.keys() - OPTIONS)
        if unknown:
            raise TypeError(
                f"{unknown[0]}: expected an option of this method or of keras.Model.fit."
            )
        if isinstance(validation_data, Mapping):
            validation_data = self.check_training_data(validation_data)
        callbacks = [RequireFinite(), *(kwargs.pop("callbacks", None) or [])]
        if resume and self.checkpoint is None:
            raise ValueError("resume: expected a workflow with a checkpoint file, got none.")
        first, self.losses = 0, {}
        # What an earlier call of this workflow has left is no beginning of this one.
        if resume and self.checkpoint.exists() and count_fits(self.checkpoint) >= self.num_fits:
            optimizer = self.build_optimizer(epochs, dataset.num_batches, strategy=strategy)
            first, self.losses, self.num_fits, seed = load_checkpoint(
                self.estimator, optimizer, self.checkpoint
            )
            self.seed = self.seed if seed is None else seed
        if isinstance(dataset, SeededDataset):
            dataset.seed = self.seed + self.num_fits  # each call has data of its own
            callbacks.append(EpochCounter(dataset))
        if self.checkpoint is not None:
            callbacks.append(
                Checkpoint(
                    self.checkpoint,
                    self.losses,
                    num_fits=self.num_fits,
                    seed=self.seed,
                    every=self.checkpoint_every,
                )
            )
        history = super()._fit(
            dataset, epochs, strategy, keep_optimizer, validation_data,
            callbacks=callbacks, initial_epoch=first, **kwargs,
        )  # fmt: skip
        self.num_fits += 1
        for name, values in history.history.items():
            self.losses.setdefault(name, []).extend(values)
        return history

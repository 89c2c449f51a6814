"""A store of data sets with draws of their posteriors, in memory or in files."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..models.data import KEYS
from ..models.description import describe

__all__ = ["HeterogeneousData"]

CONTENTS = "contents.json"  # what of the data is no array


@dataclass(frozen=True)
class HeterogeneousData:
    """What simulates half of its data sets from the model and takes half from a store.

    Goes to `MixtureWorkflow.fit_online` as its ``simulator``.

    Attributes
    ----------
    model : MixtureModel
    blocks : list of dict
        Heterogeneous data sets that share N and R: ``"y"``, (B, N, ...), and masks; ``"z"``,
        (B, L, N), and parameters {name: (B, L, ...)}, L draws of each one's posterior;
        ``"log_density"``, (B, L), the logarithm of that posterior's density at the draws, on the
        unconstrained scale.
    num_rejected : int
        Data sets that were left out because of their importance weights.
    folder : pathlib.Path or None
        Where `load` found them; other processes read them there, too.
    """

    model: object
    blocks: list[dict]
    num_rejected: int = 0
    folder: Path | None = None

    def __repr__(self) -> str:
        return (
            f"HeterogeneousData({self.model.name}, num_datasets={self.num_datasets}, "
            f"num_rejected={self.num_rejected})"
        )

    @property
    def num_datasets(self) -> int:
        """Number of heterogeneous data sets."""
        return sum(len(block["y"]) for block in self.blocks)

    @property
    def num_obs(self) -> tuple[int, int]:
        """Range of N, that of the model."""
        return self.model.num_obs

    @property
    def num_reps(self) -> tuple[int, int] | None:
        """Range of R, that of the model."""
        return self.model.num_reps

    def save(self, folder) -> None:
        """Write the data sets to files, for another training or another process.

        Parameters
        ----------
        folder : str or pathlib.Path
            Made by this. What a crash leaves behind ends in ``.part``.

        Raises
        ------
        FileExistsError
            If there is something of that name.
        """
        folder = Path(folder)
        if folder.exists():
            raise FileExistsError(f"folder: expected a new one, got {folder}.")
        unfinished = folder.with_name(folder.name + ".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for number, block in enumerate(self.blocks):
            for name, values in block.items():
                np.save(unfinished / f"{number}-{name}.npy", values)
        contents = {
            "model": describe(self.model),
            "blocks": [list(block) for block in self.blocks],
            "num_rejected": self.num_rejected,
        }
        (unfinished / CONTENTS).write_text(json.dumps(contents), encoding="utf-8")
        unfinished.rename(folder)

    @classmethod
    def load(cls, folder, model) -> "HeterogeneousData":
        """Data sets that `save` wrote, read from their files when they are needed.

        Parameters
        ----------
        folder : str or pathlib.Path
        model : MixtureModel
            The one that they belong to.

        Returns
        -------
        HeterogeneousData

        Raises
        ------
        FileNotFoundError
            If the folder holds no saved data.
        ValueError
            If they belong to another model, or to one with another prior.
        """
        folder = Path(folder).absolute()
        if not (folder / CONTENTS).is_file():
            raise FileNotFoundError(f"folder: expected heterogeneous data in {folder}, got none.")
        contents = json.loads((folder / CONTENTS).read_text(encoding="utf-8"))
        if contents["model"] != describe(model):
            raise ValueError(f"model: expected {contents['model']}, got {describe(model)}.")
        blocks = [
            {name: np.load(folder / f"{number}-{name}.npy", mmap_mode="r") for name in names}
            for number, names in enumerate(contents["blocks"])
        ]
        return cls(model, blocks, contents["num_rejected"], folder)

    def __reduce__(self):
        """From files, another process gets their folder's name."""
        if self.folder is not None:
            return HeterogeneousData.load, (self.folder, self.model)
        return HeterogeneousData, (self.model, self.blocks, self.num_rejected)

    def simulate(self, batch_size: int, *, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Data sets of one size, as `MixtureModel.simulate`, each kind half of them, shuffled.

        Short ones come more often than long ones, so that either take as much of a training's time.
        """
        share = 1 / np.array([block["y"].shape[1] for block in self.blocks])
        block = self.blocks[rng.choice(len(self.blocks), p=share / share.sum())]
        num_stored = batch_size // 2
        rows = rng.integers(len(block["y"]), size=num_stored)
        draws = rng.integers(block["z"].shape[1], size=num_stored)
        sizes = {"num_obs": block["y"].shape[1]}
        if self.num_reps is not None and "replicate_mask" not in block:
            sizes["num_reps"] = block["y"].shape[2]
        fresh = self.model.simulate(batch_size - num_stored, rng=rng, **sizes)
        order = rng.permutation(batch_size)
        return {
            name: np.concatenate(
                [block[name][rows] if name in KEYS else block[name][rows, draws], values]
            )[order]
            for name, values in fresh.items()
        }

    def gap(self, workflow) -> np.ndarray:
        r"""How far a network is from exact on each of the heterogeneous data sets, in nats, (B,).

        :math:`\log p(u \mid y) - \log q(u \mid y)`, averaged over the draws of the posterior. What
        a network was trained on is no fair judge of it: take data with another seed.

        Parameters
        ----------
        workflow : MixtureWorkflow
            Of the same model.
        """
        gaps = []
        for block in self.blocks:
            data = {name: block[name] for name in KEYS if name in block}
            draws = {name: block[name] for name in self.model.parameter_names}
            u = self.model.unconstrain(draws, data)
            ratio = block["log_density"] - workflow.log_prob_unconstrained(data, u)
            gaps.append(ratio.mean(axis=1))
        return np.concatenate(gaps)

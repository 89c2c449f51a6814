"""A store of data sets with draws and their log joint densities, in memory or in files."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from ..inference.consistency import inconsistency
from ..models.data import KEYS
from ..models.description import describe

__all__ = ["HeterogeneousData"]

CONTENTS = "contents.json"  # what of the data is no array


@dataclass(frozen=True)
class HeterogeneousData:
    """What simulates data sets from the model, and brings as many others from a store.

    Goes to `MixtureWorkflow.fit_online` as its ``simulator``.

    Attributes
    ----------
    model : MixtureModel
    blocks : list of dict
        Heterogeneous data sets that share N and R: ``"y"``, (B, N, ...), and masks; ``"draws"``,
        (B, L, D), parameters on the unconstrained scale; ``"log_joint"``, (B, L), log p(u, y) at
        these, up to a constant.
    num_rejected : int
        Data sets that were left out, because most of the network's draws were impossible.
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

    def simulate(self, batch_size: int, *, rng: np.random.Generator) -> dict:
        """Data sets of one size, as `MixtureModel.simulate`, and as many heterogeneous ones.

        These are in ``"others"``, with half of their draws, taken at random.
        """
        size = np.array([len(block["y"]) for block in self.blocks])
        block = self.blocks[rng.choice(len(self.blocks), p=size / size.sum())]
        rows = rng.integers(len(block["y"]), size=batch_size)
        sizes = {"num_obs": block["y"].shape[1]}
        if self.num_reps is not None and "replicate_mask" not in block:
            sizes["num_reps"] = block["y"].shape[2]
        others = {name: block[name][rows] for name in KEYS if name in block}
        num_draws = block["log_joint"].shape[1]
        chosen = rng.permuted(np.tile(np.arange(num_draws), (batch_size, 1)), axis=1)
        chosen = chosen[:, : -(-num_draws // 2)]
        log_joint = np.take_along_axis(block["log_joint"][rows], chosen, axis=1)
        others |= {
            "draws": np.take_along_axis(block["draws"][rows], chosen[..., None], axis=1),
            "log_joint": centered(log_joint),
        }
        return self.model.simulate(batch_size, rng=rng, **sizes) | {"others": others}

    def inconsistency(self, workflow) -> np.ndarray:
        """How much log p(u, y) - log q(u | y) of a network varies over the draws, in nats, (B,).

        Zero where it is exact. What a network was trained on is no fair judge of it: take data with
        another seed.

        Parameters
        ----------
        workflow : MixtureWorkflow
            Of the same model.
        """
        found = []
        for block in self.blocks:
            data = {name: block[name] for name in KEYS if name in block}
            log_q = workflow.log_prob_unconstrained(data, np.asarray(block["draws"]))
            ratio = centered(block["log_joint"] - log_q)
            found.append(keras.ops.convert_to_numpy(inconsistency(ratio)))
        return np.concatenate(found)


def centered(values: np.ndarray) -> np.ndarray:
    """Numbers, (B, L), less a constant for each row, before single precision cuts them off."""
    return (values - np.median(values, axis=1, keepdims=True)).astype("float32")

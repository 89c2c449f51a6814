"""Stop unless PyTorch and Keras compute on an NVIDIA GPU; print the backend that trains on it.

``make book PROFILE=gpu`` asks this first: on a CPU everything would run as well, only slower, and
nobody would notice that the GPU was never used. JAX compiles the small steps of training, so it
trains where it is installed with CUDA, and PyTorch does elsewhere. With ``--trained FOLDER``, stop
unless each network was trained into that folder, on a GPU, as their cards say.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"  # what the chapters run on


def check_torch() -> str:
    """Name of the GPU; SystemExit where PyTorch or Keras would not compute on it."""
    import keras
    import torch

    if not torch.cuda.is_available():
        raise SystemExit(
            "PROFILE=gpu: expected a GPU that PyTorch can use, got none "
            f"(torch {torch.__version__}, built for CUDA {torch.version.cuda}). Does nvidia-smi "
            "show a driver, and is it new enough for this CUDA? Without a GPU: make book"
        )
    device = keras.ops.matmul(keras.ops.ones((2, 2)), keras.ops.ones((2, 2))).device.type
    if device != "cuda":
        raise SystemExit(f"PROFILE=gpu: expected Keras to compute on cuda, got {device}.")
    return torch.cuda.get_device_name()


def training_backend() -> str:
    """JAX where it is installed and finds the GPU, else PyTorch."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # only a look
    try:
        import jax

        return "jax" if jax.default_backend() == "gpu" else "torch"
    except (ImportError, RuntimeError):
        return "torch"


def check_trained(folder: Path, names) -> None:
    """Each named network has a card in the folder that names a GPU; SystemExit otherwise."""
    for name in names:
        path = folder / name / "card.json"
        if not path.is_file():
            raise SystemExit(f"PROFILE=gpu: expected a trained network with {path}, got none.")
        hardware = json.loads(path.read_text(encoding="utf-8"))["hardware"]
        trainings = hardware.split(", then ")
        if not all(any(x in training for x in ("cuda", "gpu")) for training in trainings):
            raise SystemExit(f"PROFILE=gpu: expected {name} trained on a GPU, got {hardware!r}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trained", type=Path, metavar="FOLDER")
    parser.add_argument("names", nargs="*", help="networks that have to be there")
    arguments = parser.parse_args()
    if arguments.trained:
        check_trained(arguments.trained, arguments.names)
        return
    name = check_torch()
    backend = training_backend()
    print(f"GPU: {name}; networks are trained with {backend}", file=sys.stderr)
    print(backend)


if __name__ == "__main__":
    main()

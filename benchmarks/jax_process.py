"""A process on JAX, beside one on torch, so that both are timed in one run."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from unittest.mock import patch

__all__ = ["start_jax_process"]


def start_jax_process(**variables: str) -> ProcessPoolExecutor:
    """A process that computes with JAX on the CPU and waits for what is submitted.

    Parameters
    ----------
    **variables
        Further environment variables.

    Returns
    -------
    concurrent.futures.ProcessPoolExecutor
        Functions that are submitted come from the calling script, which it imports.
    """
    variables |= {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    with patch.dict(os.environ, variables):
        process = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        process.submit(int).result()  # now it has started, with these variables
    return process

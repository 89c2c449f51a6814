"""Blocks in threads: the same numbers as one after the other, and torch's threads as before."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from abmtools.inference.threads import run_in_threads


@pytest.fixture
def two_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_each_thread_has_a_core_of_its_own(two_cores):
    met = threading.Barrier(2, timeout=60)  # nobody passes alone

    def look(block):
        met.wait()
        return block, torch.get_num_threads(), threading.current_thread().name

    found = run_in_threads(look, range(2))
    assert [block for block, *_ in found] == [0, 1]
    assert [cores for _, cores, _ in found] == [1, 1]
    assert len({name for *_, name in found}) == 2
    assert torch.get_num_threads() == 2


def test_torch_has_its_threads_back_after_an_error(two_cores):
    def fail(block):
        raise ArithmeticError(f"block {block}")

    with pytest.raises(ArithmeticError, match="block 0"):
        run_in_threads(fail, range(4))
    assert torch.get_num_threads() == 2
    assert run_in_threads(lambda _: torch.get_num_threads(), [0]) == [2]  # one has all cores


def test_one_core_takes_one_block_after_the_other(two_cores):
    torch.set_num_threads(1)
    found = run_in_threads(lambda block: (block, threading.get_ident()), iter("ab"))
    assert found == [("a", threading.get_ident()), ("b", threading.get_ident())]


def test_samples_are_the_same_on_any_number_of_cores(workflow, simulated, two_cores, monkeypatch):
    monkeypatch.setattr("abmtools.inference.workflow.PROBABILITIES_AT_ONCE", 1)
    monkeypatch.setattr("abmtools.inference.workflow.ROWS_PER_BATCH", 1)

    def sample():
        posterior = workflow.sample(conditions=simulated, num_samples=500, seed=1)
        return posterior.unconstrained, posterior.membership, posterior.log_prob

    together = [sample() for _ in range(5)]
    torch.set_num_threads(1)
    apart = sample()
    for found in together:
        for values, expected in zip(found, apart, strict=True):
            np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)


def test_draws_are_repeatable_in_anyones_threads(workflow, simulated):
    """Keras seeds torch's global generator for some of them, and puts its state back."""

    def sample(seed):
        return workflow.sample(conditions=simulated, num_samples=20, seed=seed).unconstrained

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(sample, range(60)))
    for seed, draws in enumerate(together):
        np.testing.assert_allclose(draws, sample(seed), rtol=1e-4, atol=1e-5)

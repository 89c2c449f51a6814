"""Student distributions with the moments of draws."""

import numpy as np
import pytest

from abmtools.diagnostics.proposals import fit_student


@pytest.mark.parametrize("dim", [1, 3])
def test_moments_are_those_of_the_draws(dim):
    u = np.random.default_rng(6).normal(size=(40_000, dim)) + np.arange(dim)
    student = fit_student(u, degrees=7, widened=2.0)
    np.testing.assert_allclose(student.loc, np.arange(dim), atol=0.05)
    np.testing.assert_allclose(student.shape, 2 * np.eye(dim), atol=0.1)
    assert student.df == 7

r"""Normal emissions with known scale and exchangeable replicates, shared by several models.

For replicates :math:`y_1, \dots, y_R` of one observation

.. math:: \sum_j \log \operatorname{Normal}(y_j \mid \mu, \sigma) =
          c(y) - \frac{R}{2 \sigma^2} (\bar y - \mu)^2

so their mean and number are sufficient; c(y) is the part that no mean changes.
"""

import numpy as np

__all__ = [
    "check_settings",
    "draw_normal",
    "draw_ordered_means",
    "log_normal_emission",
    "spaced_locations",
    "sufficient",
]


def check_settings(num_components: int, *, at_least: int = 2, **hyperparameters: float):
    """Refuse too few components and hyperparameters that are not positive."""
    if num_components < at_least:
        raise ValueError(f"num_components: expected at least {at_least}, got {num_components}.")
    for argument, value in hyperparameters.items():
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{argument}: expected a positive number, got {value}.")


def spaced_locations(num_components: int, means_location=None) -> np.ndarray:
    """Prior locations of the means, (K,): as given, or two units apart around zero."""
    if means_location is None:
        means_location = 2.0 * np.arange(num_components) - (num_components - 1)
    location = np.asarray(means_location, dtype="float64")
    if (
        location.shape != (num_components,)
        or not np.all(np.isfinite(location))
        or np.any(np.diff(location) < 0)
    ):
        raise ValueError(
            f"means_location: expected {num_components} finite non-decreasing numbers, "
            f"got {means_location}."
        )
    return location


def draw_ordered_means(rng, location, scale: float, batch_size: int) -> np.ndarray:
    """Normal means (B, K) conditioned on increasing order: draw, reject unless ordered."""
    means = np.empty((batch_size, len(location)))
    todo = np.arange(batch_size)
    while todo.size:
        proposal = rng.normal(location, scale, (todo.size, len(location)))
        accepted = np.all(np.diff(proposal, axis=1) > 0, axis=1)
        means[todo[accepted]] = proposal[accepted]
        todo = todo[~accepted]
    return means


def draw_normal(rng, means: np.ndarray, z: np.ndarray, num_reps: int, scale: float) -> np.ndarray:
    """Replicates (B, N, R), float32, of components z, (B, N), with means (B, K)."""
    chosen = np.take_along_axis(means.astype("float32"), z, axis=1)
    noise = rng.standard_normal((*z.shape, num_reps), dtype="float32")
    return chosen[..., None] + np.float32(scale) * noise


def log_normal_emission(data: dict, means: np.ndarray, scale: float) -> np.ndarray:
    """log p(y_i | z_i = k), (B, S, N, K), for means (B, S, K)."""
    total, count = sufficient(data)
    count = np.maximum(count, 1)[:, None, :, None]
    deviation = (total[:, None, :, None] / count - means[:, :, None]) / scale
    rest = _within(data, scale)[:, None, :, None]
    return rest - 0.5 * count * np.square(deviation)


def sufficient(data: dict) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of observed replicates, each (B, N); masked values are zero."""
    y = data["y"]
    if "replicate_mask" in data:
        return y.sum(axis=2), data["replicate_mask"].sum(axis=2)
    return y.sum(axis=2), np.full(y.shape[:2], y.shape[2])


def _within(data: dict, scale: float) -> np.ndarray:
    """The part of log p(y_i | z_i = k) that does not depend on k, (B, N)."""
    y = data["y"]
    observed = data.get("replicate_mask", np.ones(y.shape, dtype=bool))
    count = observed.sum(axis=2)
    mean = y.sum(axis=2) / np.maximum(count, 1)
    squares = (np.square(y - mean[..., None]) * observed).sum(axis=2)
    return -0.5 * squares / scale**2 - count * (np.log(scale) + 0.5 * np.log(2 * np.pi))

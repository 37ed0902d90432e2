"""Measurements made from a law that is known."""

from collections.abc import Callable

import numpy as np

from kunlun_jax.metrics.user_bootstrap import UserBootstrap
from kunlun_jax.scaling.analysis import Measurements


def measurements(
    laws: dict[str, Callable[[np.ndarray], np.ndarray]],
    *,
    flops: tuple[float, ...] = (1e6, 2e6, 4e6, 8e6, 16e6),
    num_seeds: int = 3,
    num_users: int = 400,
    seed_noise: float = 0.002,
    num_resamples: int = 600,
    seed: int = 0,
) -> Measurements:
    """Return runs whose expected NE follows a law.

    Users differ in level (which all runs share), in how much they gain from compute, and from run
    to run; seeds move all users of a run.

    Args:
        laws: NE of each family as a function of FLOPs.
        flops: Of the sizes, the same ones for all families.
        num_seeds: Seeds.
        num_users: Users.
        seed_noise: Standard deviation over seeds.
        num_resamples: Resamples of the users.
        seed: Seed of it all.
    """
    generator = np.random.default_rng(seed)
    sizes = np.array(flops)
    x = np.log(sizes / sizes[0])
    weights = generator.integers(20, 80, num_users).astype(np.float64)
    levels = generator.normal(0.0, 0.2, num_users)
    slopes = generator.normal(0.0, 0.02, num_users)
    expected = np.array([law(sizes) for law in laws.values()])[:, :, None, None]
    runs = (len(laws), len(sizes), num_seeds, 1)
    losses = (
        expected
        + generator.normal(0.0, seed_noise, runs)
        + levels
        + slopes * x[:, None, None]
        + generator.normal(0.0, 0.02, (*runs[:3], num_users))
    )
    flat = losses.reshape(-1, num_users).T
    bootstrap = UserBootstrap(np.arange(num_users), num_resamples=num_resamples, seed=seed)
    draws = np.concatenate(
        [np.average(flat, axis=0, weights=weights)[None], bootstrap.means(flat, weights)]
    )
    return Measurements(
        tuple(laws), np.tile(sizes, (len(laws), 1)), draws.reshape(-1, *losses.shape[:3])
    )

"""Measurements and records made from a law that is known."""

import json
import math
from collections.abc import Callable

import numpy as np

from kunlun_jax.config import to_mapping
from kunlun_jax.metrics.user_bootstrap import UserBootstrap
from kunlun_jax.scaling.analysis import Measurements
from kunlun_jax.scaling.record_lines import Record

GAINS = {"kunlun": 0.02, "din": 0.01, "hstu": 0.005}
USERS = np.random.default_rng(0).normal(0, 0.05, 300)  # how hard each is; all runs meet them
BOOTSTRAP = UserBootstrap(np.arange(300), num_resamples=100)


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


def planted_record(run):
    """Stands for training: NE follows a law of the width, and CompSkip costs 0.01."""
    model = run.config.model
    ne = 0.9 - GAINS[model.name] * math.log(model.dim) - 0.01 * (not model.comp_skip)
    generator = np.random.default_rng([model.dim, run.seed, len(model.name)])
    losses = ne + generator.normal(0, 3e-4) + USERS
    draws = np.append(losses.mean(), BOOTSTRAP.means(losses, np.ones(300)))
    content = {
        "name": run.name, "dataset": {"name": "planted", "counts": 0}, "num_resamples": 100,
        "flops": 1000 * model.dim, "parameters": 5, "table_parameters": 7, "examples": 960,
        "examples_per_second": 10.0, "examples_per_cpu_second": 5.0, "minutes": 1.0,
        "cpu_minutes": 2.0, "config": plain(run.config),
        "learning_curve": {"examples": [480, 960], "normalized_entropy": [1.0, ne + 0.01]},
        "environment": {
            "git_commit": "abcdef0123", "num_cpus": 2, "processor": "P", "device": "cpu",
        },
    }  # fmt: skip
    return Record(content, {"normalized_entropy": draws, "auc_roc": 1.5 - draws})


def plain(config):
    return json.loads(json.dumps(to_mapping(config)))

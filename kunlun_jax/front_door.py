"""The front door of a trained model; what it takes to open is imported when it is opened."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kunlun_jax.serving import Ranker


def load(workdir: str | os.PathLike[str], **options: Any) -> "Ranker":
    """Open a trained run to score with it.

        import kunlun_jax
        from kunlun_jax.data import Events, Request

        ranker = kunlun_jax.load("runs/base")
        user = Request(time=1_700_000_000, events={"view": Events(times=[1_699_999_000])})
        scores = ranker.score(user, {"item": [17, 4, 99]})  # float64 [3, tasks]

    Args:
        workdir: The run's working directory.
        options: As of `kunlun_jax.serving.load`.

    Raises:
        ValueError: If there is no run, or something of it is missing or damaged.
        OSError: If it cannot be read.
    """
    from kunlun_jax.serving import load

    return load(workdir, **options)

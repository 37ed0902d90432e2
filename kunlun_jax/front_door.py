"""The front door of a trained model; what it takes to open is imported when it is opened."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kunlun_jax.serving import Ranker


def load(workdir: str | os.PathLike[str], **options: Any) -> "Ranker":
    """Open a trained run to score with it.

    Args:
        workdir: The run's working directory.
        options: As of `kunlun_jax.serving.load`.

    Raises:
        ValueError: If there is no run, or something of it is missing or damaged.
        OSError: If it cannot be read.

    Examples:
        Three candidates for a user of one purchase, by the run of configs/smoke.py, of one task.

        >>> import kunlun_jax
        >>> from kunlun_jax.data import Events, Request
        >>> ranker = kunlun_jax.load("runs/smoke")
        >>> user = Request(time=1_700_000_000, events={"purchase": Events(times=[1_699_999_000])})
        >>> scores = ranker.score(user, {"item": [17, 4, 9]})
        >>> scores.shape, scores.dtype
        ((3, 1), dtype('float64'))
    """
    from kunlun_jax.serving import load

    return load(workdir, **options)

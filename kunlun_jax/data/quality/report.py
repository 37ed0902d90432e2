"""What the validation of a data set finds out; its card is made of this."""

import dataclasses
from typing import Any

from kunlun_jax.data.quality.profile import Profile
from kunlun_jax.data.quality.summary import Summary
from kunlun_jax.data.schema import Schema


@dataclasses.dataclass(frozen=True)
class Report:
    """What validation found out.

    Attributes:
        manifest: The content of dataset.json.
        schema: The schema.
        findings: A line for everything that is wrong; names file, row and column where it can.
        summary: Sums of the shards that could be read; None if none could.
        profile: Histograms of them.
    """

    manifest: dict[str, Any]
    schema: Schema
    findings: list[str]
    summary: Summary | None
    profile: Profile | None

"""What a model's scores depend on, as `kunlun-jax why` has found it."""

from kunlun_jax.report.facts import Facts
from kunlun_jax.report.html import Node


def importance_section(facts: Facts) -> Node | None:
    """Return the section; None where nobody has asked.

    Args:
        facts: Of the run.
    """
    del facts
    return None

"""What a model's scores depend on, as `kunlun-jax why` has found it."""

from kunlun_jax.report.facts import Facts
from kunlun_jax.report.html import Node, section, table
from kunlun_jax.report.parts import NAMES, estimate_text, interval_rows, paragraph
from kunlun_jax.training.workdir import BEST_STEP


def importance_section(facts: Facts) -> Node | None:
    """Return the section; None where nobody has asked.

    Args:
        facts: Of the run.
    """
    found = facts.importance
    if found is None:
        return None
    differences = [row["difference"] for row in found["inputs"]]
    pictures = interval_rows(differences, "normalized_entropy", zero=True)
    rows = [
        (
            row["title"],
            row["kind"],
            estimate_text(row["difference"]["normalized_entropy"], "+.5f"),
            picture,
            estimate_text(row["difference"]["auc_roc"], "+.5f"),
        )
        for row, picture in zip(found["inputs"], pictures, strict=True)
    ]
    intact = found["intact"]
    note = (
        f"What the checkpoint of step {found['step']:,} loses when one input is permuted: NE "
        f"rises, AUC falls. Task {found['task']}, {intact['num_examples']:,} test examples of "
        f"{intact['num_users']:,} users; intervals: 95 %, of {found['num_resamples']:,} resamples "
        "of the users. Inputs that tell the same hide each other: of two, each alone seems to "
        "matter little."
    )
    older = found["step"] != int(facts.final[BEST_STEP])
    header = ("permuted", "kind", f"{NAMES['normalized_entropy']} - intact", "drawn",
              f"{NAMES['auc_roc']} - intact")  # fmt: skip
    return section(
        "Importance",
        paragraph(note),
        paragraph("That is another checkpoint than this report's.") if older else None,
        table(header, rows, "Permutation importance"),
    )

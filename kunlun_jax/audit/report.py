"""What an audit says: tables, the share of the gain that needs order and time, and what it means.

    gain  = NE of a reference - NE of the intact model
    share = (NE of the perturbed model - NE of the intact model) / gain

References: "context", the best row that knows no history; "counting", the best that counts events.
A share is given where there is a gain. Its interval is that of the numerator; the gain counts as
known.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kunlun_jax.audit.counting import COUNTS
from kunlun_jax.training.summary import format_table

ORDER_AND_TIME = "order and timestamps shuffled"
NOTES = (
    "Intervals: 95 %, bootstrap over users. Shares: of the gain in NE over the row named above, "
    "which counts as known; over 100 %, the model is worse than that row.",
    "A model that was never trained without order and time does worse without them than one that "
    "was: the share is the most that the gain owes to them, not what it owes to them.",
    "Models that sort all events by age (hstu, tokenformer, interformer) undo 'event order "
    "shuffled', and follow 'timestamps shuffled' in both order and time.",
)


def references(counting: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the best row without counts as "context" and the best with counts as "counting".

    Args:
        counting: Rows of `counting_rows`.
    """

    def counts(row: Mapping[str, Any]) -> bool:
        return any(name.startswith(COUNTS) for name in row["features"])

    return {
        name: min(
            (row for row in counting if counts(row) == wanted),
            key=lambda row: row["normalized_entropy"],
        )
        for name, wanted in (("context", False), ("counting", True))
    }


def add_shares(
    rows: Sequence[Mapping[str, Any]], found: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the model's rows with the share of the gain over every reference that each loses.

    Args:
        rows: Rows of `audit_model`, the intact model first.
        found: The references.
    """
    intact = rows[0]["normalized_entropy"]
    result = []
    for row in rows:
        lost = row.get("difference", {}).get("normalized_entropy")
        shares = {}
        for name, reference in found.items():
            gain = reference["normalized_entropy"] - intact
            shares[name] = (
                {key: lost[key] / gain for key in ("value", "low", "high")}
                if lost and gain > 0
                else None
            )
        result.append({**row, **({"share_of_gain_lost": shares} if lost else {})})
    return result


def verdict(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say how much of the gain over each reference needs order and time at all.

    Args:
        rows: Rows of `add_shares`.
        found: The references.
    """
    intact = rows[0]["normalized_entropy"]
    row = next(row for row in rows if row["name"] == ORDER_AND_TIME)
    lost = row["difference"]["normalized_entropy"]
    sentences = [
        f"Without order and timestamps the model loses {_signed(lost, 'NE')}: its NE rises from "
        f"{intact:.5f} to {row['normalized_entropy']:.5f}."
    ]
    for name, reference in found.items():
        gain = reference["normalized_entropy"] - intact
        share = row["share_of_gain_lost"][name]
        whom = f"{name} ({reference['name']}, NE {reference['normalized_entropy']:.5f})"
        if share is None:
            sentences.append(f"It does not beat {whom}: there is no gain to need anything.")
        else:
            sentences.append(
                f"Of its gain of {gain:.5f} over {whom}, at most {share['value']:z.0%} "
                f"[{share['low']:z.0%}, {share['high']:z.0%}] needs order and time at all."
            )
    return sentences


def counting_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of the rows without a model."""
    cells = [[r["name"], f"{r['normalized_entropy']:.5f}", f"{r['auc_roc']:.5f}"] for r in rows]
    return ["without a model", "NE", "AUC"], cells


def model_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of the model's rows, as `add_shares` returns them."""
    header = ["the model", "NE", "AUC", "NE - intact", "AUC - intact", "of gain over context"]
    header.append("over counting")
    cells = []
    for row in rows:
        line = [row["name"], f"{row['normalized_entropy']:.5f}", f"{row['auc_roc']:.5f}"]
        if "difference" in row:
            line += [_signed(x) for x in row["difference"].values()]
            line += [
                "no gain" if share is None else f"{share['value']:z.0%}"
                for share in row["share_of_gain_lost"].values()
            ]
        cells.append(line + [""] * (len(header) - len(line)))
    return header, cells


def screen(content: Mapping[str, Any]) -> str:
    """Return the report for a terminal."""
    tables = [
        format_table(*make(content[key]))
        for make, key in ((counting_table, "counting"), (model_table, "model"))
    ]
    return "\n\n".join([_label(content), *tables, "\n".join(content["verdict"])])


def markdown(content: Mapping[str, Any]) -> str:
    """Return the report as a page."""
    intact = content["model"][0]
    commit = str(content["environment"]["git_commit"])[:7]
    parts = [
        f"# Shortcut audit of {content['workdir']}",
        f"{content['family']} on {content['dataset']}, {_label(content)}: the best "
        f"checkpoint (step {content['step']}) on {intact['num_examples']:,} test examples of "
        f"{intact['num_users']:,} users; commit {commit}.",
        "\n".join(f"- {sentence}" for sentence in content["verdict"]),
        _markdown_table(*model_table(content["model"])),
        _markdown_table(*counting_table(content["counting"])),
        "\n".join(f"- {note}" for note in NOTES),
    ]
    return "\n\n".join(parts) + "\n"


def _label(content: Mapping[str, Any]) -> str:
    """Say which label the report is of."""
    count = len(content.get("tasks", ()))  # audits of earlier versions name one label only
    others = f" (one of {count}; --task names another)" if count > 1 else ""
    return f"label {content['task']}{others}"


def _signed(estimate: Mapping[str, float], unit: str = "") -> str:
    number = f"{estimate['value']:+.5f}{' ' if unit else ''}{unit}"
    return f"{number} [{estimate['low']:+.5f}, {estimate['high']:+.5f}]"


def _markdown_table(header: list[str], cells: list[list[str]]) -> str:
    rows = [header, ["---", *["---:"] * (len(header) - 1)], *cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)

"""The code and the commands in the documentation."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]


def blocks(page: str, heading: str, language: str) -> list[str]:
    """Return the blocks of a language between a heading and the next of its level or above.

    Args:
        page: Path of a Markdown file below the root.
        heading: The heading's line, such as "## Data".
        language: "bash" or "python".
    """
    lines = (ROOT / page).read_text().splitlines()
    marks = heading.split(" ", 1)[0]
    found: list[list[str]] = []
    inside, fenced = False, ""
    for line in lines:
        if fenced:
            if line == "```":
                fenced = ""
            elif inside and fenced == language:
                found[-1].append(line)
        elif line.startswith("```"):
            fenced = line.removeprefix("```") or "text"
            if inside and fenced == language:
                found.append([])
        elif line == heading:
            inside = True
        elif re.match(rf"#{{1,{len(marks)}}} ", line):
            inside = False
    return ["\n".join(block) + "\n" for block in found]


def command_lines(page: str, *headings: str) -> list[str]:
    """Return the lines of the shell blocks below some headings of a page, as `shell_lines` does."""
    return shell_lines("".join(x for heading in headings for x in blocks(page, heading, "bash")))


def shell_lines(block: str) -> list[str]:
    """Return the lines of a shell block, joined where they go on, without comments."""
    lines = [re.sub(r"(^|\s)# .*", "", line) for line in block.replace("\\\n", " ").splitlines()]
    return [" ".join(line.split()) for line in lines if line.strip()]

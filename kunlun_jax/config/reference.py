"""What is written from the fields: the settings of configs/base.py, and docs/configuration.md.

python -m kunlun_jax.config.reference    # in a checkout, after a field has changed
"""

import dataclasses
import json
import pathlib
import re
import textwrap
import typing
from typing import Annotated, Any, Literal

from kunlun_jax.config.experiment import ExperimentConfig
from kunlun_jax.config.fields import ANY_NAME, Binding, Path, Setting, hints_of, settings_of

_ROOT = pathlib.Path(__file__).parents[2]
BASE = _ROOT / "configs" / "base.py"
PAGE = _ROOT / "docs" / "configuration.md"
BEGIN = "    # From the fields of kunlun_jax/config, by `python -m kunlun_jax.config.reference`.\n"
END = "    # What this file chooses: options of its data source, and the streams.\n"
_COLUMNS = 100
_WORDS = {int: "integer", float: "number", bool: "true or false", str: "text", Any: "anything"}
_MAY_CHANGE: dict[Binding, str] = {"itself": "no", "nothing": "yes", "content": "to the same data"}

_HEAD = """# Configuration

Every setting, its type and bounds, its default and its meaning. This page and the settings of
[configs/base.py](../configs/base.py) are written from the fields of the classes in
[kunlun_jax/config](../kunlun_jax/config); a test compares them.

A setting is changed on the command line, `--config.model.dim=96`, or in a config file of your own
that starts from base:

```python
from kunlun_jax.configs import base


def get_config():
    config = base.get_config()
    config.model.dim = 96
    config.model.gdpa.activation = ("gelu", "relu")  # of streams with two heads
    return config
```

A list is written as a tuple, in a file and on the command line:
`--config.model.head_dims="(64, 32)"`. Whatever does not fit is refused before the run starts,
in one line with the setting's path. *May change* says whether a run goes on when it is started
again with another value.
"""


def base_source(source: str) -> str:
    """Return the source of configs/base.py with its settings at their defaults.

    Args:
        source: The source as it is; what stands between the two marks is replaced.

    Raises:
        ValueError: If it does not have the two marks.
    """
    before, _, rest = source.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{BASE}: expected the lines {BEGIN.strip()!r} and {END.strip()!r}")
    return f"{before}{BEGIN}{_assignments()}{END}{after}"


def page() -> str:
    """Return docs/configuration.md."""
    sections = [_HEAD]
    for where, settings in _groups().items():
        title = f"`config.{'.'.join(where)}`" if where else "`config`"
        sections.append(f"## {title}\n\n{_linked(_summary(where))}\n\n{_table(settings)}\n")
    return "\n".join(sections)


def _groups() -> dict[Path, list[Setting]]:
    groups: dict[Path, list[Setting]] = {}
    for setting in settings_of(ExperimentConfig):
        groups.setdefault(setting.path[:-1], []).append(setting)
    return groups


def _assignments() -> str:
    lines: list[str] = []
    for where, settings in _groups().items():
        if ANY_NAME in where:
            continue
        if where:
            lines += ["", f"    config.{'.'.join(where)} = ConfigDict()"]
        for setting in settings:
            lines += _assignment(setting)
    return "\n".join(lines).lstrip("\n") + "\n\n"


def _assignment(setting: Setting) -> list[str]:
    value = "ConfigDict()" if _is_mapping(setting.hint) else _literal(setting.default)
    line, comment = f"    config.{'.'.join(setting.path)} = {value}", setting.meaning.rstrip(".")
    if len(line) + len(comment) + 4 <= _COLUMNS:
        return [f"{line}  # {comment}"]
    return [*textwrap.wrap(comment, _COLUMNS, initial_indent="    # ", subsequent_indent="    # "),
            line]  # fmt: skip


def _literal(value: Any) -> str:
    if isinstance(value, tuple):
        elements = [_literal(element) for element in typing.cast("tuple[Any, ...]", value)]
        return f"({', '.join(elements)}{',' if len(elements) == 1 else ''})"
    if isinstance(value, str):
        return json.dumps(value)
    is_large = isinstance(value, int | float) and not isinstance(value, bool) and value >= 10_000
    return f"{value:_}" if is_large else repr(value)


def _table(settings: list[Setting]) -> str:
    rows = ["| setting | type | default | may change | meaning |", "|---|---|---|---|---|"]
    for setting in settings:
        cells = (
            f"`{setting.path[-1]}`",
            _type_words(setting.hint),
            _default_words(setting),
            _MAY_CHANGE[setting.binds],
            _linked(setting.meaning),
        )
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)


def _default_words(setting: Setting) -> str:
    if setting.default is dataclasses.MISSING:
        return ""
    return "none" if _is_mapping(setting.hint) else f"`{_literal(setting.default)}`"


def _type_words(hint: Any) -> str:
    if typing.get_origin(hint) is Annotated:
        plain, *bounds = typing.get_args(hint)
        words = [bound.words for bound in bounds]
        comma = "" if words[0].startswith((">", "<")) else ","
        return f"{_type_words(plain)}{comma} {', '.join(words)}"
    if typing.get_origin(hint) is Literal:
        return ", ".join(f'`"{choice}"`' for choice in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        element = typing.get_args(hint)[0]
        if not _is_mapping(hint):
            return f"list of {_plural(_type_words(element))}"
        pair = typing.get_args(element)
        return f"mapping to {_plural(_type_words(pair[1])) if pair else 'groups of settings'}"
    return _WORDS[hint]


def _plural(words: str) -> str:
    return re.sub(r"^(integer|number|text)\b", r"\1s", words)


def _is_mapping(hint: Any) -> bool:
    """Return whether a setting is written as a mapping from names."""
    element = next(iter(typing.get_args(hint)), None)
    is_named = typing.get_origin(element) is tuple or dataclasses.is_dataclass(element)
    return typing.get_origin(hint) is tuple and is_named


def _summary(where: Path) -> str:
    """Return the first paragraph of the docstring of a group's class."""
    target: Any = ExperimentConfig
    for name in where:
        target = typing.get_args(target)[0] if name == ANY_NAME else hints_of(target)[name]
    return " ".join(typing.cast(str, target.__doc__).split("\n\n")[0].split())


def _linked(text: str) -> str:
    return re.sub(r"docs/(model\.md#([\w-]+))", r"[\2](\1)", text)


def main() -> None:
    """Write both files."""
    BASE.write_text(base_source(BASE.read_text()))
    PAGE.write_text(page())


if __name__ == "__main__":
    main()

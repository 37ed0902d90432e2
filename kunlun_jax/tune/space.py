"""What is searched: settings by their dotted names, and the values that each may have.

    optimizer.learning_rate=log:1e-4:1e-2
    optimizer.weight_decay=linear:0:0.1
    model.num_layers=int:3:6
    model.dim=choice:16,32,64

Every value is checked by the setting's own type and bounds before anything is run. What is wrong
with several together is found by the trial that tries them.
"""

import ast
import dataclasses
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from kunlun_jax.config import DATA_SETTINGS, ConfigError, ExperimentConfig, to_mapping
from kunlun_jax.config.parsing import parse, require

FORMS = "NAME=log:LOW:HIGH, NAME=linear:LOW:HIGH, NAME=int:LOW:HIGH or NAME=choice:A,B,..."
_DIGITS = 4  # that a number of a trial has, so that a line with it can be read
_WORDS = {"true": True, "false": False}

Kind = Literal["log", "linear", "int", "choice"]


@dataclasses.dataclass(frozen=True)
class Search:
    """One setting that is searched.

    Attributes:
        name: Its dotted name, such as "optimizer.learning_rate".
        kind: How its values are drawn.
        values: Lowest and highest, or the choices; of the setting's own type.
    """

    name: str
    kind: Kind
    values: tuple[Any, ...]

    @property
    def is_whole(self) -> bool:
        """Whether it is a range of whole numbers."""
        return self.kind != "choice" and (self.kind == "int" or isinstance(self.values[0], int))

    @property
    def labels(self) -> tuple[str, ...]:
        """The choices, as texts."""
        return tuple(str(value) for value in self.values)

    def value(self, drawn: Any) -> Any:
        """Return the setting's value for what was drawn: a number, or the label of a choice."""
        if self.kind == "choice":
            return self.values[self.labels.index(drawn)]
        if self.is_whole:
            return int(drawn)
        low, high = self.values
        return min(max(float(f"{drawn:.{_DIGITS}g}"), low), high)


def read_space(
    config: ExperimentConfig, searches: Sequence[str], file: pathlib.Path | None = None
) -> tuple[Search, ...]:
    """Read what is searched.

    Args:
        config: The experiment that every trial changes.
        searches: Texts as in this module's first lines.
        file: More of them, one a line; empty lines, and what follows a "#", say nothing.

    Raises:
        ConfigError: If one is of no setting, has a value that the setting cannot have, or comes
            twice; or if there are none.
        OSError: If the file cannot be read.
    """
    texts = [(f"--search={text}", text) for text in searches]
    if file is not None:
        try:
            lines = file.read_text().splitlines()
        except UnicodeDecodeError as error:
            raise ConfigError(f"{file}: expected text, got {error}") from error
        for number, line in enumerate(lines, 1):
            if text := line.partition("#")[0].strip():
                texts.append((f"{file}, line {number}", text))
    require(texts, "--search", f"{FORMS}, or --space=FILE of such lines", "nothing")
    found: dict[str, Search] = {}
    for where, text in texts:
        search = _read(config, where, text)
        require(search.name not in found, where, "every setting once", search.name)
        found[search.name] = search
    return tuple(found.values())


def changed(settings: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Return nested settings with one of another value; a name that is new is added.

    Args:
        settings: As `to_mapping` gives them.
        name: Dotted name.
        value: The value.
    """
    first, _, rest = name.partition(".")
    if rest:
        group = settings.get(first)
        value = changed(group if isinstance(group, Mapping) else {}, rest, value)
    return {**settings, first: value}


def overrides(values: Mapping[str, Any]) -> str:
    """Return flags that set settings, to be pasted behind `kunlun-jax train --config=...`.

    Args:
        values: By dotted name.
    """
    return " ".join(shlex.quote(f"--config.{name}={value}") for name, value in values.items())


def _read(config: ExperimentConfig, where: str, text: str) -> Search:
    name, _, rest = text.partition("=")
    kind, _, rest = rest.partition(":")
    name, kind = name.strip(), kind.strip()
    given = _choices(rest) if kind == "choice" else _numbers(rest)
    require(name and given and kind in ("log", "linear", "int", "choice"), where, FORMS, text)
    path = tuple(name.split("."))
    names_data = any(path[: len(each)] == each for each in DATA_SETTINGS)
    require(not names_data, where, "a setting that leaves the data what they are", name)
    try:
        values = tuple(_checked(config, name, value) for value in given)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    search = Search(name, kind, values)  # pyright: ignore[reportArgumentType]
    if kind == "choice":
        distinct = len(set(search.labels)) == len(values) > 1
        require(distinct, where, "at least two choices, all different", rest)
        return search
    numbers = all(type(value) in (int, float) for value in values)
    require(numbers, where, "choice:A,B,... of a setting that is no number", text)
    whole = kind != "int" or all(value == int(value) for value in values)
    require(whole, where, "whole numbers", rest)
    require(values[0] < values[1], where, "LOW < HIGH", rest)
    require(kind != "log" or values[0] > 0, where, "LOW > 0 of log", rest)
    return search


def _checked(config: ExperimentConfig, name: str, value: Any) -> Any:
    """Return a value as its setting has it."""
    parsed = parse(ExperimentConfig, changed(to_mapping(config), name, value), "config")
    result: Any = to_mapping(parsed)
    for part in name.split("."):
        result = result[part]
    return result


def _numbers(text: str) -> list[Any]:
    """Return LOW and HIGH of "LOW:HIGH"; nothing where it is something else."""
    parts = text.split(":")
    try:
        return [_number(part) for part in parts] if len(parts) == 2 else []
    except ValueError:
        return []


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _choices(text: str) -> list[Any]:
    """Return values that are written as in Python, or as bare words."""
    try:
        return list(ast.literal_eval(f"[{text}]"))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return [_choice(part.strip()) for part in text.split(",")]


def _choice(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return _WORDS.get(text.lower(), text)

"""Build frozen dataclasses from plain nested values, checking keys and types on the way."""

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any

Paths = frozenset[tuple[str, ...]]


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names the field, expected and got."""


def require(condition: Any, where: str, expected: str, got: Any) -> None:
    """Raise the one message of every check.

    Args:
        condition: What must hold.
        where: Path of the value.
        expected: What was expected there.
        got: What stands there.

    Raises:
        ConfigError: If it does not hold.
    """
    if not condition:
        raise ConfigError(f"{where}: expected {expected}, got {got!r}")


def free(default: Any) -> Any:
    """Declare a setting that may change between two starts of a run: no number depends on it.

    Args:
        default: Its default.
    """
    return dataclasses.field(default=default, metadata={"binds": "nothing"})


def naming_data(default: Any) -> Any:
    """Declare a setting that says where the data are: what binds a run is what they contain.

    Args:
        default: Its default.
    """
    return dataclasses.field(default=default, metadata={"binds": "content"})


def settings_that_bind(target: Any, what: str, where: tuple[str, ...] = ()) -> Paths:
    """Return the paths of a configuration's settings that bind a run in some way.

    Args:
        target: A dataclass of settings, and of dataclasses of settings.
        what: "nothing", of `free`; "content", of `naming_data`; "itself", of all others.
        where: Path of the dataclass.
    """
    found: set[tuple[str, ...]] = set()
    hints = typing.get_type_hints(target)
    for field in dataclasses.fields(target):
        path = (*where, field.name)
        if dataclasses.is_dataclass(hints[field.name]):
            found |= settings_that_bind(hints[field.name], what, path)
        elif field.metadata.get("binds", "itself") == what:
            found.add(path)
    return frozenset(found)


def parse(target: Any, value: Any, where: str) -> Any:
    """Build a value of an annotated type.

    Args:
        target: A dataclass, a plain type, `Any`, or `tuple[element, ...]`.
        value: Mappings, lists and scalars. A tuple of dataclasses that have a `name` is given as a
            mapping from the name to the other fields; a tuple of pairs as a mapping.
        where: Path of the value, for messages.

    Raises:
        ConfigError: On an unknown or missing key or a value of another type. An integer counts as a
            float, a bool not as an integer.
    """
    if dataclasses.is_dataclass(target):
        return _parse_dataclass(typing.cast(type, target), value, where)
    if typing.get_origin(target) is tuple:
        return _parse_tuple(typing.get_args(target)[0], value, where)
    if target is Any:
        return value
    if target is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, target) or (target is int and isinstance(value, bool)):
        raise ConfigError(f"{where}: expected {target.__name__}, got {value!r}")
    return value


def require_numbers(value: Any, where: str) -> None:
    """Refuse what no setting can be: NaN, infinity, and integers of more than 32 bits.

    Args:
        value: A dataclass, or whatever stands in one.
        where: Path of the value, for messages.

    Raises:
        ConfigError: If there is such a number.
    """
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            require_numbers(getattr(value, field.name), f"{where}.{field.name}")
    elif isinstance(value, tuple):
        for index, element in enumerate(value):
            require_numbers(element, f"{where}.{getattr(element, 'name', index)}")
    elif isinstance(value, int):
        require(abs(value) < 2**31, where, "an integer of 32 bits", value)
    elif isinstance(value, float):
        require(math.isfinite(value), where, "a finite number", value)


def _parse_dataclass(target: type, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a mapping, got {value!r:.60}")
    hints = typing.get_type_hints(target)
    unknown = sorted(set(value) - set(hints))
    missing = sorted(set(hints) - set(value))
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known are {sorted(hints)}")
    if missing:
        raise ConfigError(f"{where}: missing key {missing[0]!r}")
    return target(**{k: parse(hints[k], value[k], f"{where}.{k}") for k in hints})


def _parse_tuple(element: Any, value: Any, where: str) -> tuple[Any, ...]:
    if isinstance(value, Mapping) and dataclasses.is_dataclass(element):
        return tuple(_parse_named(element, name, value[name], f"{where}.{name}") for name in value)
    if typing.get_origin(element) is tuple:
        require(isinstance(value, Mapping), where, "a mapping", value)
        return tuple((name, value[name]) for name in value)
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where}: expected a list, got {value!r}")
    return tuple(parse(element, v, f"{where}[{i}]") for i, v in enumerate(value))


def _parse_named(element: Any, name: str, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping) or "name" in value:
        raise ConfigError(f"{where}: expected a mapping without 'name', got {value!r:.60}")
    return parse(element, {"name": name, **value}, where)

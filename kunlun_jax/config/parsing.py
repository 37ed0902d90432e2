"""Build frozen dataclasses from plain nested values, checking keys, types and bounds on the way."""

import dataclasses
import difflib
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, cast

from kunlun_jax.config.fields import hints_of

_SHOWN = 100  # characters of a value that a message shows
_SHOWN_KEYS = 150


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
        raise ConfigError(f"{where}: expected {expected}, got {_shortened(repr(got), _SHOWN)}")


def parse(target: Any, value: Any, where: str) -> Any:
    """Build a value of an annotated type.

    Args:
        target: A dataclass, a plain type, `Literal`, `Any`, or `tuple[element, ...]`; any of them
            may be `Annotated` with bounds.
        value: Mappings, lists and scalars. A tuple of dataclasses that have a `name` is given as a
            mapping from the name to the other fields; a tuple of pairs as a mapping.
        where: Path of the value, for messages.

    Raises:
        ConfigError: On an unknown or missing key, a value of another type or out of its bounds, a
            number that is not finite, or an integer of more than 32 bits. An integer counts as a
            float, a bool not as an integer.
    """
    if typing.get_origin(target) is not Annotated:
        return _parse_plain(target, value, where)
    plain, *bounds = typing.get_args(target)
    result = _parse_plain(plain, value, where)
    for bound in bounds:
        require(bound.holds(result), where, bound.words, result)
    return result


def _parse_plain(target: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(target):
        return _parse_dataclass(cast("type[Any]", target), value, where)
    if typing.get_origin(target) is tuple:
        return _parse_tuple(typing.get_args(target)[0], value, where)
    if typing.get_origin(target) is Literal:
        allowed = typing.get_args(target)
        require(isinstance(value, str) and value in allowed, where, f"one of {allowed}", value)
        return value
    if target is Any:
        _require_numbers(value, where)
        return value
    if target is float and isinstance(value, int) and not isinstance(value, bool):
        _require_numbers(value, where)
        return float(value)
    fits = isinstance(value, target) and not (target is int and isinstance(value, bool))
    require(fits, where, target.__name__, value)
    _require_numbers(value, where)
    return value


def _require_numbers(value: Any, where: str) -> None:
    """Refuse what no setting can be: NaN, infinity, and integers of more than 32 bits."""
    if isinstance(value, Mapping):
        for key, element in cast("Mapping[Any, Any]", value).items():
            _require_numbers(element, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, element in enumerate(cast("Sequence[Any]", value)):
            _require_numbers(element, f"{where}[{index}]")
    elif isinstance(value, int):
        require(abs(value) < 2**31, where, "an integer of 32 bits", value)
    elif isinstance(value, float):
        require(math.isfinite(value), where, "a finite number", value)


def _parse_dataclass(target: type[Any], value: Any, where: str) -> Any:
    values, hints = _mapping(value, where, "a mapping"), hints_of(target)
    for key in values:
        if key not in hints:
            raise ConfigError(f"{where}: unknown key {_shortened(repr(key), _SHOWN)}; "
                              f"{_suggestion(str(key), list(hints))}")  # fmt: skip
    for key in hints:
        if key not in values:
            raise ConfigError(f"{where}: missing key {key!r}")
    return target(**{k: parse(hints[k], values[k], f"{where}.{k}") for k in hints})


def _parse_tuple(element: Any, value: Any, where: str) -> tuple[Any, ...]:
    if isinstance(value, Mapping) and dataclasses.is_dataclass(element):
        streams = cast("Mapping[Any, Any]", value)
        return tuple(_parse_named(element, k, v, f"{where}.{k}") for k, v in streams.items())
    if typing.get_origin(element) is tuple:
        kind = typing.get_args(element)[1]
        pairs = _mapping(value, where, "a mapping")
        return tuple((k, parse(kind, v, f"{where}.{k}")) for k, v in pairs.items())
    require(isinstance(value, list | tuple), where, "a list", value)
    elements = cast("Sequence[Any]", value)
    return tuple(parse(element, v, f"{where}[{i}]") for i, v in enumerate(elements))


def _parse_named(element: Any, name: Any, value: Any, where: str) -> Any:
    expected = "a mapping without 'name'"
    values = _mapping(value, where, expected)
    require("name" not in values, where, expected, value)
    return parse(element, {"name": name, **values}, where)


def _mapping(value: Any, where: str, expected: str) -> Mapping[str, Any]:
    require(isinstance(value, Mapping), where, expected, value)
    for key in cast("Mapping[Any, Any]", value):
        require(isinstance(key, str), where, "names as keys", key)
    return cast("Mapping[str, Any]", value)


def _suggestion(key: str, known: list[str]) -> str:
    alike = difflib.get_close_matches(key, known, n=1)
    if alike:
        return f"did you mean {alike[0]!r}?"
    return f"known are {_shortened(', '.join(sorted(known)), _SHOWN_KEYS)}"


def _shortened(text: str, length: int) -> str:
    """Return a text on one line and of a bounded length."""
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length - 3]}..."

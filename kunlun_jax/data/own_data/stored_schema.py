"""A table schema as a data set keeps it, read back."""

import dataclasses
import types
import typing
from typing import Any

from kunlun_jax.data.own_data.table_schema import TableSchema
from kunlun_jax.data.schema import SchemaError


def stored_schema(value: Any) -> TableSchema:
    """Return the schema of which `TableSchema.to_json` made a value.

    Fields that a schema of earlier versions lacks are as they are by default.

    Args:
        value: `dataset.json`'s source.options.

    Raises:
        SchemaError: If it is none.
    """
    try:
        return _read(TableSchema, value)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise SchemaError(f"not a table schema: {type(error).__name__}: {error}") from error


def _read(kind: Any, value: Any) -> Any:
    """Return a value of an annotated type, given what JSON has in its place."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        if not isinstance(value, dict | list):
            return value
        wanted = [one for one in arguments if _takes(one, value)]
        return _read(wanted[0], value)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        fields = {name: x for name, x in value.items() if name != "kind"}
        return typing.cast("type", kind)(**{n: _read(hints[n], x) for n, x in fields.items()})
    if typing.get_origin(kind) is tuple:
        return tuple(_read(arguments[0], element) for element in value)
    if typing.get_origin(kind) is dict:
        return {key: _read(arguments[1], element) for key, element in value.items()}
    return value


def _takes(kind: Any, value: dict[str, Any] | list[Any]) -> bool:
    """Return whether one of several types is what a mapping or a list stands for."""
    if isinstance(value, list):
        return typing.get_origin(kind) is tuple
    name = getattr(kind, "__name__", "")
    return dataclasses.is_dataclass(kind) and value.get("kind", name) == name

"""How a setting is declared: type, bounds, default, meaning and what it binds, all on its field.

    rank: PositiveInt = setting(8, "Terms R of SumKron.")
    pooling: Literal["hsp", "pma"] = setting("hsp", '"hsp": ...; "pma": ...')

The parser (`parsing.py`) checks by these declarations; `configs/base.py` and
`docs/configuration.md` are written from them (`reference.py`).
"""

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar, cast

T = TypeVar("T")
Path = tuple[str, ...]
ANY_NAME = "<name>"  # in a path: the name of a stream

# What a setting binds. "itself": a run goes on with the same value only. "nothing": no number
# depends on it. "content": it says where the data are; what they contain is compared instead.
Binding = Literal["itself", "nothing", "content"]


@dataclasses.dataclass(frozen=True)
class Bound:
    """A condition on one value.

    Attributes:
        words: What a message expects, such as "> 0".
        holds: Whether a value satisfies it.
    """

    words: str
    holds: Callable[[Any], bool]


def at_most(limit: int) -> Bound:
    """Return the bound `<= limit`.

    Args:
        limit: The largest value.
    """
    return Bound(f"<= {limit}", lambda x: x <= limit)


_POSITIVE = Bound("> 0", lambda x: x > 0)
_NOT_NEGATIVE = Bound(">= 0", lambda x: x >= 0)

PositiveInt = Annotated[int, _POSITIVE]
NonNegativeInt = Annotated[int, _NOT_NEGATIVE]
PositiveFloat = Annotated[float, _POSITIVE]
NonNegativeFloat = Annotated[float, _NOT_NEGATIVE]
Fraction = Annotated[float, Bound("a fraction in [0, 1]", lambda x: 0 <= x <= 1)]
DecayRate = Annotated[float, Bound("a fraction in [0, 1)", lambda x: 0 <= x < 1)]
AxisSize = Annotated[int, Bound("> 0, or -1", lambda x: x > 0 or x == -1)]


def setting(default: T, meaning: str) -> T:
    """Declare a setting that binds a run: it goes on with the same value only.

    Args:
        default: Its value in configs/base.py.
        meaning: What it is, with its unit; every choice is named in double quotes.
    """
    return dataclasses.field(default=default, metadata=about(meaning))


def free(default: T, meaning: str) -> T:
    """Declare a setting that may change between two starts of a run: no number depends on it.

    Args:
        default: As for `setting`.
        meaning: As for `setting`.
    """
    return dataclasses.field(default=default, metadata=about(meaning, "nothing"))


def naming_data(default: T, meaning: str) -> T:
    """Declare a setting that says where the data are: what binds a run is what they contain.

    Args:
        default: As for `setting`.
        meaning: As for `setting`.
    """
    return dataclasses.field(default=default, metadata=about(meaning, "content"))


def group(target: type[T]) -> T:
    """Declare a group of settings; its meaning is the docstring of its class.

    Args:
        target: The dataclass of the group.
    """
    return dataclasses.field(default_factory=target)


def about(meaning: str, binds: Binding = "itself") -> dict[str, str]:
    """Return a field's metadata; used by itself for a field without a default.

    Args:
        meaning: As for `setting`.
        binds: What it binds.
    """
    return {"meaning": meaning, "binds": binds}


@dataclasses.dataclass(frozen=True)
class Setting:
    """A declared setting.

    Attributes:
        path: Where it stands, such as ("model", "streams", "<name>", "window").
        hint: Its type, with its bounds.
        default: Its default; `dataclasses.MISSING` where there is none.
        meaning: What it is.
        binds: What it binds.
    """

    path: Path
    hint: Any
    default: Any
    meaning: str
    binds: Binding

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it, or an element of it, can have; empty: any of its type."""
        return choices(self.hint)


def choices(hint: Any) -> tuple[str, ...]:
    """Return the values of a `Literal`, or of a tuple of one; empty for another type.

    Args:
        hint: The type.
    """
    if typing.get_origin(hint) is tuple:
        return choices(typing.get_args(hint)[0])
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


def hints_of(target: Any) -> dict[str, Any]:
    """Return the types of a dataclass's fields, with their bounds.

    Args:
        target: The dataclass.
    """
    return typing.get_type_hints(target, include_extras=True)


def settings_of(target: Any, where: Path = ()) -> list[Setting]:
    """Return the settings of a dataclass and of its groups, in the order of their declaration.

    Args:
        target: A dataclass of settings, and of dataclasses of settings. A tuple of dataclasses that
            have a `name` is one setting, and then those of its elements.
        where: Path of the dataclass.
    """
    found: list[Setting] = []
    for field in dataclasses.fields(target):
        hint, path = hints_of(target)[field.name], (*where, field.name)
        if dataclasses.is_dataclass(hint):
            found += settings_of(hint, path)
            continue
        metadata = cast(Mapping[str, Any], field.metadata)
        found.append(Setting(path, hint, field.default, metadata["meaning"], metadata["binds"]))
        element = next(iter(typing.get_args(hint)), None)
        if dataclasses.is_dataclass(element):
            found += settings_of(element, (*path, ANY_NAME))
    return found


def settings_that_bind(target: Any, what: Binding) -> frozenset[Path]:
    """Return the paths of a configuration's settings that bind a run in some way.

    Args:
        target: As for `settings_of`.
        what: What they bind.
    """
    return frozenset(s.path for s in settings_of(target) if s.binds == what)

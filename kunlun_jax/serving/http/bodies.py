"""Bodies of requests: JSON of the very names of a run's schema, checked before anything waits.

    {"time": 1700681775, "sparse": {"device": "phone"}, "candidates": {"item": ["i3", "i4"]},
     "events": {"view": {"times": [1700090337], "ids": {"item": ["i5"]}, "dense": {"length": [9]}}}}

Instead of `events`, `user` names one whose histories the server has.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Required

import pydantic
import pydantic_core
from pydantic import Field, Strict
from typing_extensions import TypedDict

from kunlun_jax.data.quality.consistency import LATEST_SECOND
from kunlun_jax.data.reading.request_values import RequestError
from kunlun_jax.data.reading.requests import Events, Request
from kunlun_jax.data.schema import Schema

Key = Annotated[int, Strict()] | Annotated[str, Strict()] | Annotated[bool, Strict()]
Number = Annotated[float, Strict()] | None  # of JSON, integers too; NaN and infinity stand for None
Second = Annotated[int, Strict(), Field(ge=-LATEST_SECOND, le=LATEST_SECOND)]
_EXPECTED, _SHOWN = "Input should be ", 60


class BodyError(ValueError):
    """A body that is not what it should be.

    Attributes:
        field: Path of the field, such as `events.view.times.0`; "body" is all of it.
        reason: What was expected, and what was there.
        is_json: Whether it could be read as JSON.
    """

    def __init__(self, field: str, reason: str, *, is_json: bool = True) -> None:
        """Say what is wrong, and where."""
        super().__init__(f"{field}: {reason}")
        self.field, self.reason, self.is_json = field, reason, is_json

    @classmethod
    def of_request(cls, error: RequestError) -> "BodyError":
        """Return what the ranker refuses: what only the values together tell."""
        field, colon, rest = str(error).partition(": expected ")
        return cls(field, f"expected {rest}") if colon else cls("body", field)


@dataclasses.dataclass(frozen=True)
class Query:
    """What is to be scored.

    Attributes:
        request: The request but for the candidates.
        candidates: Columns of one value a candidate.
        user: Key of the user whose histories the server is to take; None: the request has them.
    """

    request: Request
    candidates: dict[str, Any]
    user: int | str | bool | None = None


class Bodies:
    """Reads bodies of one schema.

    Attributes:
        json_schema: What they are, as JSON Schema.
    """

    def __init__(self, schema: Schema, *, max_candidates: int, has_histories: bool) -> None:
        """Build the validator.

        Args:
            schema: Of the run.
            max_candidates: Most candidates of a request.
            has_histories: Whether `user` may name a user.
        """
        self._has_histories = has_histories
        self._body = pydantic.TypeAdapter(_body_type(schema, max_candidates))
        self.json_schema = self._body.json_schema()

    def read(self, content: bytes) -> Query:
        """Return what a body asks for.

        Raises:
            BodyError: If it is not what it should be.
        """
        try:
            body: Any = self._body.validate_json(content)
        except pydantic.ValidationError as error:
            raise _body_error(error, content) from None
        if "user" in body and "events" in body:
            raise BodyError("user", "expected either a user or events, got both")
        if "user" in body and not self._has_histories:
            raise BodyError("user", "expected events: this server has no histories of users")
        request = Request(
            time=body["time"],
            dense=body.get("dense", {}),
            sparse=body.get("sparse", {}),
            events={name: Events(**columns) for name, columns in body.get("events", {}).items()},
        )
        return Query(request, body["candidates"], body.get("user"))


def _body_type(schema: Schema, max_candidates: int) -> Any:
    """Return the type of a body: mappings of the schema's names, and no others."""
    cells = {feature.name: Key | list[Key | None] | None for feature in schema.sparse}
    numbers = {feature.name: Number for feature in schema.dense}
    streams = {}
    for stream in schema.streams:
        ids = _mapping("Ids", {feature.name: list[Key | None] for feature in stream.ids})
        dense = _mapping("Attributes", {feature.name: list[Number] for feature in stream.dense})
        streams[stream.name] = _mapping(
            "Stream", {"times": Required[list[Second]], "ids": ids, "dense": dense}
        )
    length = Field(min_length=1, max_length=max_candidates)
    columns = {
        name: Annotated[list[kind], length]  # type: ignore[valid-type]
        for name, kind in {**cells, **numbers}.items()
    }
    return _mapping(
        "Body",
        {
            "time": Required[Second],
            "user": Key,
            "dense": _mapping("Dense", numbers),
            "sparse": _mapping("Sparse", cells),
            "events": _mapping("Events", streams),
            "candidates": Required[_mapping("Candidates", columns)],
        },
    )


def _mapping(name: str, fields: dict[str, Any]) -> Any:
    kind: Any = TypedDict(name, fields, total=False)  # type: ignore[misc]
    return pydantic.with_config(pydantic.ConfigDict(extra="forbid"))(kind)


def _body_error(error: pydantic.ValidationError, content: bytes) -> BodyError:
    """Return the first thing that is wrong; where a value may have several types, all of these."""
    errors = error.errors(include_url=False, include_context=False)
    kind, message = errors[0]["type"], errors[0]["msg"]
    if kind == "json_invalid":
        return BodyError("body", message, is_json=False)
    body = pydantic_core.from_json(content)
    path, value = _walk(errors[0]["loc"], body)
    if kind == "missing":
        return BodyError(".".join([*path, str(errors[0]["loc"][-1])]), "expected a value, got none")
    if kind == "extra_forbidden":
        return BodyError(".".join(path), "expected a name of the schema, got another")
    wanted = [
        one["msg"].removeprefix(_EXPECTED)
        for one in errors
        if one["msg"].startswith(_EXPECTED) and _walk(one["loc"], body)[0] == path
    ]
    if wanted:
        message = f"expected {' or '.join(dict.fromkeys(wanted))}, got {value!r:.{_SHOWN}}"
    return BodyError(".".join(path) or "body", message)


def _walk(loc: Sequence[int | str], value: Any) -> tuple[list[str], Any]:
    """Return how much of an error's path is one of the body, and what is there.

    The rest of it names the alternative that was tried.
    """
    path: list[str] = []
    for step in loc:
        try:
            value = value[step]
        except (IndexError, KeyError, TypeError):
            break
        path.append(str(step))
    return path, value

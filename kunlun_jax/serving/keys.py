"""Ids as the tables have them, their own keys, in the place of the data set's numbers.

An id is a text without blanks around it, or an integer, which stands for its digits: 7 and "7" are
the same, as in a build. What no vocabulary knows is out of vocabulary. None, NaN and a blank text
stand for nothing.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from kunlun_jax.data.reading.request_values import RequestError, shape_of
from kunlun_jax.data.reading.requests import Events, Request
from kunlun_jax.data.schema import OOV_ID, Schema


class Keys:
    """The vocabularies of a data set that was built from tables."""

    def __init__(self, schema: Schema, vocabularies: dict[str, list[str]]) -> None:
        """Index the vocabularies.

        Args:
            schema: The data set's schema.
            vocabularies: Values by vocabulary; those that are missing are hashed.
        """
        self._schema = schema
        self._numbers = {
            name: {value: number for number, value in enumerate(values, start=1)}
            for name, values in vocabularies.items()
        }

    def numbered(self, request: Request, subject: str) -> Request:
        """Return a request whose ids are the data set's numbers, or texts that will be hashed.

        Args:
            request: A request; names that the schema does not know stay, to be refused later.
            subject: What a message is about.

        Raises:
            RequestError: On what cannot be an id.
        """
        return self.numbered_events(self.numbered_context(request, subject), subject)

    def numbered_context(self, request: Request, subject: str) -> Request:
        """Return `numbered` of the context alone; the events stay as they are.

        Args:
            request: As of `numbered`.
            subject: Likewise.

        Raises:
            RequestError: Likewise.
        """
        sparse = dict(request.sparse)
        for feature in self._schema.sparse:
            if feature.name in sparse:
                where = f"{subject}: sparse {feature.name!r}"
                value = [sparse[feature.name]]
                (sparse[feature.name],) = self.context(value, feature.vocabulary, where)
        return dataclasses.replace(request, sparse=sparse)

    def numbered_events(self, request: Request, subject: str) -> Request:
        """Return `numbered` of the events alone; the context stays as it is.

        Args:
            request: As of `numbered`.
            subject: Likewise.

        Raises:
            RequestError: Likewise.
        """
        events = {
            name: self._events(name, found, subject) for name, found in request.events.items()
        }
        return dataclasses.replace(request, events=events)

    def context(self, cells: Sequence[Any], vocabulary: str, subject: str) -> list[Any]:
        """Return the ids of a feature of the context: one list a cell, of what is something there.

        Args:
            cells: A key or a list of keys each; None for nothing.
            vocabulary: The feature's.
            subject: What a message is about.

        Raises:
            RequestError: On what cannot be an id.
        """
        numbers, found = self._numbers.get(vocabulary), list[Any]()
        for cell in cells:
            keys = [cell] if isinstance(cell, str) or shape_of(cell) == () else cell
            texts = [text for key in keys if (text := key_text(key, subject)) is not None]
            found.append(
                texts if numbers is None else [numbers.get(text, OOV_ID) for text in texts]
            )
        return found

    def _events(self, stream: str, events: Any, subject: str) -> Any:
        described = self._schema.stream_by_name.get(stream)
        if described is None or not isinstance(events, Events):
            return events
        ids = dict(events.ids)
        for feature in described.ids:
            if feature.name in ids:
                where = f"{subject}: stream {stream!r}: {feature.name!r}"
                ids[feature.name] = self._column(ids[feature.name], feature.vocabulary, where)
        return dataclasses.replace(events, ids=ids)

    def _column(self, keys: Any, vocabulary: str, subject: str) -> list[Any]:
        """Return one id a value: of nothing, the OOV row's."""
        texts = [key_text(key, subject) for key in keys]
        numbers = self._numbers.get(vocabulary)
        if numbers is not None:
            return [OOV_ID if text is None else numbers.get(text, OOV_ID) for text in texts]
        return texts if any(texts) else [OOV_ID] * len(texts)


def key_text(key: Any, subject: str) -> str | None:
    """Return a key as the text of it that a build has; None for nothing.

    Args:
        key: What stands for an id.
        subject: What a message is about.

    Raises:
        RequestError: On what cannot be an id.
    """
    if isinstance(key, str):
        return key.strip() or None
    if isinstance(key, bool | np.bool_):
        return "true" if key else "false"
    if isinstance(key, int | np.integer):
        return str(int(key))
    if key is None or (isinstance(key, float | np.floating) and np.isnan(key)):
        return None
    raise RequestError(f"{subject}: expected an id, an integer or text, got {key!r:.60}")

"""Cross features by their definition, in plain Python: one request and one event at a time."""

import math

import numpy as np

DAY = 24 * 60 * 60


def cross_feature(column, events, request):
    """Return the value of a column for a request.

    Args:
        column: A `CrossColumn`.
        events: Of its stream, of all users: (user, time, {id: value}); None is an unknown value.
        request: Likewise.
    """
    user, now, offered = request
    ages = []
    for owner, time, values in events:
        mine = column.kind == "popularity" or owner == user
        same = not column.id or (
            values[column.id] is not None and values[column.id] == offered[column.id]
        )
        recent = not column.days or time >= now - column.days * DAY
        if mine and same and recent and time < now:
            ages.append(now - time)
    if column.kind == "age":
        return min(ages) / DAY if ages else math.nan
    return float(len(ages))


def expected_counts(schema, logs, examples):
    """Return the columns of `schema.cross` for examples, [n, columns], one at a time."""
    streams = {stream: _events(log) for stream, log in logs.items()}
    names = {name for cross in schema.cross for name in cross.ids}
    rows = []
    for row in range(len(examples)):
        offered = {name: int(examples.sparse[name][row, 0]) or None for name in names}
        request = int(examples.users[row]), int(examples.request_times[row]), offered
        columns = [column for cross in schema.cross for column in cross.columns]
        rows.append([cross_feature(column, streams[column.stream], request) for column in columns])
    return np.array(rows, np.float32)


def _events(log):
    return [
        (user, int(log.times[i]), {name: int(ids[i]) or None for name, ids in log.ids.items()})
        for user in range(len(log.offsets) - 1)
        for i in range(log.offsets[user], log.offsets[user + 1])
    ]

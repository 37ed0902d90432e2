"""Scores requests with an exported model; needs jax, numpy and flatbuffers, and nothing else.

    import reader
    model = reader.load("exported")
    model.predict([{"time": 1_700_000_000, "sparse": {"item": "i17"},
                    "events": {"view": {"times": [1_699_999_000], "ids": {"item": ["i4"]}}}}])

    python exported/reader.py < requests.jsonl    # one request a line; prints scores likewise

This file is part of the export. What a request may lack or overdo means what it does in
kunlun_jax/data/reading/requests.py; count features that are given are not compared with the events.
Ids are the keys of the tables that the model was trained on,
texts or integers, where the export has vocabularies (`keys` in manifest.json), else numbers.
"""

import hashlib
import json
import math
import pathlib
import sys

import jax
import jax.export
import numpy as np

FORMAT = 1
_LATEST = 100_000_000_000  # seconds; the time in milliseconds passed it in March 1973


class ExportError(ValueError):
    """An export that is damaged or of another version, or a request that contradicts its schema."""


def load(directory):
    """Open an export; every file is compared with its checksum.

    Args:
        directory: What `kunlun-jax export` wrote.

    Raises:
        ExportError: If a file is missing, damaged or of another version; names it.
    """
    directory = pathlib.Path(directory)
    path = directory / "manifest.json"
    try:
        manifest = json.loads(path.read_bytes())
        content = {key: value for key, value in manifest.items() if key != "sha256"}
        text = json.dumps(content, sort_keys=True).encode()
        good = manifest["sha256"] == hashlib.sha256(text).hexdigest()
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ExportError(f"{path}: not the manifest of an export: {error!r}") from error
    if not good:
        raise ExportError(f"{path}: damaged: its content does not have its checksum")
    if manifest["format"] != FORMAT:
        raise ExportError(f"{path}: expected format {FORMAT}, got {manifest['format']}")
    files = {}
    for entry in manifest["files"]:
        path = directory / entry["name"]
        try:
            files[entry["name"]] = path.read_bytes()
        except OSError as error:
            raise ExportError(f"{path}: {error.strerror}") from error
        got = hashlib.sha256(files[entry["name"]]).hexdigest()
        if got != entry["sha256"]:
            raise ExportError(f"{path}: damaged: expected SHA-256 {entry['sha256']}, got {got}")
    return Model(manifest, files)


class Model:
    """An exported model.

    Attributes:
        tasks: Names of the tasks: the columns of scores.
        manifest: The content of manifest.json.
    """

    def __init__(self, manifest, files):
        self.manifest, self.tasks = manifest, manifest["schema"]["labels"]
        self._schema, self._max_lens = manifest["schema"], manifest["max_lens"]
        self._exported = jax.export.deserialize(bytearray(files["model.bin"]))
        self._call = jax.jit(self._exported.call)
        weights, first = [], 0
        for dtype, shape in manifest["weights"]:
            count = math.prod(shape)
            array = np.frombuffer(files["weights.bin"], jax.numpy.dtype(dtype), count, first)
            weights.append(jax.numpy.asarray(array.reshape(shape)))
            first += array.nbytes
        self._weights = weights
        self._vocabularies = {v["name"]: v for v in self._schema["vocabularies"]}
        self._numbers = {
            name: {value: i for i, value in enumerate(json.loads(files[file]), start=1)}
            for name, file in manifest["vocabularies"].items()
        }

    def predict(self, requests):
        """Return probabilities, float64 [requests, tasks].

        Args:
            requests: Dictionaries of time, dense, sparse and events.

        Raises:
            ExportError: On a request that contradicts the schema; names the request and the field.
        """
        if not requests:
            return np.empty((0, len(self.tasks)))
        (logits,) = jax.tree.leaves(self._call(self._weights, self.batch(requests)))
        return np.exp(-np.logaddexp(0.0, -np.asarray(logits, np.float64)))

    def batch(self, requests):
        """Return the arrays that the exported function takes."""
        schema = self._schema
        for i, request in enumerate(requests):
            _known(f"request {i}", request, ["time", "dense", "sparse", "events"])
            names = {key: [f["name"] for f in schema[key]] for key in ("dense", "sparse")}
            names["events"] = [s["name"] for s in schema["streams"]]
            for key, known in names.items():
                _known(f"request {i}: {key}", request.get(key, {}), known)
        times = [_second(r.get("time"), f"request {i}: time") for i, r in enumerate(requests)]
        sparse = {f["name"]: self._context(requests, f) for f in schema["sparse"]}
        histories = {
            stream["name"]: [
                self._history(r, now, stream, f"request {i}: stream {stream['name']!r}")
                for i, (r, now) in enumerate(zip(requests, times, strict=True))
            ]
            for stream in schema["streams"]
        }
        streams = {}
        for stream in schema["streams"]:
            if stream["name"] in self._max_lens:
                events = self._events(histories[stream["name"]], times, stream)
                events["matches"] = {
                    f["name"]: _matching(events["ids"][f["name"]], sparse[f["name"]]["ids"])
                    for f in stream["ids"]
                    if f["name"] in sparse and f["vocabulary"] == self._of(f["name"])
                }
                streams[stream["name"]] = events
        raw = {
            f["name"]: _raw([r.get("dense", {}).get(f["name"]) for r in requests], f["name"])
            for f in schema["dense"]
        }
        for cross in schema.get("cross", []):
            self._count(raw, cross, histories[cross["stream"]], times, sparse)
        columns = [_standardized(raw[f["name"]], f) for f in schema["dense"]]
        dense = np.stack(columns, 1) if columns else np.zeros((len(requests), 0), np.float32)
        return {"dense": dense, "sparse": sparse, "streams": streams}

    def _count(self, raw, cross, histories, times, sparse):
        """Compute the count features of a declaration that were not given, from all events."""
        windows = [*([0] if cross["whole"] else []), *cross["windows"]]
        for feature in ("", *cross["ids"]):
            base = f"{cross['stream']}/{feature}".rstrip("/")
            for i, ((moments, ids, _), now) in enumerate(zip(histories, times, strict=True)):
                same = np.ones(len(moments), bool)
                if feature:
                    candidate = np.atleast_1d(sparse[feature]["ids"][i, 0])
                    found = ids[feature].reshape(len(moments), candidate.size)
                    same = (found == candidate).all(1) & candidate.any()
                hits = moments[same]
                for days in windows:
                    start = now - 86400 * days if days else -np.inf
                    name = f"count/{base}" + (f"/{days}d" if days else "")
                    if not np.isfinite(raw[name][i]):
                        raw[name][i] = (hits >= start).sum()
                if cross["ages"] and not np.isfinite(raw[f"age/{base}"][i]) and len(hits):
                    raw[f"age/{base}"][i] = np.float32((now - hits[-1]) / 86400)

    def _of(self, feature):
        return next(f["vocabulary"] for f in self._schema["sparse"] if f["name"] == feature)

    def _context(self, requests, feature):
        count, most = len(requests), feature["max_values"]
        pair = (2,) if self._vocabularies[feature["vocabulary"]].get("hashes") == 2 else ()
        ids, lengths = np.zeros((count, most, *pair), np.int32), np.zeros(count, np.int32)
        for i, request in enumerate(requests):
            value = request.get("sparse", {}).get(feature["name"])
            values = list(value) if isinstance(value, list | tuple | np.ndarray) else [value]
            subject = f"request {i}: sparse {feature['name']!r}"
            if value is not None and not self.manifest["keys"]:
                found = self._ids(values, feature["vocabulary"], subject)
            else:
                there = [x for x in values if not _is_nothing(x)]
                found = self._ids(there, feature["vocabulary"], subject)
            lengths[i] = min(len(found), most)
            ids[i, : lengths[i]] = found[:most]
        return {"ids": ids, "lengths": lengths}

    def _history(self, request, now, stream, subject):
        """Return times, ids and numbers of the events before a request, in order of time."""
        events = request.get("events", {}).get(stream["name"], {})
        _known(subject, events, ["times", "ids", "dense"])
        moments = [_second(t, f"{subject}: times") for t in events.get("times", [])]
        columns = {**events.get("ids", {}), **events.get("dense", {})}
        _known(subject, columns, [f["name"] for f in (*stream["ids"], *stream["dense"])])
        for name, column in columns.items():
            if len(column) != len(moments):
                raise ExportError(
                    f"{subject}: {name!r}: expected {len(moments)} values, got {len(column)}"
                )
        order = np.argsort(np.array(moments, np.int64), kind="stable")
        order = [k for k in order if moments[k] < now]

        def chosen(feature):
            column = columns.get(feature["name"])
            return [None if column is None else column[k] for k in order]

        ids = {
            f["name"]: self._ids(chosen(f), f["vocabulary"], f"{subject}: {f['name']!r}")
            for f in stream["ids"]
        }
        dense = [_standardized(_raw(chosen(f), f["name"]), f) for f in stream["dense"]]
        numbers = np.stack(dense, 1) if dense else np.zeros((len(order), 0), np.float32)
        return np.array([moments[k] for k in order], np.int64), ids, numbers

    def _events(self, histories, times, stream):
        count, longest = len(histories), self._max_lens[stream["name"]]
        dense = np.zeros((count, longest, len(stream["dense"])), np.float32)
        ages, lengths = np.zeros((count, longest), np.int32), np.zeros(count, np.int32)
        ids = {
            name: np.zeros((count, longest, *column.shape[1:]), np.int32)
            for name, column in histories[0][1].items()
        }
        for i, ((moments, found, numbers), now) in enumerate(zip(histories, times, strict=True)):
            lengths[i] = n = min(len(moments), longest)
            last = slice(len(moments) - n, None)
            ages[i, :n] = np.minimum(now - moments[last], 2**31 - 1)
            dense[i, :n] = numbers[last]
            for name, column in found.items():
                ids[name][i, :n] = column[last]
        return {"ids": ids, "dense": dense, "ages": ages, "lengths": lengths}

    def _ids(self, values, vocabulary, subject):
        """Return one id, or pair of ids, a value; 0 for what is nothing or not known."""
        described = self._vocabularies[vocabulary]
        hashes, most = described.get("hashes", 0), described["num_ids"]
        found = np.zeros((len(values), 2) if hashes == 2 else len(values), np.int32)
        for i, value in enumerate(values):
            if _is_nothing(value) and (self.manifest["keys"] or value is None):
                continue
            if self.manifest["keys"]:
                value = _text(value, subject)
            if isinstance(value, str) and hashes:
                halves = np.frombuffer(
                    hashlib.md5(value.encode(), usedforsecurity=False).digest(), "<u8"
                )
                first, second = (1 + int(half) % most for half in halves[::-1])
                found[i] = (first, second) if hashes == 2 else first
            elif isinstance(value, str) and self.manifest["keys"]:
                found[i] = self._numbers[vocabulary].get(value, 0)
            elif isinstance(value, int | np.integer) and not isinstance(value, bool):
                parts = (int(value) & (2**32 - 1), int(value) >> 32) if hashes == 2 else (value,)
                if all(0 < part <= most for part in parts):
                    found[i] = parts if hashes == 2 else value
            else:
                raise ExportError(f"{subject}: expected integers, got {value!r:.60}")
        return found


def _is_nothing(value):
    is_nan = isinstance(value, float | np.floating) and math.isnan(value)
    return value is None or is_nan or (isinstance(value, str) and not value.strip())


def _text(value, subject):
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    raise ExportError(f"{subject}: expected an id, an integer or text, got {value!r:.60}")


def _raw(values, name):
    """Return numbers, rounded to 32 bits; NaN for nothing."""
    for value in values:
        is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if value is not None and not is_number:
            raise ExportError(f"{name!r}: expected a number, got {value!r:.60}")
    with np.errstate(over="ignore"):
        raw = np.array([np.nan if v is None else v for v in values], np.float64)
        return raw.astype(np.float32).astype(np.float64)


def _standardized(raw, feature):
    """Return numbers standardised; what is unknown gets the mean, 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        if feature.get("log1p"):
            raw = np.sign(raw) * np.log1p(np.abs(raw))
        result = ((raw - feature["mean"]) / feature["std"]).astype(np.float32)
    return np.nan_to_num(result, nan=0.0, posinf=0.0, neginf=0.0)


def _matching(events, candidate):
    known = np.where(candidate == 0, -1, candidate)
    same = events[:, :, None] == known[:, None]
    return (same.all(-1) if events.ndim > 2 else same).any(2)


def _second(value, subject):
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value > _LATEST:
        raise ExportError(f"{subject}: expected Unix seconds, got {value!r:.60}")
    return int(value)


def _known(subject, got, names):
    unknown = sorted(set(got) - set(names), key=str)
    if not isinstance(got, dict) or unknown:
        raise ExportError(f"{subject}: expected names of {names}, got {unknown or got!r:.60}")


def main():
    """Score the requests of standard input, one JSON a line."""
    try:
        model = load(pathlib.Path(__file__).parent)
        requests = [json.loads(line) for line in sys.stdin if line.strip()]
        for row in model.predict(requests):
            print(json.dumps(dict(zip(model.tasks, row.tolist(), strict=True))))
    except (ExportError, json.JSONDecodeError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

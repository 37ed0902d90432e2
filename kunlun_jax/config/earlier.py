"""What earlier versions wrote: their settings, as this version writes them.

A run's config.json, its checkpoints and the records of studies outlive the version that wrote them.
Whoever reads settings back brings them to today's form first, so that an old run is resumed and an
old record compared.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from kunlun_jax.config.peers import UniDotConfig

# Settings that earlier versions did not have, and what they did; where all of a group are given.
_LATER = {
    "data": {
        "columns_directory": "",
        "verify": True,
        "shuffle_window": 0,
        "period_hours": 0.0,
        "parts": 1,
    },
    "model": {
        "match_attributes": False,
        "count_features": False,
        "popularity_features": False,
        "unidot": dataclasses.asdict(UniDotConfig()),
    },
    "optimizer": {"schedule": "cosine"},
    "training": {"patience": 0},
}
_ALWAYS = {
    "data": "directory",
    "model": "streams",
    "optimizer": "warmup_steps",
    "training": "eval_every",
}
# A group that earlier versions did not have; where all of the others are given.
_EARLIEST_GROUPS = {"seed", "data", "model", "optimizer", "training", "mesh"}
_LATER_GROUPS: dict[str, dict[str, object]] = {
    "tracking": {"sinks": [], "project": "kunlun_jax", "run_name": ""}
}


def in_current_form(values: Any) -> Any:
    """Return settings of any version in the form of this one; it changes nothing of today's.

    `model.gdpa.activation` was one text, with commas between the heads' names. `model.wukong.merge`
    followed from `partition` ("sum" with "full", else "concat"); where the two do not agree, it is
    left for the parser to refuse. Settings that came later are as they were without: models had no
    cross features, for one.

    Args:
        values: Nested mapping of settings, or of some of them; whatever else it is comes back.
    """
    settings, model = _group(values), _group(_group(values).get("model"))
    changed: dict[str, Any] = {}
    gdpa, wukong = _group(model.get("gdpa")), _group(model.get("wukong"))
    activation = gdpa.get("activation")
    if isinstance(activation, str):
        changed["gdpa"] = {**gdpa, "activation": activation.split(",")}
    follows = "sum" if wukong.get("partition") == "full" else "concat"
    if wukong.get("merge") == follows:
        changed["wukong"] = {key: value for key, value in wukong.items() if key != "merge"}
    groups = {"model": {**model, **changed}} if changed else {}
    for name, later in _LATER.items():
        group = _group(groups.get(name, settings.get(name)))
        if _ALWAYS[name] in group and not later.keys() <= group.keys():
            groups[name] = {**later, **group}
    if settings.keys() >= _EARLIEST_GROUPS:
        groups |= {name: later for name, later in _LATER_GROUPS.items() if name not in settings}
    return {**settings, **groups} if groups else values


def _group(value: Any) -> Mapping[str, Any]:
    """Return a group of settings; empty where something else stands."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}

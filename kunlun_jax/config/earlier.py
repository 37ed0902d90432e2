"""What earlier versions wrote: their settings, as this version writes them.

A run's config.json, its checkpoints and the records of studies outlive the version that wrote them.
Whoever reads settings back brings them to today's form first, so that an old run is resumed and an
old record compared.
"""

from collections.abc import Mapping
from typing import Any, cast


def in_current_form(values: Any) -> Any:
    """Return settings of any version in the form of this one; it changes nothing of today's.

    `model.gdpa.activation` was one text, with commas between the heads' names. `model.wukong.merge`
    followed from `partition` ("sum" with "full", else "concat"); where the two do not agree, it is
    left for the parser to refuse.

    Args:
        values: Nested mapping of settings, or of some of them; whatever else it is comes back.
    """
    values = _plain(values)
    if not isinstance(values, dict):
        return values
    model = _plain(values.get("model"))
    if not isinstance(model, dict):
        return values
    return {**values, "model": _current_model(cast("dict[str, Any]", model))}


def _current_model(model: dict[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    gdpa, wukong = _plain(model.get("gdpa")), _plain(model.get("wukong"))
    if isinstance(gdpa, dict) and isinstance(gdpa.get("activation"), str):
        changed["gdpa"] = {**gdpa, "activation": gdpa["activation"].split(",")}
    if isinstance(wukong, dict) and "merge" in wukong:
        follows = "sum" if wukong.get("partition") == "full" else "concat"
        if wukong["merge"] == follows:
            changed["wukong"] = {k: v for k, v in wukong.items() if k != "merge"}
    return {**model, **changed}


def _plain(value: Any) -> Any:
    return dict(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else value

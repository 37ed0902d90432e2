r"""Kunlun, its peers and its ablations on Complete Journey, at sizes that two CPU cores manage.

    python -m kunlun_jax.scaling --study=configs/scaling/complete_journey.py \
        --records=benchmarks/results/runs/complete_journey

The largest sizes cost 5.3 to 5.8 million FLOPs an example. Sizes rise in width alone: everything
that has a width is proportional to `dim`; there are three layers. Families begin as low as 1
million, because where a curve flattens its slope depends on where it is looked at. The tables are
as wide as the model.

Nothing is tuned by family. Chosen for all on Kunlun's validation NE (seed 0, width 32): batches of
256 (0.857) and not 128 (0.871); Adagrad's sums start at 1e-8 (0.850) and not at 0.01 (0.858), which
is more than all squared gradients together and turns Adagrad into plain SGD.
"""

from typing import Any

from ml_collections import ConfigDict

from kunlun_jax.configs import base

DIMS = {
    "kunlun": (8, 12, 16, 20, 24),
    "interformer": (4, 6, 8, 10, 12),
    "wukong": (16, 24, 32, 38, 46),
    "din": (16, 22, 28, 34, 42),
    "hstu": (18,),
    "tokenformer": (14,),
}


def get_config() -> ConfigDict:
    """Return four families of five sizes, two of one, and ablations; 131,000 examples a run."""
    return study(
        "Complete Journey",
        {name: tuple(size(name, dim, STREAMS) for dim in dims) for name, dims in DIMS.items()},
        experiment(),
        ABLATIONS,
    )


def earlier_wiring(config: ConfigDict) -> ConfigDict:
    """Return the experiment as the recorded runs have it: not yet Figure 1's wiring, events alone.

    Args:
        config: The experiment; it is changed.
    """
    config.model.pooling.pool_from = "events"
    config.model.interaction_input = "summary"
    return events_alone(config)


def events_alone(config: ConfigDict) -> ConfigDict:
    """Return the experiment without cross features: a model is not told where ids are equal.

    The popularity of the last 28 days, which Complete Journey has had from the beginning, stays.

    Args:
        config: The experiment; it is changed.
    """
    config.model.match_attributes = False
    config.model.count_features = False
    config.model.popularity_features = False
    return config


def study(
    title: str,
    families: dict[str, tuple[dict[str, Any], ...]],
    experiment: ConfigDict,
    ablations: dict[str, dict[str, Any]],
) -> ConfigDict:
    """Return a study of Kunlun; other files' studies are made of this one.

    Args:
        title: What the data are.
        families: By name: what each size changes.
        experiment: What all runs share.
        ablations: By name: the changes, and what the paper reports.
    """
    config = ConfigDict()
    config.title = title
    config.subject = "kunlun"
    config.seeds = (0, 1, 2)
    config.learning_rate = ConfigDict({"reference_dim": 32, "exponent": 0.5})
    config.confidence = 0.95
    config.families = ConfigDict()
    for name, sizes in families.items():
        config.families[name] = ConfigDict({"sizes": sizes})
    config.ablations = ConfigDict(ablations, convert_dict=False)
    config.ablation_seeds = (0,)
    config.experiment = experiment
    return config


def size(name: str, dim: int, streams: dict[str, float]) -> dict[str, Any]:
    """Return what a size of a family changes.

    Args:
        name: The family.
        dim: Width, even.
        streams: Width of every stream of Kunlun, as a share of `dim`.
    """
    changes: dict[str, Any] = {
        "model.name": name,
        "model.dim": dim,
        "model.head_dims": (4 * dim, 2 * dim),
        "model.wukong.mlp_dim": 2 * dim,
        "model.din.attention_dims": (dim, dim // 2),
        "model.tokenformer.ffn_dim": 2 * dim,
    }
    for stream, share in streams.items():
        width = 2 * int(share * dim / 2)  # even, as the rotation of attention needs it
        changes[f"model.streams.{stream}.model_dim"] = width
        changes[f"model.streams.{stream}.mlp_dim"] = width
    if name == "unidot":  # came later: the records of the others do not have it
        changes["model.unidot.ffn_dim"] = 2 * dim
    return changes


STREAMS = {"purchase": 1.0, "trip": 0.5, "coupon": 0.5}


def ablation(paper: str = "", **changes: Any) -> dict[str, Any]:
    """Return one ablation.

    Args:
        paper: What the paper reports.
        **changes: Settings of the model, with two underscores for a dot.
    """
    named = {f"model.{key.replace('__', '.')}": value for key, value in changes.items()}
    return {"changes": named, "paper": paper}


# The paper's numbers are of its internal data (docs/model.md#what-the-paper-reports); each is a
# single change.
ABLATIONS = {
    "gdpa_linear": ablation("NE 0.04 % worse", gdpa__pffn="linear"),
    "gdpa_mlp": ablation(gdpa__pffn="mlp"),
    "hsp": ablation("NE 0.08 % worse, 8.8 % faster", pooling__pooling="pma"),
    "sum_kron": ablation("NE 0.03 % worse", pooling__use_sum_kron=False),
    "window": ablation(
        "NE neutral; the window saves 29.5 % of FLOPs, 31.1 % more QPS", attention="full"
    ),
    "comp_skip": ablation(
        "NE neutral; CompSkip saves 43.1 % of FLOPs, 35 % more QPS", comp_skip=False
    ),
    "event_level": ablation("event-level saves 11 % of FLOPs, 13 % more QPS", allocation="uniform"),
    "temperature_outside": ablation(gdpa__temperature="outside"),
    "temperature": ablation(gdpa__temperature="none"),
    "rote_to_request": ablation(rote__gaps="to_request"),
    "rote_gaps": ablation(rote__gaps="positions_only"),
    "summary_input": ablation(interaction_input="full"),
    "experts": ablation(wukong__num_experts=1),
    "aligned_start": ablation(init="random"),
}


def experiment() -> ConfigDict:
    """Return what all runs share."""
    config = earlier_wiring(short())
    config.model.head_context = False
    config.model.streams.purchase.max_len = 128
    config.data.options.product_lines = False
    config.data.directory = "datasets/complete_journey_without_lines"
    return config


def short() -> ConfigDict:
    """Return base in three layers, on a tenth of the examples, evaluated at its end alone.

    Widths are those of a size.
    """
    config = base.get_config()
    config.model.num_layers = 3
    for stream, num_tokens, num_layers in (("purchase", 8, 3), ("trip", 4, 2), ("coupon", 4, 1)):
        share = config.model.streams[stream]
        share.n_tokens, share.n_seeds, share.num_layers = num_tokens, 2 * num_tokens, num_layers
    config.data.num_epochs = 0.1
    config.training.eval_every = 1_000_000  # steps: the last one is evaluated in any case
    config.training.checkpoint_every = 200
    config.training.keep_checkpoints = 1
    return config

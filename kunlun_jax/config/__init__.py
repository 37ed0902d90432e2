"""Settings: type, bounds, default and meaning of each, and the check that they fit together."""

from kunlun_jax.config.earlier import in_current_form
from kunlun_jax.config.experiment import (
    DATA_SETTINGS,
    FREE_SETTINGS,
    DataConfig,
    ExperimentConfig,
    MeshConfig,
    OptimizerConfig,
    SinkName,
    TrackingConfig,
    TrainingConfig,
    experiment_config,
    to_mapping,
)
from kunlun_jax.config.layers import (
    Activation,
    GDPAConfig,
    PoolingConfig,
    ROTEConfig,
    StreamConfig,
    WukongConfig,
)
from kunlun_jax.config.model import (
    DType,
    ModelConfig,
    ModelName,
    validate_model,
)
from kunlun_jax.config.parsing import ConfigError
from kunlun_jax.config.peers import (
    DINConfig,
    HSTUConfig,
    InterFormerConfig,
    TokenFormerConfig,
    UniDotConfig,
)

__all__ = [
    "DATA_SETTINGS",
    "FREE_SETTINGS",
    "Activation",
    "ConfigError",
    "DINConfig",
    "DType",
    "DataConfig",
    "ExperimentConfig",
    "GDPAConfig",
    "HSTUConfig",
    "InterFormerConfig",
    "MeshConfig",
    "ModelConfig",
    "ModelName",
    "OptimizerConfig",
    "PoolingConfig",
    "ROTEConfig",
    "SinkName",
    "StreamConfig",
    "TokenFormerConfig",
    "TrackingConfig",
    "TrainingConfig",
    "UniDotConfig",
    "WukongConfig",
    "experiment_config",
    "in_current_form",
    "to_mapping",
    "validate_model",
]

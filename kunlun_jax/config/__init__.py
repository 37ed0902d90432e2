"""Settings: type, bounds, default and meaning of each, and the check that they fit together."""

from kunlun_jax.config.experiment import (
    DATA_SETTINGS,
    FREE_SETTINGS,
    DataConfig,
    ExperimentConfig,
    MeshConfig,
    OptimizerConfig,
    TrainingConfig,
    experiment_config,
    to_mapping,
)
from kunlun_jax.config.layers import (
    GDPAConfig,
    PoolingConfig,
    ROTEConfig,
    StreamConfig,
    WukongConfig,
)
from kunlun_jax.config.model import (
    ACTIVATIONS,
    CHOICES,
    ModelConfig,
    validate_model,
)
from kunlun_jax.config.parsing import (
    ConfigError,
)
from kunlun_jax.config.peers import (
    DINConfig,
    HSTUConfig,
    InterFormerConfig,
    TokenFormerConfig,
)

__all__ = [
    "ACTIVATIONS",
    "CHOICES",
    "DATA_SETTINGS",
    "FREE_SETTINGS",
    "ConfigError",
    "DINConfig",
    "DataConfig",
    "ExperimentConfig",
    "GDPAConfig",
    "HSTUConfig",
    "InterFormerConfig",
    "MeshConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PoolingConfig",
    "ROTEConfig",
    "StreamConfig",
    "TokenFormerConfig",
    "TrainingConfig",
    "WukongConfig",
    "experiment_config",
    "to_mapping",
    "validate_model",
]

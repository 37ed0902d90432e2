"""Kunlun on Complete Journey, small enough for a laptop.

    python train.py --config=configs/base.py --workdir=runs/base

14 minutes on two CPU cores (shared with other work), data set build and final evaluation included;
393,000 examples; test NE 0.820, AUC 0.765.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Return every setting there is; the other configs change some of them."""
    config = ConfigDict()
    config.seed = 0  # of the parameters

    config.data = ConfigDict()
    config.data.source = "complete_journey"
    config.data.options = ConfigDict({"num_negatives": 4, "seed": 0})
    config.data.directory = "datasets/complete_journey"  # built there if missing
    config.data.batch_size = 256  # examples
    config.data.eval_batch_size = 1024  # examples
    config.data.num_epochs = 0.3  # passes over the training examples
    config.data.max_train_examples = 0  # 0: all
    config.data.max_eval_examples = 20_480  # of validation, during training; 0: all
    config.data.seed = 0  # of the order
    config.data.prefetch = 4  # batches
    config.data.num_threads = 1

    config.model = ConfigDict()
    config.model.name = "kunlun"
    config.model.dim = 32
    config.model.num_layers = 3
    config.model.n_sum = 8  # summary tokens
    config.model.comp_skip = True
    config.model.interaction_input = "summary"  # or "full"
    config.model.init = "aligned"  # or "random"
    config.model.head_dims = (128, 64)
    config.model.dtype = "float32"  # or "bfloat16"
    config.model.kernels = "auto"  # or "triton", "xla"; "triton_interpret" for tests

    config.model.gdpa = ConfigDict()
    config.model.gdpa.pffn = "gdpa"  # or "mlp", "linear"
    config.model.gdpa.temperature = "inside"  # or "outside", "none"
    config.model.gdpa.gain_init = 0.0  # 0: max_len / sqrt(head_dim)
    config.model.gdpa.activation = "gelu_tanh"  # one name, or one a head: "gelu,relu"

    config.model.rote = ConfigDict()
    config.model.rote.gaps = "adjacent"  # or "to_request", "positions_only"
    config.model.rote.time_scale = 86_400.0  # seconds
    config.model.rote.base = 10_000.0
    config.model.rote.time_base = 10_000.0
    config.model.rote.learnable = False

    config.model.pooling = ConfigDict()
    config.model.pooling.pooling = "hsp"  # or "pma"
    config.model.pooling.rank = 8
    config.model.pooling.final_pooling = True

    config.model.wukong = ConfigDict()
    config.model.wukong.num_experts = 2
    config.model.wukong.fm_rank = 8
    config.model.wukong.mlp_dim = 64
    config.model.wukong.fm_fraction = 0.5  # of the output tokens
    config.model.wukong.partition = "round_robin"  # or "contiguous", "full"
    config.model.wukong.merge = "concat"  # or "sum", with "full"

    config.model.streams = ConfigDict()
    config.model.streams.purchase = stream(
        model_dim=32, num_heads=1, n_kv=16, n_tokens=8, n_seeds=16, num_layers=3, window=16,
        max_len=128, mlp_dim=32,
    )  # fmt: skip
    config.model.streams.trip = stream(
        model_dim=16, num_heads=1, n_kv=8, n_tokens=4, n_seeds=8, num_layers=2, window=8,
        max_len=16, mlp_dim=16,
    )  # fmt: skip
    config.model.streams.coupon = stream(
        model_dim=16, num_heads=1, n_kv=8, n_tokens=4, n_seeds=8, num_layers=1, window=8,
        max_len=8, mlp_dim=16,
    )  # fmt: skip

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 3e-3  # AdamW, peak
    config.optimizer.table_learning_rate = 0.1  # row-wise Adagrad, peak
    config.optimizer.warmup_steps = 100
    config.optimizer.final_fraction = 0.05  # of the peak, at the end of the cosine
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.99
    config.optimizer.eps = 1e-8
    config.optimizer.weight_decay = 0.01  # of kernels
    config.optimizer.clip_norm = 1.0  # of the dense gradient; 0: none
    config.optimizer.table_initial_accumulator = 0.01
    config.optimizer.table_init_std = 0.1

    config.training = ConfigDict()
    config.training.log_every = 50  # steps
    config.training.eval_every = 300  # steps
    config.training.checkpoint_every = 500  # steps
    config.training.keep_checkpoints = 2  # of the latest, and of the best
    config.training.stop_after_skips = 10  # updates in a row skipped for a NaN or an infinity

    config.mesh = ConfigDict()  # devices an axis; one may be -1: the rest
    config.mesh.data = -1  # splits the batch
    config.mesh.fsdp = 1  # splits the batch, dense parameters and their optimizer state
    config.mesh.tensor = 1  # splits heads and MLP widths
    config.mesh.expert = 1  # splits the Wukong experts
    return config


def stream(**fields: int) -> ConfigDict:
    """Return one event stream's share of the model, its schedule left to CompSkip."""
    return ConfigDict({**fields, "schedule": ()})

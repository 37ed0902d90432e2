"""Kunlun, or a peer, on Complete Journey, small enough for a laptop.

    python train.py --config=configs/base.py --workdir=runs/base

14 minutes on two CPU cores, data set build and final evaluation included; 393,000 examples; test NE
0.815, AUC 0.772.
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
    # "kunlun", or a peer: "wukong", "interformer", "din", "hstu", "tokenformer"
    config.model.name = "kunlun"
    config.model.dim = 32
    config.model.table_dims = ConfigDict()  # by vocabulary, where a table's width is not `dim`
    config.model.num_layers = 3
    config.model.n_sum = 8  # summary tokens
    # Even layers: PFFN and pooling; odd layers: attention. False: everything in every layer.
    config.model.comp_skip = True
    # "event_level": every stream's own width, depth, ...; "uniform": the widest one's for all.
    config.model.allocation = "event_level"
    # "window": attention sees `window` events to each side; "full": all.
    config.model.attention = "window"
    # Beside pooled tokens the interaction sees the context in "full", or its "summary".
    config.model.interaction_input = "full"
    # "aligned": candidate and history start in one space; "random": independent projections.
    config.model.init = "aligned"
    config.model.use_dense = True  # read numbers, of the context and of events, beside ids
    config.model.head_dims = (128, 64)
    config.model.head_context = False  # True: the head reads the context too (layers/head.py)
    config.model.dtype = "float32"  # or "bfloat16"
    config.model.kernels = "auto"  # or "triton", "xla"; "triton_interpret" for tests

    config.model.gdpa = ConfigDict()
    # The personalised layer: "gdpa", by heads; "mlp", one two-layer map; "linear", one matrix.
    config.model.gdpa.pffn = "gdpa"
    # The stream's length divides scores "inside" the activation, its output ("outside"), or not
    # at all ("none").
    config.model.gdpa.temperature = "inside"
    config.model.gdpa.gain_init = 0.0  # 0: max_len / sqrt(head_dim)
    config.model.gdpa.activation = "gelu_tanh"  # one name, or one a head: "gelu,relu"

    config.model.rote = ConfigDict()
    # Attention feels the gap to the event before ("adjacent"), the age at the request
    # ("to_request"), or order alone ("positions_only").
    config.model.rote.gaps = "adjacent"
    # Seconds; gaps, and in every model the ages of events, look alike far below it.
    config.model.rote.time_scale = 86_400.0
    config.model.rote.base = 10_000.0
    config.model.rote.time_base = 10_000.0
    config.model.rote.learnable = False

    config.model.pooling = ConfigDict()
    # "hsp": more seeds than tokens, compressed; "pma": one learned query a token.
    config.model.pooling.pooling = "hsp"
    # Pool what the layer's PFFN puts out ("pffn"), or what goes into it ("events").
    config.model.pooling.pool_from = "pffn"
    config.model.pooling.rank = 8
    config.model.pooling.use_sum_kron = True  # False: compress by two linear maps instead
    config.model.pooling.final_pooling = True  # the head pools every stream once more

    config.model.wukong = ConfigDict()
    config.model.wukong.num_experts = 2  # of Kunlun's interaction; 1: one Wukong layer
    config.model.wukong.fm_rank = 8
    config.model.wukong.mlp_dim = 64
    config.model.wukong.fm_fraction = 0.5  # of the output tokens
    # Tokens are dealt to experts in turn ("round_robin"), in blocks ("contiguous"), or all to all
    # ("full", whose outputs are merged by "sum").
    config.model.wukong.partition = "round_robin"
    config.model.wukong.merge = "concat"
    config.model.wukong.num_tokens = 32  # out of a layer of the model "wukong"

    config.model.din = ConfigDict()
    config.model.din.attention_dims = (32, 16)

    config.model.interformer = ConfigDict()
    config.model.interformer.num_heads = 1
    config.model.interformer.num_pma = 2  # tokens pooled by learned queries
    config.model.interformer.num_recent = 2  # events

    config.model.hstu = ConfigDict()
    config.model.hstu.num_heads = 1
    config.model.hstu.num_time_buckets = 16  # of the gap between two events, logarithmic

    config.model.tokenformer = ConfigDict()
    config.model.tokenformer.num_heads = 1
    config.model.tokenformer.num_full_layers = 2
    config.model.tokenformer.windows = (32, 16)  # events, one number a sliding layer
    config.model.tokenformer.ffn_dim = 64

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
    config.optimizer.table_learning_rate = 0.03  # row-wise Adagrad, peak
    config.optimizer.warmup_steps = 100
    config.optimizer.final_fraction = 0.05  # of the peak, at the end of the cosine
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.99
    config.optimizer.eps = 1e-8
    config.optimizer.weight_decay = 0.01  # of kernels
    config.optimizer.clip_norm = 1.0  # of the dense gradient; 0: none
    config.optimizer.table_initial_accumulator = 1e-8
    config.optimizer.table_init_std = 0.1
    config.optimizer.table_dtype = "float32"  # or "bfloat16", rounded stochastically

    config.training = ConfigDict()
    config.training.log_every = 50  # steps
    config.training.eval_every = 300  # steps
    config.training.checkpoint_every = 500  # steps
    config.training.keep_checkpoints = 2  # of the latest, and of the best
    config.training.log_effective_rank = False  # of the events after every layer, in evaluations
    config.training.stop_after_skips = 10  # updates in a row skipped for a NaN or an infinity
    # By label, its weight in the loss and in the NE that decides which checkpoint is the best; 1
    # where it is not named.
    config.training.task_weights = ConfigDict()

    config.mesh = ConfigDict()  # devices an axis; one may be -1: the rest
    config.mesh.data = -1  # splits the batch
    config.mesh.fsdp = 1  # splits the batch, dense parameters and their optimizer state
    config.mesh.tensor = 1  # splits heads and MLP widths
    config.mesh.expert = 1  # splits the Wukong experts
    return config


def stream(**fields: int) -> ConfigDict:
    """Return one event stream's share of the model, its schedule left to CompSkip."""
    return ConfigDict({**fields, "schedule": ()})

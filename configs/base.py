"""Kunlun, or a peer, on Complete Journey, small enough for a laptop.

    python train.py --config=configs/base.py --workdir=runs/base

Test NE 0.7087, AUC 0.842 after 524,000 examples (one seed), in 14 minutes on two cores, data set
build and final evaluation included. With events alone (`match_attributes`, `count_features` and
`popularity_features` false), three layers, 32 wide, 393,000 examples and 128 purchases NE was
0.813, AUC 0.773.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Return every setting there is; the other configs change some of them."""
    config = ConfigDict()
    # From the fields of kunlun_jax/config, by `python -m kunlun_jax.config.reference`.
    config.seed = 0  # Seed of the parameters

    config.data = ConfigDict()
    config.data.source = "complete_journey"  # Name of the data source
    config.data.options = ConfigDict()  # Options of the source, by name
    # Directory of the built data set; built there when it is missing
    config.data.directory = "datasets/complete_journey"
    # Directory of the data set's columns, which are made from its shards once; empty: the data
    # set's own
    config.data.columns_directory = ""
    # Whether the columns are compared with their checksums, behind the first steps and before
    # anything is saved
    config.data.verify = True
    config.data.batch_size = 256  # Examples of a step
    config.data.eval_batch_size = 1024  # Examples of an evaluation step
    config.data.num_epochs = 0.4  # Passes over the training examples; may be fractional
    config.data.max_train_examples = 0  # Train on this many examples, drawn once by seed; 0: all
    # Evaluate on this many of each split during training; 0: all. The final evaluation always uses
    # all
    config.data.max_eval_examples = 20_480
    config.data.seed = 0  # Seed of shuffle and draws
    # Training examples that are shuffled together, read from storage in blocks of 1,024; 0: all
    config.data.shuffle_window = 0
    # Train on periods of so many hours in the order of time, shuffled within each, and evaluate
    # each one before training on it; at most one epoch. 0: all are shuffled
    config.data.period_hours = 0.0
    # Parts that the shards are dealt to; a process opens those of its own alone, and a batch has
    # the same room for each. A multiple of the number of processes, and a divisor of both batch
    # sizes. 1: every process opens the whole
    config.data.parts = 1
    config.data.prefetch = 4  # Batches made ahead of the step
    config.data.num_threads = 1  # Threads that make batches

    config.model = ConfigDict()
    # "kunlun", or a peer: "wukong", "interformer", "din", "hstu", "tokenformer", "unidot"
    config.model.name = "kunlun"
    config.model.dim = 64  # Width D of context, summary and pooled tokens, and of embeddings
    # By vocabulary: width of its table, where it is not dim; a learned linear map brings its rows
    # to dim
    config.model.table_dims = ConfigDict()
    config.model.num_layers = 2  # Layers L
    config.model.n_sum = 8  # Summary tokens G
    # Whether even layers skip attention and odd layers skip PFFN and pooling; otherwise everything
    # runs in every layer
    config.model.comp_skip = True
    # "event_level": every stream has its own share of the model; "uniform": all have the widest
    # one's (but their own length)
    config.model.allocation = "event_level"
    # "window": attention sees every stream's own window; "full": the whole stream
    config.model.attention = "window"
    # What the interaction sees beside the pooled tokens H: "full", the set features themselves, [X
    # || H], as in Figure 1; "summary", [X_sum || H]
    config.model.interaction_input = "full"
    # "aligned": candidate and history start in one space; "random": independent projections
    config.model.init = "aligned"
    # Whether events carry, for every id that the context has too, whether it is the candidate's: an
    # attribute of 0 or 1 beside the others
    config.model.match_attributes = True
    # Whether the model reads the count features that the data set's schema declares (`cross`): how
    # often, and how long ago, the user's earlier events met the candidate. If so, there have to be
    # some
    config.model.count_features = True
    # Likewise of `popularity`: how many earlier events of all users met the candidate
    config.model.popularity_features = True
    # Whether the model reads dense features, of the context and of events; the age of an event is
    # not one of them
    config.model.use_dense = True
    config.model.head_dims = (256, 128)  # Hidden widths of the head's MLP
    # Whether the head reads the context tokens too, and the trunk's through a gain
    # (layers/head.py); otherwise the trunk's alone, as they are
    config.model.head_context = True
    # Compute type, "float32" or "bfloat16"; parameters are always float32
    config.model.dtype = "float32"
    # Implementation of the three attention operations: "auto", the Triton kernels on a GPU that
    # they support and XLA elsewhere; "triton", "triton_interpret" (slow, for tests) or "xla", which
    # never fall back
    config.model.kernels = "auto"
    # Event streams by their names in the data set, at least one
    config.model.streams = ConfigDict()

    config.model.gdpa = ConfigDict()
    # The personalised layer: "gdpa", by heads; "mlp", a per-example two-layer map over the full
    # width; "linear", InterFormer's per-example matrix
    config.model.gdpa.pffn = "gdpa"
    # Where the stream length divides: "inside" the activation; "outside", its output; "none"
    config.model.gdpa.temperature = "inside"
    # Initial per-head gain under "inside"; 0: max_len / sqrt(head_dim), which gives the scores unit
    # variance; 1: the literal formula
    config.model.gdpa.gain_init = 0.0
    # One name for all heads, or one for every head of a stream: "identity", "gelu", "gelu_tanh",
    # "relu", "relu_squared", "leaky_relu", "silu", "hard_swish"
    config.model.gdpa.activation = ("gelu_tanh",)

    config.model.rote = ConfigDict()
    # What the time angle measures: "adjacent", the gap to the previous event; "to_request", the age
    # at the request; "positions_only", nothing
    config.model.rote.gaps = "adjacent"
    # Seconds t_scale that one unit inside the logarithm stands for; also of the ages that every
    # model reads as an attribute of its events. Much shorter times look alike
    config.model.rote.time_scale = 86_400.0
    config.model.rote.base = 10_000.0  # Base of the position frequencies
    config.model.rote.time_base = 10_000.0  # Base of the time frequencies
    config.model.rote.learnable = False  # Whether the time frequencies are parameters

    config.model.pooling = ConfigDict()
    # "hsp": more seeds than tokens, compressed; "pma": attention with n_tokens seeds and no SumKron
    config.model.pooling.pooling = "hsp"
    # "pffn": pool what the layer's PFFN puts out, events that know the candidate, as in Figure 1;
    # "events": what goes into it
    config.model.pooling.pool_from = "pffn"
    config.model.pooling.rank = 8  # Terms R of SumKron
    # Whether SumKron follows the seeds; otherwise two linear maps, of the width and of the token
    # axis (SumKron has R sums of such pairs)
    config.model.pooling.use_sum_kron = True
    # Whether the head gets one more, fresh pooling of every stream
    config.model.pooling.final_pooling = True

    config.model.wukong = ConfigDict()
    # Experts E of Kunlun's interaction; 1: one Wukong layer. They divide the tokens that a layer
    # puts out, n_sum + n_tokens of all streams, unless the partition is "full"
    config.model.wukong.num_experts = 2
    config.model.wukong.fm_rank = 8  # Columns k of the factorisation machine's projection Y
    config.model.wukong.mlp_dim = 128  # Hidden width of the two MLPs of an expert
    # Share of an expert's output tokens that come from the factorisation machine
    config.model.wukong.fm_fraction = 0.5
    # Which tokens an expert sees: "round_robin", dealt in turn; "contiguous", in blocks; "full",
    # all of them, and the outputs are summed
    config.model.wukong.partition = "round_robin"
    # Tokens n_F + n_L that a layer of the model "wukong" puts out; those of the other models follow
    # from their inputs
    config.model.wukong.num_tokens = 32

    config.model.din = ConfigDict()
    config.model.din.attention_dims = (32, 16)  # Hidden widths of the MLP that weighs an event

    config.model.interformer = ConfigDict()
    config.model.interformer.num_heads = 1  # Attention heads; 2 * num_heads divides the model's dim
    config.model.interformer.num_pma = 2  # Tokens that learned queries pool from the sequence
    # Most recent events that enter the sequence's summary as they are
    config.model.interformer.num_recent = 2

    config.model.hstu = ConfigDict()
    config.model.hstu.num_heads = 1  # Attention heads; 2 * num_heads divides the model's dim
    # Buckets of the relative time bias, equal in the logarithm of seconds
    config.model.hstu.num_time_buckets = 16

    config.model.tokenformer = ConfigDict()
    config.model.tokenformer.num_heads = 1  # Attention heads; 2 * num_heads divides the model's dim
    # Layers of full causal attention, over static fields and behaviours
    config.model.tokenformer.num_full_layers = 2
    # One sliding layer each: the events before a token that it sees
    config.model.tokenformer.windows = (32, 16)
    config.model.tokenformer.ffn_dim = 64  # Hidden width of SwiGLU

    config.model.unidot = ConfigDict()
    config.model.unidot.num_heads = 1  # Attention heads; 2 * num_heads divides the model's dim
    # Events to each side that an event sees when its stream is encoded
    config.model.unidot.window = 16
    config.model.unidot.num_items = 4  # Tokens of the candidate that search the streams
    config.model.unidot.num_pooled = 4  # Tokens that a stream is pooled into
    config.model.unidot.gate_dim = 16  # Hidden width of the MLP that weighs events in pooling
    config.model.unidot.ffn_dim = 64  # Hidden width of the other MLPs

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 0.003  # Peak of AdamW
    config.optimizer.table_learning_rate = 0.03  # Peak of the tables' Adagrad
    config.optimizer.warmup_steps = 100  # Steps of linear warm-up, of both
    # After the warm-up: "cosine", down to the end of the run; or "constant", so that a run can be
    # extended: a higher `data.num_epochs` goes on with it
    config.optimizer.schedule = "cosine"
    # Learning rate at the end of the cosine, as a fraction of the peak
    config.optimizer.final_fraction = 0.05
    config.optimizer.b1 = 0.9  # AdamW's decay of the first moment
    config.optimizer.b2 = 0.99  # AdamW's decay of the second moment
    config.optimizer.eps = 1e-08  # AdamW's epsilon
    config.optimizer.weight_decay = 0.01  # AdamW's decay of kernels (not of biases and gains)
    config.optimizer.clip_norm = 1.0  # Bound on the global norm of the dense gradient; 0: none
    config.optimizer.table_initial_accumulator = 1e-08  # Start of Adagrad's sums
    config.optimizer.table_init_std = 0.1  # Standard deviation of the tables' initial rows
    # Type that tables are stored in: "float32"; or "bfloat16", half the memory, where an update
    # rounds at random to one of the two neighbours, right on average. For GPUs: on a CPU an update
    # passes over the whole table
    config.optimizer.table_dtype = "float32"

    config.training = ConfigDict()
    config.training.log_every = 50  # Steps between two lines of training metrics
    config.training.eval_every = 300  # Steps between two evaluations on the validation split
    # Steps between two checkpoints (an evaluation also writes one)
    config.training.checkpoint_every = 500
    config.training.keep_checkpoints = 2  # Best and latest checkpoints kept, of each this many
    # Updates in a row that are skipped for a NaN or an infinity before the run stops
    config.training.stop_after_skips = 10
    # Evaluations in a row without a better validation NE after which the run ends; 0: it does not.
    # With a higher one, a run that has ended goes on
    config.training.patience = 0
    # Whether evaluations also measure the effective rank of the events' representation after every
    # layer
    config.training.log_effective_rank = False
    # By label: its weight in the loss and in the mean NE that decides which checkpoint is the best;
    # 1 where it is not named. Only their ratios matter
    config.training.task_weights = ConfigDict()

    config.mesh = ConfigDict()
    config.mesh.data = -1  # Copies of the dense parameters; the batch is split over data * fsdp
    # Devices that share one copy of dense parameters and their optimizer state
    config.mesh.fsdp = 1
    config.mesh.tensor = 1  # Devices that share heads and the widths of MLPs
    config.mesh.expert = 1  # Devices that share the Wukong experts

    config.tracking = ConfigDict()
    # Services that get every line: "wandb", Weights & Biases; "mlflow", MLflow. Where they are,
    # their own environment variables say. What goes wrong with one is a warning
    config.tracking.sinks = ()
    config.tracking.project = "kunlun_jax"  # Project in W&B, experiment in MLflow
    config.tracking.run_name = ""  # Name of the run there; empty: that of its working directory

    # What this file chooses: options of its data source, and the streams.
    config.data.options = ConfigDict({"num_negatives": 4, "seed": 0, "product_lines": True})
    config.model.streams.purchase = stream(
        model_dim=32, num_heads=1, n_kv=16, n_tokens=4, n_seeds=8, num_layers=2, window=16,
        max_len=64, mlp_dim=32,
    )  # fmt: skip
    config.model.streams.trip = stream(
        model_dim=16, num_heads=1, n_kv=8, n_tokens=2, n_seeds=4, num_layers=2, window=8,
        max_len=16, mlp_dim=16,
    )  # fmt: skip
    config.model.streams.coupon = stream(
        model_dim=16, num_heads=1, n_kv=8, n_tokens=2, n_seeds=4, num_layers=1, window=8,
        max_len=8, mlp_dim=16,
    )  # fmt: skip
    return config


def stream(**fields: int) -> ConfigDict:
    """Return one event stream's share of the model, its schedule left to CompSkip."""
    return ConfigDict({**fields, "schedule": ()})

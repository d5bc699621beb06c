"""nanotron's schema of a pre-training recipe, for a Llama: every key with its default.

Source: huggingface/nanotron, `src/nanotron/config/`, at 2411b02. What this trainer does not
implement is known here all the same, so that `zagreus.recipe.read` can name it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class General:
    project: str
    """Name of the project; not used."""
    run: str = "%date_%jobid"
    """Name of the run; render_recipe fills in the model's name."""
    seed: int = 42
    """Seed of the first weights; the data order has its own."""
    step: int | None = None
    """Step of a nanotron checkpoint; must be null in a recipe."""
    consumed_train_samples: int | None = None
    """Windows seen by a nanotron checkpoint; must be null in a recipe."""
    benchmark_csv_path: str | None = None
    """File of nanotron's benchmark table; not used."""
    ignore_sanity_checks: bool = True
    """Whether nanotron skips its checks of equal ranks; not used."""


@dataclass
class Parallelism:
    dp: int
    """Data-parallel ranks, each with the whole model."""
    pp: int
    """Pipeline-parallel ranks; must be 1."""
    tp: int
    """Tensor-parallel ranks; must be 1."""
    pp_engine: Literal["afab", "1f1b"] = "afab"
    """nanotron's pipeline schedule; not used."""
    tp_mode: Literal["ALL_REDUCE", "REDUCE_SCATTER"] = "ALL_REDUCE"
    """nanotron's tensor-parallel communication; not used."""
    tp_linear_async_communication: bool = False
    """Whether tensor-parallel communication overlaps; not used."""
    recompute_layer: bool = False
    """Activation checkpointing: whether the backward pass recomputes layers."""
    moe_layer_recompute: bool = False
    """Activation checkpointing of expert layers; must be false."""
    tp_recompute_allgather: bool = True
    """Whether tensor parallelism gathers again in the backward pass; not used."""
    expert_parallel_size: int = 1
    """Expert-parallel ranks; must be 1."""
    context_parallel_size: int = 1
    """Context-parallel ranks; must be 1."""


@dataclass
class LlamaConfig:
    hidden_size: int = 4096
    """Width of the residual stream."""
    intermediate_size: int = 11008
    """Width of the MLP's hidden layer."""
    num_attention_heads: int = 32
    """Query heads of a layer."""
    num_hidden_layers: int = 32
    """Decoder layers."""
    max_position_embeddings: int = 2048
    """Context in tokens, as nanotron writes it; training uses sequence_length."""
    vocab_size: int = 32000
    """Tokens of the vocabulary; -1: render_recipe fills in the tokenizer's."""
    is_llama_config: bool = True
    """Marks a Llama in nanotron's schema; must be true."""
    bos_token_id: int = 1
    """Id of the BOS token; -1: render_recipe fills in the tokenizer's."""
    eos_token_id: int = 2
    """Id of the EOS token, where documents end; -1: the tokenizer's."""
    hidden_act: Literal["silu"] = "silu"
    """Activation of the gated MLP: SwiGLU."""
    initializer_range: float = 0.02
    """Standard deviation, for config.json; training uses init_method.std."""
    num_key_value_heads: int | None = None
    """Key and value heads of a layer (GQA); null: as many as query heads."""
    attention_bias: bool = False
    """Whether attention has bias terms; ignored, there are none."""
    pad_token_id: int | None = None
    """Id of the padding token for config.json; null: none."""
    pretraining_tp: int = 1
    """Tensor-parallel ranks of an original Llama; not used."""
    rms_norm_eps: float = 1e-6
    """Epsilon of RMSNorm, added to the mean square."""
    rope_scaling: dict | None = None
    """Scaling of rotary positions, for config.json; not applied in training."""
    rope_theta: float = 10000.0
    """Base of the rotary positions' wavelengths."""
    rope_interleaved: bool = False
    """Whether RoPE rotates neighbouring dimensions; false: the two halves of a head."""
    tie_word_embeddings: bool = False
    """Whether embedding and output head share their weights."""
    use_cache: bool = True
    """Whether generation caches keys and values, for config.json."""
    attn_implementation: str = field(
        default="flash_attention_2", metadata={"key": "_attn_implementation"}
    )
    """nanotron's attention kernel, `_attn_implementation` in the file; not used."""
    z_loss_enabled: bool = False
    """Whether the loss has the z-loss; must be false."""
    z_loss_coefficient: float = 1e-4
    """Weight of the z-loss; not used."""

    @property
    def key_value_heads(self) -> int:
        """Key and value heads: as many as query heads where the recipe does not say."""
        return (
            self.num_attention_heads
            if self.num_key_value_heads is None
            else self.num_key_value_heads
        )

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads


@dataclass
class InitMethod:
    std: float
    """Standard deviation of the first weights."""
    scaling_method: Literal["NONE", "NUM_LAYERS"] = "NUM_LAYERS"
    """NUM_LAYERS: output projections get std / sqrt(2 x layers); NONE: std."""


@dataclass
class Model:
    model_config: LlamaConfig
    """The Llama's shape."""
    init_method: InitMethod
    """How the first weights are drawn."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Type of weights and activations in training."""
    make_vocab_size_divisible_by: int = 1
    """The embedding's rows are rounded up to a multiple of this number."""
    ddp_bucket_cap_mb: int = 25
    """Size of a bucket of gradients for the all-reduce, in MiB."""

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding.

        The vocabulary, rounded up to a multiple of `make_vocab_size_divisible_by`.
        """
        multiple = self.make_vocab_size_divisible_by
        return -(-self.model_config.vocab_size // multiple) * multiple


@dataclass
class Tokenizer:
    tokenizer_name_or_path: str | None = None
    """The tokenizer; null: render_recipe fills in the run's."""
    tokenizer_revision: str | None = None
    """Revision of the tokenizer's repository; not used."""
    tokenizer_max_length: int | None = None
    """Longest text of the tokenizer, in tokens; not used."""


@dataclass
class Checkpoints:
    checkpoints_path: str
    """Folder of the rolling saves; render_recipe fills it in."""
    checkpoint_interval: int
    """Steps between two rolling saves."""
    save_initial_state: bool = False
    """Whether the first weights are saved; must be false."""
    save_final_state: bool = False
    """Whether the last step is saved; the listed checkpoints decide that here."""
    resume_checkpoint_path: str | None = None
    """Checkpoint to resume from; must be null, the newest save is used."""
    load_lr_scheduler: bool = True
    """Whether a resume restores the learning rate; must be true."""
    load_optimizer: bool = True
    """Whether a resume restores the optimizer; must be true."""
    checkpoints_path_is_shared_file_system: bool = False
    """Whether all nodes see the folder; not used."""


@dataclass
class Logging:
    log_level: str | None = None
    """Log level of the first rank; not used."""
    log_level_replica: str | None = None
    """Log level of the other ranks; not used."""
    iteration_step_info_interval: int = 1
    """Steps between two log lines; ignored, every step is logged."""


@dataclass
class MetricsLogging:
    log_level: Literal[0, 1] = 0
    """1: norms of single layers are logged; must be 0."""
    log_detail_interval: int = 10
    """Steps between two detailed log lines; not used."""


@dataclass
class Tokens:
    sequence_length: int
    """Tokens of one window."""
    train_steps: int
    """Optimizer steps of the whole training."""
    micro_batch_size: int
    """Windows of one forward pass on one rank."""
    batch_accumulation_per_replica: int
    """Micro batches of one rank in an optimizer step."""
    val_check_interval: int = -1
    """Steps between two validations on zagreus.validation; -1: none."""
    limit_val_batches: int = 0
    """Micro batches of each validation folder; 0: the whole folder."""
    limit_test_batches: int = 0
    """Micro batches of nanotron's test; ignored, there is no test."""


@dataclass
class AdamW:
    name: Literal["adamW"] = field(default="adamW", kw_only=True)
    """The optimizer: `adamW`, as in nanotron, or `muon`."""
    adam_eps: float
    """Epsilon in the denominator of the update."""
    adam_beta1: float
    """Decay rate of the gradient's moving average."""
    adam_beta2: float
    """Decay rate of the squared gradient's moving average."""
    torch_adam_is_fused: bool
    """Whether torch's fused AdamW kernel runs."""


@dataclass
class Muon(AdamW):
    """Muon for the matrices of the layers, AdamW for embedding, head and norms.

    nanotron has no Muon. Its updates are scaled to the size of AdamW's (0.2 * sqrt(longer side),
    Liu et al., 2025), so that both have the recipe's learning rate and weight decay.
    """

    name: Literal["muon"] = field(default="muon", kw_only=True)  # type: ignore[assignment]
    """Names this class in a recipe."""
    muon_momentum: float = field(default=0.95, kw_only=True)
    """Momentum of the matrices' gradients; torch's default is 0.95."""


@dataclass
class Scheduler:
    learning_rate: float
    """Peak learning rate."""
    lr_warmup_style: Literal["linear", "constant"]
    """Form of the warmup from 0 to the peak."""
    lr_warmup_steps: int = 0
    """Steps of the warmup."""
    lr_decay_style: Literal["linear", "cosine", "1-sqrt"] = "linear"
    """Form of the decay."""
    lr_decay_steps: int | None = None
    """Steps of the decay; null: all steps after the warmup."""
    lr_decay_starting_step: int | None = None
    """Step at which the decay starts; null: at the warmup's end."""
    min_decay_lr: float | None = None
    """Learning rate at the decay's end; null: the peak, so no decay."""


@dataclass
class Optimizer:
    optimizer_factory: AdamW | Muon
    """The optimizer and its constants."""
    learning_rate_scheduler: Scheduler
    """The learning rate by step."""
    zero_stage: int
    """0: each rank has all optimizer states; 1: states are sharded (ZeRO-1)."""
    weight_decay: float
    """Decoupled weight decay, multiplied by the learning rate."""
    clip_grad: float | None
    """Largest norm of the whole gradient; null: no clipping."""
    accumulate_grad_in_fp32: bool
    """Whether bfloat16 training keeps float32 gradients and master weights."""
    weight_decay_exclude_named_params: list[str] = field(default_factory=list)
    """Regular expressions of nanotron's names of weights without decay."""


@dataclass
class Nanoset:
    dataset_folder: str | list[str]
    """Folders of token shards; render_recipe fills them in from the mixture."""
    dataset_weights: list[float] | None = None
    """Share of each folder; null: zagreus.absent_weights decides."""
    dataset_read_path: str | list[str] | None = None
    """Faster copies of the folders; ignored."""
    tokenizer_name: str | None = None
    """Tokenizer of the shards; not used."""
    vocab_size: int | None = None
    """Vocabulary of the shards; not used."""
    token_size_in_bytes: int | None = None
    """Bytes of a token in the shards; not used, shards are checked."""
    return_positions: bool = True
    """Whether positions and attention start anew at each document."""
    skip_in_stream: bool = False
    """Whether a resume skips within the stream; must be false."""
    pad_samples_to_global_batch_size: bool = False
    """Whether folders are padded to whole batches; must be false."""
    dataset_max_tokens: list[int] | None = None
    """Most tokens of each folder; must be null."""
    shuffle_files: bool = False
    """Whether the files of a folder are read in an order drawn from the seed."""
    use_old_brrr_dataloader: bool = False
    """Whether nanotron's older loader reads; must be false."""

    @property
    def folders(self) -> list[str]:
        """The token folders, as a list even where the file has one."""
        return (
            [self.dataset_folder] if isinstance(self.dataset_folder, str) else self.dataset_folder
        )

    def weights(self, lengths: list[int] | None = None) -> list[float]:
        """Return one weight a folder, summing to 1.

        None in the file means equal weights, or where given the folders' `lengths`.
        """
        unscaled = (
            self.dataset_weights
            if self.dataset_weights is not None
            else [float(size) for size in lengths or [1] * len(self.folders)]
        )
        total = sum(unscaled)
        return [weight / total for weight in unscaled]


@dataclass
class StageData:
    dataset: Nanoset
    """Folders and their shares."""
    seed: int = 42
    """Seed of the order of files, and of later epochs."""
    num_loading_workers: int = 1
    """Processes that load batches in nanotron; changes no batch."""


@dataclass
class DataStage:
    name: str
    """Name of the stage; unique within a recipe."""
    start_training_step: int
    """First step of the stage; 1 for the first stage."""
    data: StageData
    """What the stage reads."""
    sequence_length: int | None = None
    """Tokens of one window; null or tokens.sequence_length."""


@dataclass
class StageSchedule:
    """A learning rate of a data stage's own; its steps count from the stage's first."""

    stage: str
    """Name of the data stage."""
    learning_rate_scheduler: Scheduler
    """The stage's learning rate."""


@dataclass
class ValidationFolder:
    """A folder of held-out token shards, and its share of the mean of the losses."""

    folder: str
    """Folder of held-out token shards."""
    weight: float = 1.0
    """Share of the folder in the mean; any positive number."""


@dataclass
class Extension:
    """What nanotron's schema has no key for.

    A recipe without this section means what it means in nanotron.
    """

    absent_weights: Literal["equal", "length"] = "equal"
    """Shares without dataset_weights: `equal` as nanotron since 2025-04, or by `length`."""
    end_of_data: Literal["error", "epochs"] = "error"
    """A folder that is too short: `error`, or read again in another order (`epochs`)."""
    stage_schedules: list[StageSchedule] = field(default_factory=list)
    """Learning rates of single data stages."""
    rolling_saves: int = 2
    """Newest saves that are kept between two checkpoints, in case one is damaged."""
    compile: bool | None = None
    """torch.compile of layers and loss; null: on CUDA with a compiler; true: required."""
    validation: list[ValidationFolder] = field(default_factory=list)
    """Held-out text of tokens.val_check_interval; nanotron has no section for that text."""
    loss_limit: float | None = None
    """A loss above this stops the run; null: 3 ln(vocabulary), three guesses."""
    # Younger than the recipes of finished trainings, which do not have the key: files that are
    # written have it where it is set.
    attention: Literal["document"] | None = field(default=None, metadata={"unwritten": None})
    """`document`: a token attends to its own document alone; null: to its window, as nanotron."""


@dataclass
class Recipe:
    """A whole nanotron recipe. `dict | None` sections are known and must be null.

    Nothing here implements them.
    """

    general: General
    """Names and seed."""
    parallelism: Parallelism
    """How ranks share the work."""
    model: Model
    """Shape, first weights and type of the model."""
    tokenizer: Tokenizer = field(default_factory=Tokenizer, kw_only=True)
    """The tokenizer of the text."""
    checkpoints: Checkpoints
    """Rolling saves."""
    tokens: Tokens
    """Batch size, window and steps."""
    optimizer: Optimizer
    """Optimizer and learning rate."""
    data_stages: list[DataStage]
    """What is read from which step on."""
    logging: Logging = field(default_factory=Logging)
    """nanotron's logging."""
    metrics_logging: MetricsLogging = field(default_factory=MetricsLogging)
    """nanotron's logging of single layers."""
    profiler: dict | None = None
    """nanotron's profiler; must be null."""
    lighteval: dict | None = None
    """nanotron's evaluation; must be null."""
    s3_upload: dict | None = None
    """nanotron's upload; must be null."""
    bench: dict | None = None
    """nanotron's benchmark; must be null."""
    zagreus: Extension = field(default_factory=Extension)
    """Keys that nanotron's schema lacks."""

    @property
    def global_batch_size(self) -> int:
        """Sequences in one optimizer step, whatever the number of ranks."""
        return (
            self.tokens.micro_batch_size
            * self.tokens.batch_accumulation_per_replica
            * self.parallelism.dp
        )

    @property
    def dataset(self) -> Nanoset:
        """The data set of the first data stage."""
        return self.data_stages[0].data.dataset

    @property
    def tokens_per_step(self) -> int:
        """Tokens in one optimizer step."""
        return self.global_batch_size * self.tokens.sequence_length

    @property
    def validation_interval(self) -> int:
        """Steps between two looks at held-out text; 0 where there is none."""
        return max(0, self.tokens.val_check_interval) if self.zagreus.validation else 0

    def stage_at(self, step: int) -> int:
        """Return the index of the data stage that a step belongs to."""
        return max(
            index
            for index, stage in enumerate(self.data_stages)
            if stage.start_training_step <= step
        )

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
    run: str = "%date_%jobid"
    seed: int = 42
    step: int | None = None
    consumed_train_samples: int | None = None
    benchmark_csv_path: str | None = None
    ignore_sanity_checks: bool = True


@dataclass
class Parallelism:
    dp: int
    pp: int
    tp: int
    pp_engine: Literal["afab", "1f1b"] = "afab"
    tp_mode: Literal["ALL_REDUCE", "REDUCE_SCATTER"] = "ALL_REDUCE"
    tp_linear_async_communication: bool = False
    recompute_layer: bool = False
    moe_layer_recompute: bool = False
    tp_recompute_allgather: bool = True
    expert_parallel_size: int = 1
    context_parallel_size: int = 1


@dataclass
class LlamaConfig:
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_attention_heads: int = 32
    num_hidden_layers: int = 32
    max_position_embeddings: int = 2048
    vocab_size: int = 32000  # -1: render_recipe fills in the tokenizer's
    is_llama_config: bool = True
    bos_token_id: int = 1
    eos_token_id: int = 2
    hidden_act: Literal["silu"] = "silu"
    initializer_range: float = 0.02
    num_key_value_heads: int | None = None
    attention_bias: bool = False
    pad_token_id: int | None = None
    pretraining_tp: int = 1
    rms_norm_eps: float = 1e-6
    rope_scaling: dict | None = None
    rope_theta: float = 10000.0
    rope_interleaved: bool = False
    tie_word_embeddings: bool = False
    use_cache: bool = True
    attn_implementation: str = field(
        default="flash_attention_2", metadata={"key": "_attn_implementation"}
    )
    z_loss_enabled: bool = False
    z_loss_coefficient: float = 1e-4

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
    scaling_method: Literal["NONE", "NUM_LAYERS"] = "NUM_LAYERS"


@dataclass
class Model:
    model_config: LlamaConfig
    init_method: InitMethod
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    make_vocab_size_divisible_by: int = 1
    ddp_bucket_cap_mb: int = 25

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding.

        The vocabulary, rounded up to a multiple of `make_vocab_size_divisible_by`.
        """
        multiple = self.make_vocab_size_divisible_by
        return -(-self.model_config.vocab_size // multiple) * multiple


@dataclass
class Tokenizer:
    tokenizer_name_or_path: str | None = None  # null: render_recipe fills it in
    tokenizer_revision: str | None = None
    tokenizer_max_length: int | None = None


@dataclass
class Checkpoints:
    checkpoints_path: str
    checkpoint_interval: int
    save_initial_state: bool = False
    save_final_state: bool = False
    resume_checkpoint_path: str | None = None
    load_lr_scheduler: bool = True
    load_optimizer: bool = True
    checkpoints_path_is_shared_file_system: bool = False


@dataclass
class Logging:
    log_level: str | None = None
    log_level_replica: str | None = None
    iteration_step_info_interval: int = 1


@dataclass
class MetricsLogging:
    log_level: Literal[0, 1] = 0
    log_detail_interval: int = 10


@dataclass
class Tokens:
    sequence_length: int
    train_steps: int
    micro_batch_size: int
    batch_accumulation_per_replica: int
    val_check_interval: int = -1
    limit_val_batches: int = 0
    limit_test_batches: int = 0


@dataclass
class AdamW:
    name: Literal["adamW"] = field(default="adamW", kw_only=True)
    adam_eps: float
    adam_beta1: float
    adam_beta2: float
    torch_adam_is_fused: bool


@dataclass
class Muon(AdamW):
    """Muon for the matrices of the layers, AdamW for embedding, head and norms.

    nanotron has no Muon. Its updates are scaled to the size of AdamW's (0.2 * sqrt(longer side),
    Liu et al., 2025), so that both have the recipe's learning rate and weight decay.
    """

    name: Literal["muon"] = field(default="muon", kw_only=True)  # type: ignore[assignment]
    muon_momentum: float = field(default=0.95, kw_only=True)


@dataclass
class Scheduler:
    learning_rate: float
    lr_warmup_style: Literal["linear", "constant"]
    lr_warmup_steps: int = 0
    lr_decay_style: Literal["linear", "cosine", "1-sqrt"] = "linear"
    lr_decay_steps: int | None = None
    lr_decay_starting_step: int | None = None
    min_decay_lr: float | None = None


@dataclass
class Optimizer:
    optimizer_factory: AdamW | Muon
    learning_rate_scheduler: Scheduler
    zero_stage: int
    weight_decay: float
    clip_grad: float | None
    accumulate_grad_in_fp32: bool
    weight_decay_exclude_named_params: list[str] = field(default_factory=list)


@dataclass
class Nanoset:
    dataset_folder: str | list[str]
    dataset_weights: list[float] | None = None
    dataset_read_path: str | list[str] | None = None
    tokenizer_name: str | None = None
    vocab_size: int | None = None
    token_size_in_bytes: int | None = None
    return_positions: bool = True
    skip_in_stream: bool = False
    pad_samples_to_global_batch_size: bool = False
    dataset_max_tokens: list[int] | None = None
    shuffle_files: bool = False
    use_old_brrr_dataloader: bool = False

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
    seed: int = 42
    num_loading_workers: int = 1


@dataclass
class DataStage:
    name: str
    start_training_step: int
    data: StageData
    sequence_length: int | None = None


@dataclass
class StageSchedule:
    """A learning rate of a data stage's own; its steps count from the stage's first."""

    stage: str
    learning_rate_scheduler: Scheduler


@dataclass
class ValidationFolder:
    """A folder of held-out token shards, and its share of the mean of the losses."""

    folder: str
    weight: float = 1.0


@dataclass
class Extension:
    """What nanotron's schema has no key for.

    A recipe without this section means what it means in nanotron.
    """

    absent_weights: Literal["equal", "length"] = (
        "equal"  # no dataset_weights: nanotron since 2025-04, or by length as before
    )
    end_of_data: Literal["error", "epochs"] = (
        "error"  # a folder that is too short: refused, or read again in another order
    )
    stage_schedules: list[StageSchedule] = field(default_factory=list)
    # saves between two checkpoints that are kept: the newest, and one before it should the newest
    # be damaged
    rolling_saves: int = 2
    # torch.compile of layers and loss. null: on CUDA, where a compiler is there; true: an error
    # without one; false: never.
    compile: bool | None = None
    # What `tokens.val_check_interval` looks at: nanotron knows that key and `limit_val_batches`,
    # and has no section for the data.
    validation: list[ValidationFolder] = field(default_factory=list)
    loss_limit: float | None = (
        None  # a loss above stops the run; null: three times that of a guess, 3 ln(vocabulary)
    )
    # document: a token attends to its own document alone, from its begin token or to its end token.
    # null: to all before it in its window, as in nanotron. Younger than the recipes of finished
    # trainings, which do not have the key: files that are written have it where it is set.
    attention: Literal["document"] | None = field(default=None, metadata={"unwritten": None})


@dataclass
class Recipe:
    """A whole nanotron recipe. `dict | None` sections are known and must be null.

    Nothing here implements them.
    """

    general: General
    parallelism: Parallelism
    model: Model
    tokenizer: Tokenizer = field(default_factory=Tokenizer, kw_only=True)
    checkpoints: Checkpoints
    tokens: Tokens
    optimizer: Optimizer
    data_stages: list[DataStage]
    logging: Logging = field(default_factory=Logging)
    metrics_logging: MetricsLogging = field(default_factory=MetricsLogging)
    profiler: dict | None = None
    lighteval: dict | None = None
    s3_upload: dict | None = None
    bench: dict | None = None
    zagreus: Extension = field(default_factory=Extension)

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

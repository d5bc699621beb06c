"""What a training step takes on GPUs that nobody has measured.

A roofline of its parts, and the peak of memory.

Time: matrix products by their shapes, attention by its FLOPs, element-wise kernels by the bytes
that they read and write, sums of gradients by the network. Parts that cannot overlap are added. The
constants of each device are in `ACCELERATORS`; a measured step replaces all of this
(`zagreus.plan.estimate.rank_speed`). Standard library only: the host plans with it before anything
runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from zagreus.recipe.cost import flops_per_token, parameters
from zagreus.recipe.schema import LlamaConfig, Recipe


@dataclass(frozen=True)
class Accelerator:
    """What a device reaches, not what its data sheet promises; rates a second.

    The sheet's peak serves the MFU alone.
    """

    memory_bytes: float
    """Bytes of memory."""
    peak_flops: float
    """Dense bf16 FLOP/s of the data sheet."""
    product_flops: float
    """FLOP/s of a large bf16 matrix product, all tiles full."""
    half_k: float
    """Length of the summed side at which a product reaches half of product_flops."""
    multiprocessors: int
    """Multiprocessors; each takes a tile of 128 x 128 results at a time."""
    attention_forward: float
    """FLOP/s of causal attention's forward pass, heads of 64."""
    attention_backward: float
    """FLOP/s of causal attention's backward pass, heads of 64."""
    memory_rate: float
    """Bytes a second of element-wise kernels."""
    gap: float
    """Idle seconds of a micro batch: launches, embedding, read back."""
    gpus_per_node: int
    """GPUs of a node."""
    network_rate: float
    """Bytes a second of all adapters of a node in one direction."""


# H100 and A100-80: published kernel measurements (FlashAttention-3's paper for attention; cuDNN on
# H100, FlashAttention-2 on A100), 80 % of the memory's data sheet. A100-40 and A100-64 differ in
# memory and node. MI250X is one of a module's two devices, by its data sheet and the same shares.
# Networks are 80 % of their data sheet.
ACCELERATORS = {
    "A100-40": Accelerator(40e9, 312e12, 250e12, 40, 108, 163e12, 135e12, 1.26e12, 5e-3, 8, 160e9),
    "A100-64": Accelerator(64e9, 312e12, 250e12, 40, 108, 163e12, 135e12, 1.33e12, 5e-3, 4, 40e9),
    "A100-80": Accelerator(80e9, 312e12, 250e12, 40, 108, 163e12, 135e12, 1.65e12, 5e-3, 8, 160e9),
    "H100": Accelerator(80e9, 989e12, 640e12, 60, 132, 363e12, 308e12, 2.75e12, 3e-3, 8, 320e9),
    "MI250X": Accelerator(64e9, 191.5e12, 120e12, 60, 110, 60e12, 45e12, 1.3e12, 6e-3, 8, 80e9),
}


@dataclass(frozen=True)
class Traffic:
    """Bytes that element-wise kernels move."""

    layer: float
    """Bytes of a layer, as a multiple of what fused kernels need (`_layer_elements`)."""
    loss: float
    """Times that a micro batch's logits are read or written in bf16."""
    optimizer: float
    """Bytes a parameter of norm, update and rounding."""
    first: float
    """Bytes a parameter of the first micro batch's gradients."""
    more: float
    """Bytes a parameter of each later micro batch's gradients."""


# Counted: tests/unit/train/test_assembly.py (compiled) and test_traces.py (eager). The fused loss
# reads its logits two or three times, of which some are in the cache.
COMPILED = Traffic(layer=1.03, loss=3.1, optimizer=42, first=6, more=10)
EAGER = Traffic(layer=3.4, loss=14, optimizer=42, first=6, more=10)

MARGIN = 1.05  # of memory: the allocator's holes
OUTSIDE = 1.5e9  # bytes of CUDA's context, NCCL's buffers and cuBLAS's workspace
LOGITS = 2**29  # numbers of a block of logits (zagreus/training/loss.py)
TILE = 128
LARGEST = 32  # sequences of a micro batch that are looked at


@dataclass(frozen=True)
class Setup:
    """How a recipe is trained."""

    world_size: int = 1
    """Ranks in all."""
    gpus_per_node: int = 8
    """Ranks of a node."""
    micro_batch: int = 4
    """Windows of one forward pass."""
    compiled: bool = True
    """Whether torch.compile is in use."""
    recompute: bool = False
    """Whether the backward pass recomputes layers."""
    zero: bool = False
    """Whether optimizer states are sharded (ZeRO-1)."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one rank at its peak, which is in the loss.

    All activations are there, and a block of logits.
    """

    states: float
    """Bytes of weights, gradients and optimizer states."""
    activations: float
    """Bytes of the saved activations."""
    loss: float
    """Bytes of a block of logits."""

    @property
    def total(self) -> float:
        return (self.states + self.activations + self.loss) * MARGIN + OUTSIDE


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step by its parts."""

    layers: float
    """Seconds of the layers' matrix products."""
    head: float
    """Seconds of the output head's product."""
    attention: float
    """Seconds of attention."""
    elementwise: float
    """Seconds of element-wise kernels."""
    loss: float
    """Seconds of the loss."""
    optimizer: float
    """Seconds of norm and update."""
    gaps: float
    """Idle seconds between kernels."""
    reduction: float
    """Seconds of the all-reduce that nothing hides."""

    @property
    def total(self) -> float:
        return (
            self.layers
            + self.head
            + self.attention
            + self.elementwise
            + self.loss
            + self.optimizer
            + self.gaps
            + self.reduction
        )


@dataclass(frozen=True)
class Prediction:
    """A way to train a recipe, and what it takes."""

    setup: Setup
    """How the recipe is trained."""
    memory: Memory
    """Memory of one rank."""
    step: StepTime
    """Time of one step."""
    tokens_per_second: float
    """Tokens a second of one rank."""
    mfu: float
    """Model FLOP utilisation: share of the data sheet's peak."""


def memory(recipe: Recipe, vocab_size: int, setup: Setup) -> Memory:
    """Return the peak of memory of a rank."""
    config, dtype = recipe.model.model_config, 4 if recipe.model.dtype == "float32" else 2
    tokens, count = (
        setup.micro_batch * recipe.tokens.sequence_length,
        parameters(config, vocab_size),
    )
    masters = recipe.model.dtype != "float32" and recipe.optimizer.accumulate_grad_in_fp32
    gradient = 4 if masters else dtype
    spread = setup.world_size if setup.zero else 1
    states = count * (dtype + gradient + (2 * gradient + (4 if masters else 0)) / spread)
    layer = tokens * _kept_elements(config, setup.compiled) * dtype
    # Recomputed: the inputs of all layers, and all of the one whose backward pass runs.
    inputs = config.num_hidden_layers * tokens * config.hidden_size * dtype
    kept = inputs + layer if setup.recompute else config.num_hidden_layers * layer
    # Both heads' gradients: in fp32 while blocks add to it, rounded, and the embedding's.
    head = vocab_size * config.hidden_size * (4 + 2 * dtype)
    block = min(LOGITS, tokens * vocab_size) * dtype
    return Memory(
        states,
        kept,
        head + block * (2 if setup.compiled else 6) + 2 * tokens * config.hidden_size * dtype,
    )


def _kept_elements(config: LlamaConfig, compiled: bool) -> float:
    """Return elements a token that a layer keeps for backward.

    Two residuals, two normalised inputs, the projection with its rotated
    heads, what attention gives, gate and up with their two products. A compiler makes some again.
    """
    query, kv = config.hidden_size, config.key_value_heads * config.head_size
    attention = (query + 2 * kv) + (query + kv) + query
    return (4 * config.hidden_size + attention + 4 * config.intermediate_size) * (
        0.8 if compiled else 1.05
    )


def _layer_elements(config: LlamaConfig) -> float:
    """Return elements a token that the fused kernels of a layer read and write in both passes."""
    rotated = (config.num_attention_heads + config.key_value_heads) * config.head_size
    return 18 * config.hidden_size + 4 * rotated + 9 * config.intermediate_size


def _product(accelerator: Accelerator, rows: int, columns: int, summed: int) -> float:
    """Return the seconds of a matrix product [rows, summed] x [summed, columns].

    The last wave of tiles may leave processors idle.
    """
    tiles = ceil(rows / TILE) * ceil(columns / TILE)
    waves = ceil(tiles / accelerator.multiprocessors)
    used = tiles / (waves * accelerator.multiprocessors)
    rate = accelerator.product_flops * used * summed / (summed + accelerator.half_k)
    return 2.0 * rows * columns * summed / rate


def _linear(accelerator: Accelerator, tokens: int, inputs: int, outputs: int) -> float:
    """Return the seconds of a linear layer, forward and both gradients."""
    return (
        _product(accelerator, tokens, outputs, inputs)
        + _product(accelerator, tokens, inputs, outputs)
        + _product(accelerator, outputs, inputs, tokens)
    )


def step_time(
    recipe: Recipe,
    vocab_size: int,
    accelerator: Accelerator,
    setup: Setup,
    network_rate: float | None = None,
    traffic: Traffic | None = None,
) -> StepTime:
    """Return what a step of a recipe takes.

    Args:
        network_rate: bytes a second of a node, where it is not the accelerator's usual one.
        traffic: of other code than today's.
    """
    config, length, counted = (
        recipe.model.model_config,
        recipe.tokens.sequence_length,
        traffic or (COMPILED if setup.compiled else EAGER),
    )
    tokens, count, width = (
        setup.micro_batch * length,
        parameters(config, vocab_size),
        config.hidden_size,
    )
    micro_batches = recipe.global_batch_size / setup.micro_batch / setup.world_size
    kv, again, layers = (
        config.key_value_heads * config.head_size,
        4 / 3 if setup.recompute else 1.0,
        config.num_hidden_layers,
    )
    inner = config.intermediate_size
    shapes = ((width, width + 2 * kv), (width, width), (width, 2 * inner), (inner, width))
    products = layers * sum(_linear(accelerator, tokens, *shape) for shape in shapes) * again
    block = min(tokens, max(256, LOGITS // vocab_size // 256 * 256))
    head = tokens / block * _linear(accelerator, block, width, vocab_size)
    attention = 2.0 * length * tokens * width * layers  # causal: half of the square
    forward, backward = (
        attention / accelerator.attention_forward,
        2.5 * attention / accelerator.attention_backward,
    )
    layer_bytes = (
        2
        * counted.layer
        * _layer_elements(config)
        * tokens
        * layers
        * (again if setup.recompute else 1)
    )
    head_bytes = (8 * tokens / block + 10) * vocab_size * width
    loss_bytes = 2 * counted.loss * tokens * vocab_size + head_bytes
    update = count * counted.optimizer / (setup.world_size if setup.zero else 1)
    accumulation = count * (counted.first + counted.more * max(0.0, micro_batches - 1))
    rate = accelerator.memory_rate
    computed = (
        (
            products
            + head
            + forward * (2 if setup.recompute else 1)
            + backward
            + (layer_bytes + loss_bytes) / rate
        )
        * 2
        / 3
    )
    return StepTime(
        products * micro_batches,
        head * micro_batches,
        (forward * (2 if setup.recompute else 1) + backward) * micro_batches,
        layer_bytes / rate * micro_batches,
        loss_bytes / rate * micro_batches,
        (update + accumulation) / rate,
        accelerator.gap * micro_batches,
        _reduction(
            count, vocab_size * width, setup, network_rate or accelerator.network_rate, computed
        ),
    )


def _reduction(
    count: int, embedding: int, setup: Setup, network_rate: float, backward: float
) -> float:
    """Return the seconds that a step waits for sums over the ranks.

    Of the last bucket, which is the embedding's, of what the backward
    pass of the last micro batch does not hide, and under ZeRO-1 of gathering the weights.

    The rings of a node's GPUs share its adapters. One node alone sums over links that are ten times
    as fast.
    """
    if setup.world_size == 1:
        return 0.0
    ranks = setup.world_size
    rate = network_rate if ranks > setup.gpus_per_node else 10 * network_rate
    once = (ranks - 1) / ranks / rate
    passes = 1 if setup.zero else 2
    whole, last = (4.0 * passes * elements * once for elements in (count, embedding))
    return max(last, whole - backward) + (2.0 * count * once if setup.zero else 0.0)


def predict(
    recipe: Recipe,
    vocab_size: int,
    accelerator: Accelerator,
    setup: Setup,
    network_rate: float | None = None,
) -> Prediction:
    """Return what a way to train a recipe takes."""
    step = step_time(recipe, vocab_size, accelerator, setup, network_rate)
    speed = recipe.tokens_per_step / setup.world_size / step.total
    flops = flops_per_token(recipe.model.model_config, vocab_size, recipe.tokens.sequence_length)
    return Prediction(
        setup,
        memory(recipe, vocab_size, setup),
        step,
        speed,
        speed * flops / accelerator.peak_flops,
    )


def predictions(
    recipe: Recipe,
    vocab_size: int,
    accelerator: Accelerator,
    world_sizes: list[int],
    gpus_per_node: int | None = None,
    network_rate: float | None = None,
) -> Iterator[Prediction]:
    """Yield every way to train a recipe that fits the device.

    Each micro batch that the ranks can share, with and without recomputed layers
    and ZeRO-1. None of the three changes what a checkpoint is."""
    per_node = gpus_per_node or accelerator.gpus_per_node
    for world_size in world_sizes:
        for micro_batch in shared_micro_batches(recipe, world_size):
            for recompute in (False, True):
                for zero in (False, True) if world_size > 1 else (False,):
                    setup = Setup(world_size, per_node, micro_batch, True, recompute, zero)
                    prediction = predict(recipe, vocab_size, accelerator, setup, network_rate)
                    if prediction.memory.total <= accelerator.memory_bytes:
                        yield prediction


def shared_micro_batches(recipe: Recipe, world_size: int) -> list[int]:
    """Return the micro batches, up to `LARGEST`, that ranks can share the global batch in.

    The smallest first.
    """
    batch = recipe.global_batch_size
    return [size for size in range(1, LARGEST + 1) if batch % (size * world_size) == 0]


def cheapest(candidates: list[Prediction]) -> Prediction | None:
    """Return the prediction with the most tokens a GPU-second.

    Of those within 2 % the one with the most GPUs, which is done first.
    """
    if not candidates:
        return None
    best = max(candidate.tokens_per_second for candidate in candidates)
    near = [candidate for candidate in candidates if candidate.tokens_per_second >= 0.98 * best]
    return max(
        near, key=lambda candidate: (candidate.setup.world_size, candidate.tokens_per_second)
    )

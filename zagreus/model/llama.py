"""A Llama with nanotron's parameters.

The same names, the same fused matrices, the same initial distribution.

This module is what a GPU runs. `zagreus.model.cpu` has the same layers for a CPU; `Llama` takes one
of the two sets when it is made.

Shapes in comments: B sequences, S positions, H hidden size, N query heads, K key and value heads, D
head size, I inner size of the MLP.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.utils.checkpoint import checkpoint

from zagreus.model.documents import Marks, document_blocks, document_mask, document_starts
from zagreus.recipe.schema import InitMethod, LlamaConfig

KernelSet = Literal["torch", "cpu"]
# Of the documents in a window: a mask for SDPA, blocks for FlexAttention, or, for the attention by
# hand of a CPU, where each position's document starts.
Scope: TypeAlias = Tensor | BlockMask


class RMSNorm(nn.Module):
    """Root mean square normalisation, computed in fp32 (Zhang and Sennrich, 2019)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Rotary(nn.Module):
    """Cosines and sines of rotary position embedding (Su et al., 2021), fp32, for the positions
    0..length-1.
    """

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.interleaved = config.rope_interleaved
        self.theta, self.size = config.rope_theta, config.head_size

    def tables(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return cosine and sine, each [length, D/2]."""
        exponent = torch.arange(0, self.size, 2, dtype=torch.float32, device=device) / self.size
        angles = torch.outer(
            torch.arange(length, dtype=torch.float32, device=device), 1.0 / self.theta**exponent
        )
        return angles.cos(), angles.sin()

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Rotate x [..., D] by tables that broadcast to [..., D/2], in fp32, and round once.

        Pairs of
        dimensions are (i, i + D/2), or (2i, 2i + 1) when interleaved."""
        x_fp32 = x.float()
        if self.interleaved:
            first, second = x_fp32[..., ::2], x_fp32[..., 1::2]
            rotated = torch.stack(
                (first * cosine - second * sine, second * cosine + first * sine), dim=-1
            ).flatten(-2)
        else:
            first, second = x_fp32.chunk(2, dim=-1)
            rotated = torch.cat(
                (first * cosine - second * sine, second * cosine + first * sine), dim=-1
            )
        return rotated.to(x.dtype)


class Linear(nn.Linear):
    """A linear layer without bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)


class Attention(nn.Module):
    """Causal grouped-query attention, over a window or over each document in it.

    The rows of `qkv_proj` are all queries, then all keys, then all values.
    """

    linear: type[Linear] = Linear

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = (
            config.num_attention_heads,
            config.key_value_heads,
            config.head_size,
        )
        self.qkv_proj = self.linear(
            config.hidden_size, (self.heads + 2 * self.kv_heads) * self.size
        )
        self.o_proj = self.linear(self.heads * self.size, config.hidden_size)
        self.rotary = Rotary(config)

    def scope(self, starts: Tensor, blocks: bool, dtype: torch.dtype) -> Scope:
        """Return what `forward` wants to know of the documents of a window.

        Args:
            starts: of `document_starts`, [B, S].
            blocks: for FlexAttention, not for SDPA.
            dtype: of the hidden states.
        """
        return document_blocks(starts) if blocks else document_mask(starts)

    def forward(
        self, x: Tensor, cosine: Tensor, sine: Tensor, scope: Scope | None = None
    ) -> Tensor:
        """Return [B, S, H] for x [B, S, H] and the tables of `Rotary`, [S, D/2] each.

        Without a scope all positions before a position are attended to.

        Heads stay [B, S, N, D] in memory; queries and keys are rotated apart, before the transposed
        view that attention wants. Slices of a joint rotation would be copied: 147 of 777 MB a
        layer.
        """
        batch, length, _ = x.shape
        qkv = self.qkv_proj(x).view(batch, length, self.heads + 2 * self.kv_heads, self.size)
        query, key, value = qkv.split([self.heads, self.kv_heads, self.kv_heads], dim=2)
        cosine, sine = cosine.unsqueeze(1), sine.unsqueeze(1)  # [S, 1, D/2]
        query, key = self.rotary(query, cosine, sine), self.rotary(key, cosine, sine)
        query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        mixed = self.mix(query, key, value, scope)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, self.heads * self.size))

    def mix(self, query: Tensor, key: Tensor, value: Tensor, scope: Scope | None) -> Tensor:
        """Return the mixed values [B, N, S, D] for rotated queries [B, N, S, D], and keys and
        values [B, K, S, D].
        """
        grouped = self.heads != self.kv_heads
        if isinstance(scope, BlockMask):
            return flex_attention(query, key, value, block_mask=scope, enable_gqa=grouped)  # type: ignore[return-value]
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=scope, is_causal=scope is None, enable_gqa=grouped
        )


class MLP(nn.Module):
    """SwiGLU (Shazeer, 2020). The rows of `gate_up_proj` are the gate, then the values."""

    linear: type[Linear] = Linear

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_up_proj = self.linear(config.hidden_size, 2 * config.intermediate_size)
        self.down_proj = self.linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(functional.silu(gate) * up)


class Kernels(NamedTuple):
    """The classes that compute a model."""

    norm: type[RMSNorm]
    attention: type[Attention]
    mlp: type[MLP]


def kernels_of(name: KernelSet) -> Kernels:
    """Return a set of kernels by its name."""
    if name == "torch":
        return Kernels(RMSNorm, Attention, MLP)
    from zagreus.model.cpu.modules import CPU_KERNELS  # it builds on the classes above

    return CPU_KERNELS


class Layer(nn.Module):
    """Attention and MLP, each after its norm and added to its input."""

    def __init__(self, config: LlamaConfig, kernels: Kernels) -> None:
        super().__init__()
        self.input_layernorm = kernels.norm(config.hidden_size, config.rms_norm_eps)
        self.attn = kernels.attention(config)
        self.post_attention_layernorm = kernels.norm(config.hidden_size, config.rms_norm_eps)
        self.mlp = kernels.mlp(config)

    def forward(
        self, x: Tensor, cosine: Tensor, sine: Tensor, scope: Scope | None = None
    ) -> Tensor:
        x = x + self.attn(self.input_layernorm(x), cosine, sine, scope)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """The decoder. `forward` returns hidden states.

    `logits` and the training loss multiply them by `head`.
    """

    def __init__(
        self, config: LlamaConfig, vocab_size: int | None = None, kernels: KernelSet | None = None
    ) -> None:
        """Build the model with undefined weights.

        Args:
            vocab_size: the padded size where it differs from the config's.
            kernels: `torch` for a GPU or a compiler, `cpu` for a CPU; None: by torch's default
                device.
        """
        super().__init__()
        self.config = config
        self.kernels: KernelSet = kernels or (
            "cpu" if torch.get_default_device().type == "cpu" else "torch"
        )
        self.recompute_layer = (
            False  # keep the inputs of layers only, and run each again in backward
        )
        # Where documents do not see one another; None: attention is causal over all of a window.
        self.document_marks: Marks | None = None
        self.document_blocks = False  # by FlexAttention, which wants compiled layers
        rows = config.vocab_size if vocab_size is None else vocab_size
        modules = kernels_of(self.kernels)
        self.token_embedding = nn.Embedding(rows, config.hidden_size)
        self.decoder = nn.ModuleList(
            Layer(config, modules) for _ in range(config.num_hidden_layers)
        )
        self.final_layer_norm = modules.norm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = None if config.tie_word_embeddings else Linear(config.hidden_size, rows)

    @property
    def head(self) -> Tensor:
        """The output matrix, [vocabulary, H]: the embedding itself when the two are tied."""
        return self.token_embedding.weight if self.lm_head is None else self.lm_head.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return hidden states [B, S, H] after the last norm, for input ids [B, S] at positions
        0..S-1.
        """
        if self.kernels == "cpu" and input_ids.device.type != "cpu":
            raise ValueError(
                f"a Llama with the kernels of a CPU was given a tensor on {input_ids.device}; "
                "make it with kernels='torch'"
            )
        x = self.token_embedding(input_ids)
        cosine, sine = self.decoder[0].attn.rotary.tables(input_ids.shape[1], x.device)  # type: ignore[union-attr, operator]
        scope = None
        if self.document_marks is not None:
            starts = document_starts(input_ids, self.document_marks)
            scope = self.decoder[0].attn.scope(starts, self.document_blocks, x.dtype)  # type: ignore[union-attr, operator]
        recompute = self.recompute_layer and torch.is_grad_enabled()
        for layer in self.decoder:
            run = (
                partial(checkpoint, layer, use_reentrant=False, preserve_rng_state=False)
                if recompute
                else layer
            )
            x = run(x, cosine, sine, scope)
        return self.final_layer_norm(x)

    def logits(self, input_ids: Tensor) -> Tensor:
        """Return logits [B, S, vocabulary] in fp32."""
        return functional.linear(self(input_ids), self.head).float()


def initialize(model: Llama, method: InitMethod, seed: int) -> None:
    """Draw initial weights from nanotron's distributions (not its stream of random numbers).

    Normal with standard deviation `std`,
    the two matrices that write into the residual stream with std / sqrt(2 * layers), norms one. The
    weights depend on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    layers = model.config.num_hidden_layers if method.scaling_method == "NUM_LAYERS" else 0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(1.0)
                continue
            narrow = name.endswith(("o_proj.weight", "down_proj.weight")) and layers
            std = method.std / math.sqrt(2 * layers) if narrow else method.std
            parameter.copy_(torch.empty(parameter.shape).normal_(0.0, std, generator=generator))

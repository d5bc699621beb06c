"""A Llama with nanotron's parameters: the same names, the same fused matrices, the same initial distribution.

Shapes in comments: B sequences, S positions, H hidden size, N query heads, K key and value heads, D head size, I inner size of the MLP.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from zagreus.model.attention import CausalAttention, block_rows
from zagreus.model.linear import Linear
from zagreus.model.pointwise import RMSNormalize, SwiGLU
from zagreus.nanotron import InitMethod, LlamaConfig


def by_hand(x: Tensor) -> bool:
    """Whether the passes that are written by hand serve a tensor: fp32 on a CPU, where nothing is compiled."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.compiler.is_compiling()


class RMSNorm(nn.Module):
    """Root mean square normalisation, computed in fp32 (Zhang and Sennrich, 2019)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if by_hand(x):
            return RMSNormalize.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call, no-any-return]
        exact = x.float()
        exact = exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * exact.to(x.dtype)


class Rotary(nn.Module):
    """Cosines and sines of rotary position embedding (Su et al., 2021), fp32, for the positions 0..length-1."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.interleaved = config.rope_interleaved
        self.theta, self.size = config.rope_theta, config.head_size

    def tables(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return cosine and sine, each [length, D/2]."""
        exponent = torch.arange(0, self.size, 2, dtype=torch.float32, device=device) / self.size
        angles = torch.outer(torch.arange(length, dtype=torch.float32, device=device), 1.0 / self.theta**exponent)
        return angles.cos(), angles.sin()

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Rotate x [B, heads, S, D]: pairs are (i, i + D/2), or (2i, 2i + 1) when interleaved."""
        exact = x.float()
        if self.interleaved:
            first, second = exact[..., ::2], exact[..., 1::2]
            rotated = torch.stack((first * cosine - second * sine, second * cosine + first * sine), dim=-1).flatten(-2)
        else:
            first, second = exact.chunk(2, dim=-1)
            rotated = torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
        return rotated.to(x.dtype)


class Attention(nn.Module):
    """Causal grouped-query attention. The rows of `qkv_proj` are all queries, then all keys, then all values."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.heads, self.pairs, self.size = config.num_attention_heads, config.key_value_heads, config.head_size
        self.qkv_proj = Linear(config.hidden_size, (self.heads + 2 * self.pairs) * self.size)
        self.o_proj = Linear(self.heads * self.size, config.hidden_size)
        self.rotary = Rotary(config)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        batch, length, _ = x.shape
        qkv = self.qkv_proj(x)
        if by_hand(x) and torch.get_num_threads() == 1 and block_rows(length):
            mixed = CausalAttention.apply(qkv, cosine, sine, self.heads, self.pairs, self.rotary.interleaved)  # type: ignore[no-untyped-call]
            return self.o_proj(mixed)
        qkv = qkv.view(batch, length, self.heads + 2 * self.pairs, self.size).transpose(1, 2)  # B, N + 2K, S, D
        rotated = self.rotary(qkv[:, : self.heads + self.pairs], cosine, sine)
        query, key, value = rotated[:, : self.heads], rotated[:, self.heads :], qkv[:, self.heads + self.pairs :]
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=self.heads != self.pairs)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, self.heads * self.size))


class MLP(nn.Module):
    """SwiGLU (Shazeer, 2020). The rows of `gate_up_proj` are the gate, then the values."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_up_proj = Linear(config.hidden_size, 2 * config.intermediate_size)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        gate_up = self.gate_up_proj(x)
        if by_hand(x):
            return self.down_proj(SwiGLU.apply(gate_up))  # type: ignore[no-untyped-call]
        gate, up = gate_up.chunk(2, dim=-1)
        return self.down_proj(functional.silu(gate) * up)


class Layer(nn.Module):
    """Attention and MLP, each after its norm and added to its input."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        x = x + self.attn(self.input_layernorm(x), cosine, sine)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """The decoder. `forward` returns hidden states; `logits` and the training loss multiply them by `head`."""

    def __init__(self, config: LlamaConfig, vocab_size: int | None = None) -> None:
        """Build the model with undefined weights; `vocab_size` is the padded size where it differs from the config's."""
        super().__init__()
        self.config = config
        rows = config.vocab_size if vocab_size is None else vocab_size
        self.token_embedding = nn.Embedding(rows, config.hidden_size)
        self.decoder = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.final_layer_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = None if config.tie_word_embeddings else Linear(config.hidden_size, rows)

    @property
    def head(self) -> Tensor:
        """The output matrix, [vocabulary, H]: the embedding itself when the two are tied."""
        return self.token_embedding.weight if self.lm_head is None else self.lm_head.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return hidden states [B, S, H] after the last norm, for input ids [B, S] at positions 0..S-1."""
        x = self.token_embedding(input_ids)
        cosine, sine = self.decoder[0].attn.rotary.tables(input_ids.shape[1], x.device)  # type: ignore[union-attr, operator]
        for layer in self.decoder:
            x = layer(x, cosine, sine)
        return self.final_layer_norm(x)

    def logits(self, input_ids: Tensor) -> Tensor:
        """Return logits [B, S, vocabulary] in fp32."""
        return functional.linear(self(input_ids), self.head).float()


def initialize(model: Llama, method: InitMethod, seed: int) -> None:
    """Draw initial weights from nanotron's distributions (not its stream of random numbers): normal with standard deviation `std`,
    the two matrices that write into the residual stream with std / sqrt(2 * layers), norms one. The weights depend on the seed alone."""
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

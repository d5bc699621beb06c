"""The classes that compute a Llama on a CPU.

In fp32 all passes are written by hand. Other dtypes take torch's operators, in the order that
results on a CPU were always made with. `zagreus.model.llama.Llama` takes these classes when it is
made.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zagreus.model.cpu.attention import CausalAttention, block_rows
from zagreus.model.cpu.linear import LinearProduct
from zagreus.model.cpu.pointwise import RMSNormalize, SwiGLU
from zagreus.model.documents import document_mask
from zagreus.model.llama import MLP, Attention, Kernels, Linear, RMSNorm, Scope


class CpuLinear(Linear):
    """A linear layer whose products are oneDNN's in fp32."""

    def forward(self, x: Tensor) -> Tensor:
        return LinearProduct.apply(x.flatten(0, -2), self.weight).unflatten(0, x.shape[:-1])  # type: ignore[no-untyped-call, no-any-return]


class CpuRMSNorm(RMSNorm):
    """RMSNorm by hand in fp32; in other dtypes the formula, rounded before it meets the weight."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float32:
            return RMSNormalize.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call, no-any-return]
        x_fp32 = x.float()
        x_fp32 = x_fp32 * torch.rsqrt(x_fp32.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * x_fp32.to(x.dtype)


def _uses_kernel(dtype: torch.dtype, length: int) -> bool:
    """Return whether `CausalAttention` serves a dtype and a number of positions."""
    return dtype == torch.float32 and torch.get_num_threads() == 1 and block_rows(length) > 0


class CpuAttention(Attention):
    """Attention by hand in fp32 on one thread, for lengths that can be cut into blocks.

    Torch's for all else.
    """

    linear = CpuLinear

    def scope(self, starts: Tensor, blocks: bool, dtype: torch.dtype) -> Tensor:
        return starts if _uses_kernel(dtype, starts.shape[1]) else document_mask(starts)

    def forward(
        self, x: Tensor, cosine: Tensor, sine: Tensor, scope: Scope | None = None
    ) -> Tensor:
        batch, length, _ = x.shape
        qkv = self.qkv_proj(x)
        if _uses_kernel(x.dtype, length):
            mixed = CausalAttention.apply(
                qkv, cosine, sine, self.heads, self.kv_heads, self.rotary.interleaved, scope
            )  # type: ignore[no-untyped-call]
            return self.o_proj(mixed)
        qkv = qkv.view(batch, length, self.heads + 2 * self.kv_heads, self.size).transpose(
            1, 2
        )  # B, N + 2K, S, D
        rotated = self.rotary(qkv[:, : self.heads + self.kv_heads], cosine, sine)
        query, key, value = (
            rotated[:, : self.heads],
            rotated[:, self.heads :],
            qkv[:, self.heads + self.kv_heads :],
        )
        mixed = self.mix(query, key, value, scope)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, self.heads * self.size))


class CpuMLP(MLP):
    """SwiGLU by hand in fp32."""

    linear = CpuLinear

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float32:
            return self.down_proj(SwiGLU.apply(self.gate_up_proj(x)))  # type: ignore[no-untyped-call]
        return super().forward(x)


CPU_KERNELS = Kernels(CpuRMSNorm, CpuAttention, CpuMLP)

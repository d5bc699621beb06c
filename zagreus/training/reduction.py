"""Summing gradients over the ranks while the backward pass still makes them."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch.distributed as dist
from torch import Tensor

from zagreus.model.llama import Llama
from zagreus.training.optimizer import FlatAdamW


class GradientSum:
    """Sums the flat gradients in buckets.

    Each as soon as the last micro batch of a step has finished its gradients.

    Backward goes from the last layer to the first, so buckets are cut from the end of the flat
    memory. They are sent in one order on all ranks, whatever order the gradients came in; what is
    summed is the same as in one all-reduce at the end. An optimizer whose sharding scatters gets
    its own slices of the sums alone.
    """

    def __init__(
        self,
        model: Llama,
        optimizer: FlatAdamW,
        bucket_bytes: int,
        embedding_apart: bool | None = None,
    ) -> None:
        """Cut the buckets, of `bucket_bytes` or a little more, and four at least.

        Watch the gradients, after the optimizer, which adds
        them up first.

        Args:
            embedding_apart: cut a bucket before the embedding, whose gradient is the last to be
                finished, so that the first layers need not wait for it; None: on CUDA. Buckets of a
                CPU stay as they are: with more than two ranks, cuts decide the order of sums.
        """
        self.optimizer = optimizer
        self._missing: list[int] = []  # gradients that are not finished, a bucket
        self._pending = 0
        self._last_backward = False
        self._sent: list[dist.Work] = []
        self.in_backward = 0  # buckets that were sent before the step's last backward pass ended
        sharding = optimizer.sharding
        if sharding and sharding.scatter:
            self.bounds = [(unit.start, unit.end) for unit in reversed(optimizer.units)]
        else:
            apart = optimizer.gradients.is_cuda if embedding_apart is None else embedding_apart
            self.bounds = bounds_at_parameters(optimizer, bucket_bytes, apart)
        self.buckets = [optimizer.padded_gradients[start:end] for start, end in self.bounds]
        self._counts = [0] * len(self.buckets)
        parameters = dict(model.named_parameters())
        for name, (first, last, _) in sorted(
            optimizer.slices.items(), key=lambda item: -item[1][0]
        ):
            members = [
                index
                for index, (start, end) in enumerate(self.bounds)
                if first < end and start < last
            ]
            for index in members:
                self._counts[index] += 1
            parameters[name].register_post_accumulate_grad_hook(self._finished(members))

    def expect_last_backward(self) -> None:
        """Say that the next backward pass is the step's last."""
        self._last_backward, self._pending, self._missing, self._sent, self.in_backward = (
            True,
            0,
            list(self._counts),
            [],
            0,
        )

    def wait(self) -> float:
        """Send what is left, and have what follows wait for all sums.

        Return the seconds that this took.

        On CUDA the device waits and this process goes on: the seconds are those of issuing the
        sums.
        """
        started = time.perf_counter()
        self._last_backward, self.in_backward = False, len(self._sent)
        for index in range(len(self._sent), len(self.buckets)):
            self._send(index)
        for work in self._sent:
            work.wait()
        return time.perf_counter() - started

    def _finished(self, members: list[int]) -> Callable[[Tensor], None]:
        """Return the hook of a parameter in some buckets."""

        def hook(_: Tensor) -> None:
            if not self._last_backward:
                return
            for index in members:
                self._missing[index] -= 1
            while self._pending < len(self.buckets) and not self._missing[self._pending]:
                self._send(self._pending)
                self._pending += 1

        return hook

    def _send(self, index: int) -> None:
        bucket, sharding = self.buckets[index], self.optimizer.sharding
        if sharding and sharding.scatter:
            start, end = self.optimizer.units[-1 - index].slice_of(sharding.rank)
            work = dist.reduce_scatter_tensor(
                self.optimizer.padded_gradients[start:end], bucket, async_op=True
            )
        else:
            work = dist.all_reduce(bucket, async_op=True)
        assert work is not None
        self._sent.append(work)


def bounds_at_parameters(
    optimizer: FlatAdamW, bucket_bytes: int, embedding_apart: bool
) -> list[tuple[int, int]]:
    """Return first and last + 1 element of each bucket, from the end of the flat memory to its
    start, cut between parameters.
    """
    gradients = optimizer.gradients
    bucket_bytes = min(bucket_bytes, gradients.nbytes // 4)
    embedding_end = optimizer.slices["token_embedding.weight"][1]
    bounds, end = [], gradients.numel()
    for start, _, _ in sorted(optimizer.slices.values(), key=lambda item: -item[0]):
        full = (end - start) * gradients.element_size() >= bucket_bytes
        if full or start == 0 or embedding_apart and start == embedding_end:
            bounds.append((start, end))
            end = start
    return bounds

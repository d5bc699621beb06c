"""Summing gradients over the ranks while the backward pass still makes them."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch.distributed as dist
from torch import Tensor

from zagreus.model.llama import Llama
from zagreus.training.optimizer import FlatAdamW


class GradientSum:
    """All-reduces the flat gradients in buckets: each as soon as the last micro batch of a step has finished its gradients.

    Backward goes from the last layer to the first, so buckets are cut from the end of the flat memory. They are sent in one order on all
    ranks, whatever order the gradients came in; what is summed is the same as in one all-reduce at the end.
    """

    def __init__(self, model: Llama, optimizer: FlatAdamW, bucket_bytes: int) -> None:
        """Cut the buckets, of `bucket_bytes` or a little more, and four at least; watch the gradients, after the optimizer, which adds
        them up first."""
        self.buckets: list[Tensor] = []
        self._missing: list[int] = []  # gradients that are not finished, a bucket
        self._pending = 0
        self._armed = False
        self._sent: list[dist.Work] = []
        self.in_backward = 0  # buckets that were sent before the step's last backward pass ended
        bucket_bytes = min(bucket_bytes, optimizer.gradients.nbytes // 4)
        parameters, members, end = dict(model.named_parameters()), list[str](), optimizer.gradients.numel()
        self._counts: list[int] = []
        for name, (start, _, _) in sorted(optimizer.slices.items(), key=lambda item: -item[1][0]):
            members.append(name)
            if (end - start) * optimizer.gradients.element_size() >= bucket_bytes or start == 0:
                for member in members:
                    parameters[member].register_post_accumulate_grad_hook(self._finished(len(self.buckets)))
                self.buckets.append(optimizer.gradients[start:end])
                self._counts.append(len(members))
                members, end = [], start

    def arm(self) -> None:
        """Say that the next backward pass is the step's last."""
        self._armed, self._pending, self._missing, self._sent, self.in_backward = True, 0, list(self._counts), [], 0

    def wait(self) -> float:
        """Send what is left, wait until all gradients are sums; return the seconds waited."""
        started = time.perf_counter()
        self._armed, self.in_backward = False, len(self._sent)
        for bucket in self.buckets[len(self._sent) :]:
            self._send(bucket)
        for work in self._sent:
            work.wait()
        return time.perf_counter() - started

    def _finished(self, bucket: int) -> Callable[[Tensor], None]:
        """Return the hook of a parameter in a bucket."""

        def hook(_: Tensor) -> None:
            if not self._armed:
                return
            self._missing[bucket] -= 1
            while self._pending < len(self.buckets) and not self._missing[self._pending]:
                self._send(self.buckets[self._pending])
                self._pending += 1

        return hook

    def _send(self, bucket: Tensor) -> None:
        work = dist.all_reduce(bucket, async_op=True)
        assert work is not None
        self._sent.append(work)

"""What one rank measures, alone and with the others."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from zagreus.platform.driver import ask_nvidia_smi
from zagreus.preflight.judge import transport_of

# What is asked of nvidia-smi, and under which name it stands in a measurement.
ASKED = {
    "driver_version": "driver_version",
    "clocks.sm": "clock_mhz",
    "clocks.max.sm": "clock_max_mhz",
    "ecc.mode.current": "ecc",
    "ecc.errors.uncorrected.volatile.total": "ecc_errors",
}


@dataclass(frozen=True)
class Sizes:
    """How much is computed, copied and sent: enough for the device's own speed to show."""

    matmul: int  # rows of a square matrix
    copy: int  # bytes
    reduce: int  # bytes
    file: int  # bytes
    repeats: int


SIZES = {
    "cuda": Sizes(matmul=8192, copy=2**30, reduce=2**28, file=2**28, repeats=10),
    "cpu": Sizes(matmul=384, copy=2**24, reduce=2**20, file=2**20, repeats=5),
}


@dataclass(frozen=True)
class Place:
    """This rank among the others."""

    rank: int
    ranks: int
    local: int
    per_node: int
    device: torch.device

    @property
    def node(self) -> int:
        """Which node it is on."""
        return self.rank // self.per_node


def measure(process: Place, shared: Path, log: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Measure; return the measurements of all ranks, and what is measured once.

    Args:
        shared: a folder of the shared file system.
        log: what NCCL writes (`NCCL_DEBUG_FILE`), of the first rank.
    """
    sizes = SIZES[process.device.type]
    own: dict[str, Any] = {"rank": process.rank, "node": node_name(), "node_number": process.node}
    own |= device_facts(process)
    own["clock_skew_s"] = clock_skew(process)
    own["matmul_tflops"] = matmul_tflops(process.device, sizes)
    own["copy_gb_s"] = copy_gb_s(process.device, sizes)
    whole: dict[str, Any] = {"all_gb_s": None, "transport": None}
    groups = node_groups(process)
    if process.per_node > 1:
        own["within_gb_s"] = allreduce_gb_s(process, sizes, groups.within)
    for number, link in enumerate(groups.links, start=1):
        if process.local == 0 and process.node in (0, number):
            speed = allreduce_gb_s(process, sizes, link)
            own["link_gb_s"] = max(speed, own.get("link_gb_s") or 0.0)
        dist.barrier()
    if process.ranks > 1:
        whole["all_gb_s"] = allreduce_gb_s(process, sizes, None)
    if process.local == 0:
        own |= shared_speed(process, sizes, shared)
    else:
        for _ in range(2):
            _barrier(process)
    if process.ranks > 1:
        whole["transport"] = (
            "TCP (gloo)" if process.device.type == "cpu" else transport_of(_text(log))
        )
    gathered: list[Any] = [own]
    if process.ranks > 1:
        gathered = [None] * process.ranks
        dist.all_gather_object(gathered, own)
    return gathered, whole


def node_name() -> str:
    """Return the node's name as Slurm knows it, or else the host's."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def device_facts(process: Place) -> dict[str, Any]:
    """Return the device's name, and on a GPU driver, clocks and memory errors."""
    if process.device.type == "cpu":
        return {"device": "CPU", "driver": f"torch {torch.__version__}"}
    facts: dict[str, Any] = {
        "device": f"{process.local} {torch.cuda.get_device_name(process.device)}"
    }
    facts["driver"] = f"CUDA {torch.version.cuda}"
    # Which of the node's GPUs this rank has: by its place on the bus, whatever the job calls it.
    properties = torch.cuda.get_device_properties(process.device)
    bus = (
        f"{properties.pci_domain_id:08x}:{properties.pci_bus_id:02x}:"
        f"{properties.pci_device_id:02x}.0"
    )
    query = f"--query-gpu={','.join(ASKED)}"
    lines = ask_nvidia_smi(query, "--format=csv,noheader,nounits", f"--id={bus}")
    if lines:
        values = [value.strip() for value in lines[0].split(",")]
        facts |= dict(zip(ASKED.values(), values, strict=False))
        facts["driver"] = (
            f"driver {facts['driver_version']}, CUDA {torch.version.cuda}, SM clock up to "
            f"{facts['clock_max_mhz']} MHz"
        )
        errors = str(facts["ecc_errors"])
        facts["ecc_errors"] = int(errors) if errors.isdigit() else 0
    return facts


def clock_skew(process: Place) -> float:
    """Return how many seconds this node's clock is before the first rank's. All read it after one
    barrier: what the barrier itself takes, milliseconds, is in the figure."""
    _barrier(process)
    _barrier(process)
    now = torch.tensor([time.time()], dtype=torch.float64, device=process.device)
    first = now.clone()
    if process.ranks > 1:
        dist.broadcast(first, src=0)
    return float(now - first)


def matmul_tflops(device: torch.device, sizes: Sizes) -> float:
    """Return TFLOP/s of a product of two square matrices: bf16 on a GPU, fp32 on a CPU."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    left, right = (
        torch.randn(sizes.matmul, sizes.matmul, device=device, dtype=dtype) for _ in range(2)
    )
    seconds = _seconds(lambda: torch.mm(left, right), device, sizes.repeats)
    return float(2 * sizes.matmul**3 / seconds / 1e12)


def copy_gb_s(device: torch.device, sizes: Sizes) -> float:
    """Return GB/s of a copy within the device's memory, read and written bytes together."""
    source = torch.ones(sizes.copy, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = _seconds(lambda: target.copy_(source), device, sizes.repeats)
    return 2 * sizes.copy / seconds / 1e9


@dataclass
class Groups:
    """The ranks of this node, and the first ranks of the first node and each other one."""

    within: Any
    links: list[Any]


def node_groups(process: Place) -> Groups:
    """Make the groups; every rank makes all of them, in one order."""
    nodes = process.ranks // process.per_node
    within = None
    for node in range(nodes) if process.per_node > 1 and nodes > 1 else ():
        group = dist.new_group(list(range(node * process.per_node, (node + 1) * process.per_node)))
        within = group if node == process.node else within
    links = [dist.new_group([0, node * process.per_node]) for node in range(1, nodes)]
    return Groups(within, links)


def allreduce_gb_s(process: Place, sizes: Sizes, group: Any) -> float:
    """Return the bus bandwidth of an all-reduce in GB/s, as NCCL's tests count it.

    Bytes x 2 (n - 1) / n
    by the seconds of one."""
    count = dist.get_world_size(group)
    data = torch.zeros(sizes.reduce // 4, dtype=torch.float32, device=process.device)
    seconds = _seconds(lambda: dist.all_reduce(data, group=group), process.device, sizes.repeats)
    return float(sizes.reduce * 2 * (count - 1) / count / seconds / 1e9)


def shared_speed(process: Place, sizes: Sizes, folder: Path) -> dict[str, float]:
    """Return MB/s of a file that this node writes, and of the next node's file that it reads.

    Its own would
    come from its own memory."""
    nodes = process.ranks // process.per_node
    folder.mkdir(parents=True, exist_ok=True)
    own, other = (
        folder / f".preflight-{number % nodes}" for number in (process.node, process.node + 1)
    )
    content = os.urandom(sizes.file)
    try:
        started = time.perf_counter()
        with open(own, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        written = time.perf_counter() - started
        _barrier(process)
        started = time.perf_counter()
        length = len(other.read_bytes())
        read = time.perf_counter() - started
        _barrier(process)
    finally:
        own.unlink(missing_ok=True)
    return {
        "shared_write_mb_s": sizes.file / written / 1e6,
        "shared_read_mb_s": length / read / 1e6,
    }


def _barrier(process: Place) -> None:
    if process.ranks > 1:
        dist.barrier()


def _seconds(work: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Return the seconds of one call: the first ones, which set things up, left out."""
    for _ in range(2):
        work()
    _synchronize(device)
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    _synchronize(device)
    return (time.perf_counter() - started) / repeats


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _text(log: Path) -> str:
    try:
        return log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

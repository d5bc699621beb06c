"""Measure the nodes of a training before it: GPUs, network, shared folder, clocks.

The program prints a table with a line for each rank. A value beyond a limit ends the program with
status 2. zagreus/cluster/launch.py starts the program on each node, before every training.

    python scripts/preflight.py --ranks 8 --device cuda --shared results/zagreus \\
        --limits '{"min_allreduce_gb_s": 80, "max_lag": 0.2}'
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from zagreus.errors import InputError, run
from zagreus.launch.gpus import claim_gpus
from zagreus.launch.ranks import Geometry, add_geometry, torchrun

# Seconds after which ranks that have not met stop waiting.
PATIENCE = 300


def main() -> None:
    """Start the ranks, or be one of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, default=1, help="processes on this node (default 1)")
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cpu", help="what the ranks train on"
    )
    parser.add_argument("--shared", type=Path, required=True, help="folder that all nodes see")
    parser.add_argument(
        "--limits", type=json.loads, default={}, help="the config's cluster section, as JSON"
    )
    parser.add_argument("--output", type=Path, help="write the measurements there too, as JSON")
    add_geometry(parser)
    arguments = parser.parse_args()
    geometry = Geometry.of(arguments)
    if "RANK" not in os.environ:
        if arguments.device == "cuda":
            claim_gpus(arguments.ranks)
        command, environment = torchrun("preflight", arguments.ranks, sys.argv, geometry)
        sys.stderr.flush()
        os.execve(command[0], command, environment)

    import torch
    import torch.distributed as dist

    from zagreus.preflight.judge import Limits, check, summary, table
    from zagreus.preflight.measure import Place, measure

    rank, ranks, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    torch.set_num_threads(1)
    device = torch.device("cpu")
    if arguments.device == "cuda":
        if not torch.cuda.is_available():
            raise InputError(
                f"--device cuda: torch {torch.__version__} (CUDA {torch.version.cuda}) finds no "
                "GPU or no driver that fits"
            )
        if local >= torch.cuda.device_count():
            raise InputError(
                f"--ranks {arguments.ranks}: this node has {torch.cuda.device_count()} GPUs"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    log = Path(tempfile.gettempdir()) / f"zagreus-preflight-{os.getpid()}.nccl"
    # What NCCL chose is only in its own words.
    os.environ |= {
        "NCCL_DEBUG": "INFO",
        "NCCL_DEBUG_SUBSYS": "INIT,NET",
        "NCCL_DEBUG_FILE": str(log),
    }
    started = time.monotonic()
    if ranks > 1:
        timeout = datetime.timedelta(seconds=PATIENCE)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timeout)
        dist.barrier()
    met = time.monotonic() - started
    try:
        measured, whole = measure(
            Place(rank, ranks, local, arguments.ranks, device), arguments.shared, log
        )
    finally:
        log.unlink(missing_ok=True)
    if ranks > 1:
        dist.barrier()
        dist.destroy_process_group()
    if rank:
        return
    meeting = (
        f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        if ranks > 1
        else "one rank, nowhere"
    )
    whole |= {"meeting": meeting, "meeting_seconds": met}
    print("\n".join([*table(measured), *summary(measured, whole)]), flush=True)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(
            json.dumps({"ranks": measured, "whole": whole}, indent=2) + "\n", encoding="utf-8"
        )
    check(measured, whole, Limits.of(arguments.limits))


if __name__ == "__main__":
    run(main)

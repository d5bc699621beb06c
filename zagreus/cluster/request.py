"""What a workflow's jobs ask of a cluster, compared with what the cluster has before the first job
is submitted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from zagreus.cluster.slurm import ask, show
from zagreus.errors import InputError

Facts = Mapping[str, str]


@dataclass(frozen=True)
class Request:
    """What one job asks for. An empty partition or account is the cluster's default.

    0 minutes or megabytes are not asked for.
    """

    rule: str
    """Name of the rule."""
    partition: str
    """Slurm partition; empty: the cluster's default."""
    account: str
    """Slurm account; empty: the cluster's default."""
    nodes: int
    """Nodes of the job."""
    gres: str
    """Generic resources of a node, `gpu:4`; empty: none."""
    cpus: int
    """CPU cores of a node."""
    memory_mb: int
    """Memory of a node in MB; 0: not requested."""
    minutes: int
    """Run time in minutes; 0: not requested."""


def check_launcher(rule: str, launcher: str | None) -> None:
    """Raise `InputError` where a training would start on each node by itself.

    The profile has its launcher under set-resources, and the
    command line's --set-resources take the place of all of these."""
    if launcher == "local":
        raise InputError(
            f"rule {rule}: its launcher is 'local', on Slurm it must be 'srun'; --set-resources "
            "on the command line takes the place of all "
            "that the profile has there: change the profile, or repeat it"
        )


def check_requests(requests: Iterable[Request]) -> None:
    """Raise `InputError` at the first request that the cluster can never grant, with what it has
    instead.

    What is known of partitions and nodes gives the clearer message; Slurm itself has the last word
    (accounts, qualities of service).
    """
    partitions = {facts["PartitionName"]: facts for facts in show("partition")}
    nodes = show("node")
    for request in sorted(
        requests, key=lambda item: (item.rule, item.nodes, item.memory_mb, item.minutes)
    ):
        try:
            _check(request, partitions, nodes)
        except InputError as error:
            raise InputError(f"rule {request.rule}: {error}") from None


def _check(request: Request, partitions: Mapping[str, Facts], nodes: Sequence[Facts]) -> None:
    known = ", ".join(sorted(partitions))
    partition_names = request.partition or next(
        (name for name, facts in partitions.items() if facts.get("Default") == "YES"), ""
    )
    if not partition_names:
        raise InputError(
            "no partition is given (slurm_partition, in the profile) and the cluster has no "
            f"default one; it has {known}"
        )
    # Of several, `gpu,gpu-long`, Slurm takes the one that can start the job first: one of them must
    # be able to.
    names = [name.strip() for name in partition_names.split(",") if name.strip()]
    refused: list[InputError] = []
    for name in names:
        if name not in partitions:
            raise InputError(
                f"slurm_partition is {name!r}, which the cluster does not have; it has {known}"
            )
        try:
            _check_partition(request, name, partitions, nodes)
        except InputError as error:
            refused.append(error)
    if len(refused) == len(names):
        raise refused[0]
    _ask_slurm(request)


def _check_partition(
    request: Request, name: str, partitions: Mapping[str, Facts], nodes: Sequence[Facts]
) -> None:
    limit = minutes_of(partitions[name].get("MaxTime", "UNLIMITED"))
    if limit is not None and request.minutes > limit:
        raise InputError(
            f"runtime is {request.minutes} minutes, partition {name} allows {limit} (the config's "
            "cluster.max_minutes)"
        )
    members = [node for node in nodes if name in node.get("Partitions", "").split(",")]
    _require(
        request.nodes, len(members), "nodes", f"partition {name}", "the config's cluster.nodes"
    )
    if request.gres:
        _check_gpus(request, members, name)
    largest = f"the largest node of partition {name}"
    cpus, memory = (max(int(node[key]) for node in members) for key in ("CPUTot", "RealMemory"))
    _require(request.cpus, cpus, "CPUs of a node", largest, "the config's cluster.cpus_per_node")
    _require(
        request.memory_mb,
        memory,
        "MB of memory of a node",
        largest,
        "the config's cluster.memory_mb_per_node",
    )


def _require(requested: int, there: int, what: str, where: str, config: str) -> None:
    if requested > there:
        raise InputError(f"asks for {requested} {what} ({config}), {where} has {there}")


def _check_gpus(request: Request, members: Sequence[Facts], partition: str) -> None:
    """Compare `gpu:a100:8` or `gpu:8` with the GPUs of the nodes."""
    *_, kind, count = ("", *request.gres.split(":")[1:])
    there: dict[str, int] = {}
    for node in members:
        for gpu_type, number in re.findall(r"gpu:(?:([^:,(]+):)?(\d+)", node.get("Gres", "")):
            there[gpu_type] = max(there.get(gpu_type, 0), int(number))
    if not there:
        raise InputError(
            f"asks for GPUs ({request.gres}), the nodes of partition {partition} have none; "
            "slurm_partition in the profile"
        )
    if kind and kind not in there:
        types = ", ".join(sorted(there)) or "none"
        raise InputError(
            f"asks for GPUs of type {kind} (the config's cluster.gpu), partition {partition} has "
            f"{types}"
        )
    most = there[kind] if kind else max(there.values())
    _require(
        int(count),
        most,
        "GPUs of a node",
        f"partition {partition}",
        "the config's cluster.ranks_per_node",
    )


def _ask_slurm(request: Request) -> None:
    """Let Slurm say whether it would take the job."""
    command = [
        "sbatch",
        "--test-only",
        f"--nodes={request.nodes}",
        f"--ntasks={request.nodes}",
        f"--cpus-per-task={request.cpus}",
    ]
    options = {"partition": request.partition, "account": request.account, "gres": request.gres}
    options |= {"mem": str(request.memory_mb or ""), "time": str(request.minutes or "")}
    command += [f"--{name}={value}" for name, value in options.items() if value]
    try:
        ask(*command, "--wrap=true")
    except InputError as error:
        said = re.sub(r"^.*?(allocation failure: |sbatch: error: )", "", str(error))
        where = (
            "the account is slurm_account in the profile"
            if "account" in said.lower()
            else f"asked for: {' '.join(command[2:])}"
        )
        raise InputError(f"Slurm refuses its jobs: {said.strip()} ({where})") from None


def minutes_of(limit: str) -> int | None:
    """Return Slurm's [days-]hours:minutes:seconds in minutes; None for no limit."""
    if not re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", limit):
        return None
    days, _, clock = limit.rpartition("-")
    hours, minutes, _ = map(int, clock.split(":"))
    return (int(days or 0) * 24 + hours) * 60 + minutes

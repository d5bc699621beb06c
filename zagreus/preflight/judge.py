"""The table of a preflight, and what in it is beyond the configuration's limits. No torch here."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from zagreus.errors import InputError

# The columns of the table: key of a measurement, heading, digits.
COLUMNS = (
    ("matmul_tflops", "matmul TFLOP/s", 2),
    ("copy_gb_s", "copy GB/s", 1),
    ("within_gb_s", "all-reduce in node GB/s", 2),
    ("link_gb_s", "all-reduce to first node GB/s", 2),
    ("shared_write_mb_s", "shared write MB/s", 0),
    ("shared_read_mb_s", "shared read MB/s", 0),
    ("clock_skew_s", "clock skew s", 3),
)
# Of these more is better, and a rank is compared with the others.
COMPARED = ("matmul_tflops", "copy_gb_s", "within_gb_s", "link_gb_s")


@dataclass(frozen=True)
class Limits:
    """The limits of the configuration's `cluster` section; None: only measured."""

    min_matmul_tflops: float | None = None
    min_copy_gb_s: float | None = None
    min_allreduce_gb_s: float | None = None
    min_shared_mb_s: float | None = None
    max_clock_skew_s: float | None = None
    max_lag: float | None = None  # share that a rank may be behind the median of all
    transport: str | None = None  # what NCCL must choose between nodes: IB, OFI, ...

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> Limits:
        """Return the limits of a `cluster` section, whose other keys are not this class's."""
        return cls(
            **{field.name: section[field.name] for field in fields(cls) if field.name in section}
        )


def transport_of(log: str) -> str | None:
    """Return the network that NCCL says it chose (`NCCL_DEBUG=INFO`).

    `IB`, `Socket`, a plugin's name.

    NCCL 2.2x: `NCCL INFO Using network IB`; before and beside it `NET/IB : Using [0]mlx5_0:1/IB`.
    """
    for pattern in (r"Using network (\S+)", r"NET/(\w+) : Using "):
        matches = re.findall(pattern, log)
        if matches:
            return str(matches[-1])
    return None


def table(measured: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table: a line for each rank, with what it lies on."""
    used = [column for column in COLUMNS if any(row.get(column[0]) is not None for row in measured)]
    rows = [["rank", "node", "device", *(heading for _, heading, _ in used)]]
    for row in measured:
        numbers = [
            "-" if row.get(key) is None else f"{row[key]:,.{digits}f}" for key, _, digits in used
        ]
        rows.append([str(row["rank"]), row["node"], row["device"], *numbers])
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def summary(measured: Sequence[Mapping[str, Any]], whole: Mapping[str, Any]) -> list[str]:
    """Return the lines below the table: network, rendezvous, drivers, the slowest node.

    Args:
        whole: what is measured once: `all_gb_s`, `transport`, `meeting`, `meeting_seconds`.
    """
    lines = [f"met at {whole['meeting']} in {whole['meeting_seconds']:.1f} s"]
    if whole.get("all_gb_s") is not None:
        lines.append(
            f"all-reduce of all {len(measured)} ranks: {whole['all_gb_s']:.2f} GB/s over "
            f"{whole['transport'] or 'no network'}"
        )
    lines += sorted({str(row["driver"]) for row in measured if row.get("driver")})
    slowest = _furthest(measured)
    if slowest:
        row, key, lag = slowest
        lines.append(
            f"slowest: rank {row['rank']} on {row['node']}, {_heading(key)} {lag:.0%} behind the "
            "median"
        )
    return lines


def check(measured: Sequence[Mapping[str, Any]], whole: Mapping[str, Any], limits: Limits) -> None:
    """Raise `InputError` at what is beyond the limits: one line, with the nodes.

    Raises:
        InputError: everything that is beyond a limit, the first node of each kind by name.
    """
    problems = list(_beyond(measured, limits))
    several = len({row["node_number"] for row in measured}) > 1
    bandwidth = whole.get("all_gb_s")
    if (
        limits.min_allreduce_gb_s
        and bandwidth is not None
        and bandwidth < limits.min_allreduce_gb_s
    ):
        node = min(
            (row for row in measured if row.get("link_gb_s") is not None),
            key=lambda row: row["link_gb_s"],
            default=None,
        )
        where = f", the slowest link is {node['node']}'s ({node['link_gb_s']:.2f})" if node else ""
        problems.append(
            f"all-reduce of all ranks is {bandwidth:.2f} GB/s over {whole['transport']}{where}; "
            f"min_allreduce_gb_s is {limits.min_allreduce_gb_s:g}"
        )
    if several and limits.transport and str(whole["transport"]).lower() != limits.transport.lower():
        problems.append(
            f"the ranks talk over {whole['transport']} between nodes, expected {limits.transport} "
            "(cluster.transport); are the fabric's libraries in the image, and its devices in the "
            "job?"
        )
    slowest = _furthest(measured)
    if slowest and limits.max_lag and slowest[2] > limits.max_lag:
        row, key, lag = slowest
        problems.append(
            f"rank {row['rank']} on {row['node']}: {_heading(key)} is {lag:.0%} behind the "
            f"median; max_lag is {limits.max_lag:g}"
        )
    errors = [row for row in measured if row.get("ecc_errors")]
    problems += [
        f"{row['node']}: GPU {row['device']} has {row['ecc_errors']} uncorrected memory errors "
        "(ECC)"
        for row in errors
    ]
    if problems:
        raise InputError(f"preflight: {'; '.join(problems)}")


def _beyond(measured: Sequence[Mapping[str, Any]], limits: Limits) -> list[str]:
    """Return what single ranks miss."""
    problems = []
    least = {"matmul_tflops": limits.min_matmul_tflops, "copy_gb_s": limits.min_copy_gb_s}
    least |= dict.fromkeys(("shared_write_mb_s", "shared_read_mb_s"), limits.min_shared_mb_s)
    for key, limit in least.items():
        rows = [row for row in measured if row.get(key) is not None]
        worst = min(rows, key=lambda row: row[key], default=None)
        if limit and worst and worst[key] < limit:
            problems.append(
                f"rank {worst['rank']} on {worst['node']}: {_heading(key)} is {worst[key]:.2f}, "
                f"expected {limit:g} at least"
            )
    skewed = max(measured, key=lambda row: abs(row["clock_skew_s"]))
    if limits.max_clock_skew_s and abs(skewed["clock_skew_s"]) > limits.max_clock_skew_s:
        problems.append(
            f"{skewed['node']}: its clock is {skewed['clock_skew_s']:+.3f} s off; "
            f"max_clock_skew_s is {limits.max_clock_skew_s:g}"
        )
    return problems


def _furthest(measured: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], str, float] | None:
    """Return the measurement furthest behind the median of its kind.

    Its row, its key, the share.
    """
    furthest: tuple[Mapping[str, Any], str, float] | None = None
    for key in COMPARED:
        rows = [row for row in measured if row.get(key) is not None]
        if len(rows) < 2:
            continue
        # The upper median: of two ranks the faster one is the standard.
        middle = statistics.median_high(row[key] for row in rows)
        for row in rows:
            lag = 1 - row[key] / middle if middle else 0.0
            if furthest is None or lag > furthest[2]:
                furthest = (row, key, lag)
    return furthest


def _heading(key: str) -> str:
    return next(heading for name, heading, _ in COLUMNS if name == key)

"""The exports of a run: what each format costs in quality, and what it saves in size and time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.ticker import FuncFormatter

from zagreus.reporting import cells, style
from zagreus.reporting.lineage import Lineage
from zagreus.reporting.style import Drawn

COLUMNS = [
    "model",
    "checkpoint",
    "format",
    "runtime",
    "bytes",
    "language",
    "bits_per_byte",
    "bits_per_byte_fp32",
    "rise",
    "logit_difference",
    "greedy_equal",
    "positions",
    "texts_with_equal_tokens",
    "request_items",
    "right_tool",
    "right_tool_fp32",
    "right_call",
    "right_call_fp32",
    "equal_answers",
    "file_sha256",
    "software",
]
SPEED_COLUMNS = [
    "model",
    "checkpoint",
    "format",
    "threads",
    "load_seconds",
    "memory_bytes",
    "prompt",
    "prefill_tokens_per_second",
    "new",
    "decode_tokens_per_second",
    "cpu",
]


def export_table(lineage: Lineage) -> pd.DataFrame:
    """Return one row per export and language: size, bits per byte, difference to the fp32 model."""
    rows = []
    for node in lineage.of_kind("export"):
        manifest = node.manifest
        (file,) = manifest["outputs"]
        for language, value in manifest["bits_per_byte"].items():
            fp32 = manifest["bits_per_byte_fp32"][language]
            same = {key: manifest[key] for key in COLUMNS if key in manifest}
            rows.append(
                same
                | {
                    "language": language,
                    "bits_per_byte": value,
                    "bits_per_byte_fp32": fp32,
                    "rise": round(value - fp32, 6),
                    "file_sha256": file["sha256"],
                }
                | _requests(manifest, language)
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def _requests(manifest: Mapping[str, Any], language: str) -> dict[str, Any]:
    """Return the scores of an export's answers to requests; empty where it has none."""
    own = manifest.get("requests", {}).get(language)
    if own is None:
        return {}
    fp32 = manifest["requests_fp32"][language]
    return {
        "request_items": own["items"],
        "right_tool": own["right_tool"],
        "right_tool_fp32": fp32["right_tool"],
        "right_call": own["right_call"],
        "right_call_fp32": fp32["right_call"],
        "equal_answers": own["equal_answers"],
    }


def speed_table(lineage: Lineage) -> pd.DataFrame:
    """Return one row per export and number of threads: times of this run, on its processor."""
    rows = []
    for node in lineage.of_kind("export"):
        measured = node.run.get("measured", {})
        for speed in measured.get("speeds", ()):
            rows.append(
                {key: node.manifest[key] for key in ("model", "checkpoint", "format")}
                | {
                    "threads": speed["threads"],
                    "load_seconds": measured["load_seconds"],
                    "memory_bytes": measured["memory_bytes"],
                    "prompt": measured["prompt"],
                    "prefill_tokens_per_second": speed["prefill"],
                    "new": measured["new"],
                    "decode_tokens_per_second": speed["decode"],
                    "cpu": node.run.get("cpu"),
                }
            )
    return pd.DataFrame(rows, columns=SPEED_COLUMNS)


def listed(exports: pd.DataFrame, speeds: pd.DataFrame, lineage: Lineage) -> list[dict[str, Any]]:
    """Return the exports for the page: one row an export, with its languages and speeds.

    Args:
        exports: what `export_table` returns.
        speeds: what `speed_table` returns.
        lineage: for the manifest that a click opens.
    """
    paths = {node.name: node.path for node in lineage.of_kind("export")}
    rows = []
    for key, group in exports.groupby(["model", "checkpoint", "format"], sort=False):
        model, checkpoint, form = map(str, key)
        first = group.iloc[0]
        same = (
            (speeds["model"] == model)
            & (speeds["checkpoint"].astype(str) == checkpoint)
            & (speeds["format"] == form)
        )
        timed = speeds[same]
        rows.append(
            {
                "model": model,
                "checkpoint": checkpoint,
                "format": form,
                "path": paths.get(f"{model}/{checkpoint}/{form}"),
                "megabytes": cells.number(first["bytes"] / 1e6, 1),
                "bits": [
                    (row.language, cells.number(row.bits_per_byte, 4), cells.signed(row.rise, 4))
                    for row in group.itertuples()
                ],
                "greedy": f"{first['greedy_equal']:.1%}",
                "logits": cells.scientific(first["logit_difference"]),
                "calls": [
                    (
                        row.language,
                        f"{row.right_call:.1%}",
                        f"{row.right_call_fp32:.1%}",
                        f"{row.equal_answers:.0%}",
                    )
                    for row in group.dropna(subset="request_items").itertuples()
                ],
                "load": cells.number(timed["load_seconds"].max(), 2) if len(timed) else "",
                "memory": cells.number(timed["memory_bytes"].max() / 1e6, 0) if len(timed) else "",
                "speeds": [
                    (
                        int(row.threads),
                        cells.number(row.prefill_tokens_per_second, 0),
                        cells.number(row.decode_tokens_per_second, 0),
                    )
                    for row in timed.itertuples()
                ],
            }
        )
    return rows


def export_figure(exports: pd.DataFrame, looks: dict[str, Any], folder: Path) -> list[Drawn]:
    """Draw quality against size, one point a format; nothing where the run has no export."""
    if exports.empty:
        return []
    points = (
        exports.groupby(["model", "format"], sort=False)
        .agg(bytes=("bytes", "first"), rise=("rise", "max"))
        .reset_index()
    )
    figure, axes = style.panel()
    for model, line in points.groupby("model", sort=False):
        ordered = line.sort_values("bytes")
        axes.plot(
            ordered["bytes"],
            ordered["rise"],
            color=looks[model][0],
            marker=looks[model][1],
            label=model,
            linewidth=1.2,
        )
    model = points["model"].iloc[0]
    for row in points[points["model"] == model].itertuples():
        axes.annotate(
            row.format, (row.bytes, row.rise), xytext=(4, 5), textcoords="offset points", fontsize=9
        )
    axes.axhline(0, color=style.REFERENCE, linewidth=1.2, linestyle=(0, (5, 3)))
    axes.set_xlabel("bytes of the file")
    axes.xaxis.set_major_formatter(FuncFormatter(style.millions))
    style.heading(axes, "Rise of bits per byte over fp32")
    caption = (
        "Bits per byte of held-out text in the export's own runtime, minus those of the fp32 "
        "model; the worst of the model's languages. Less is better. One point is one format."
    )
    title = "Quality of the exports against their size"
    return [style.keep(figure, points, folder, "exports", "exports", title, caption)]


def card_lines(exports: pd.DataFrame, speeds: pd.DataFrame, lineage: Lineage) -> list[str]:
    """Return the exports of one model as a table of its card; nothing where it has none."""
    if exports.empty:
        return []
    rows = listed(exports, speeds, lineage)
    calls = any(row["calls"] for row in rows)
    lines = [
        "",
        "## Exports",
        "",
        "Measured in the runtime of the format, against the model in fp32; tokens a second.",
        *(
            ["Right calls: shares of the held-out requests that are answered with the right call."]
            if calls
            else []
        ),
        "",
        "| format | MB | bits per byte (rise) | equal greedy tokens |"
        + (" right calls (fp32) |" if calls else "")
        + " threads: prompt, new |",
        "|---|---|---|---|---|" + ("---|" if calls else ""),
    ]
    for row in rows:
        bits = ", ".join(f"{language} {value} ({rise})" for language, value, rise in row["bits"])
        speed = "; ".join(f"{count}: {one}, {other}" for count, one, other in row["speeds"])
        right = ", ".join(f"{language} {own} ({fp32})" for language, own, fp32, _ in row["calls"])
        lines.append(
            f"| {row['format']} | {row['megabytes']} | {bits} | {row['greedy']} |"
            + (f" {right} |" if calls else "")
            + f" {speed} |"
        )
    return lines

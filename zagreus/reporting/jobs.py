"""Time and memory of the run's jobs. This is circumstance.

No two runs agree, and nothing but the report depends on it.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pandas as pd

from zagreus.reporting.lineage import Lineage
from zagreus.reporting.tables import read_log, training_logs

COLUMNS = ["rule", "job", "seconds", "cpu_seconds", "peak_memory_mb", "tokens_per_second", "source"]

# Which rule writes the manifests of a kind. Text is written by one of two, a model by one of three,
# told apart by what they have among their inputs.
RULES = {
    "source": "fetch",
    "duplicates": "deduplicate",
    "chat": "fetch_chat",
    "evaluation_data": "fetch_evaluation",
    "tokenizer": "tokenizer",
    "tokens": "tokenize",
    "token_index": "index_tokens",
    "checkpoint": "pretrain",
    "scores": "evaluate",
    "contamination": "contamination",
    "near_duplicates": "near_duplicates",
    "samples": "sample",
    "export_reference": "export_reference",
    "export": "export",
    "ladder": "fit_ladder",
}

# The order in which the rules run.
ORDER = [
    "download",
    "wheelhouse",
    "base_image",
    "image",
    "list_files",
    "fetch",
    "fetch_chat",
    "fetch_evaluation",
    "fetch_model",
    "deduplicate",
    "clean",
    "tokenizer",
    "tokenize",
    "index_tokens",
    "tokenize_heldout",
    "render_recipe",
    "pretrain",
    "fit_ladder",
    "plot_ladder",
    "convert",
    "posttrain",
    "evaluate",
    "sample",
    "export_reference",
    "export",
    "contamination",
    "near_duplicates",
    "tabulate",
    "plot",
    "report",
    "provenance",
]


def job_table(lineage: Lineage, benchmarks: Path | str) -> pd.DataFrame:
    """Return one row per job.

    From Snakemake's benchmark file where there is one, else from the circumstances beside the
    manifest.

    Args:
        lineage: the run's manifests.
        benchmarks: the run's folder of benchmark files, `RULE/JOB.tsv`; it may be missing or
            incomplete.

    Returns:
        The columns rule, job, seconds (wall), cpu_seconds, peak_memory_mb (resident),
        tokens_per_second (median, of training jobs), source (`benchmark` or `manifest`). The two
        sources differ: a benchmark covers the whole job, start of the container included.
    """
    rows = {(row["rule"], row["job"]): row for row in _benchmarks(Path(benchmarks))}
    measured = {rule for rule, _ in rows}
    for node in lineage.nodes.values():
        rule = rule_of(lineage, node.path)
        if rule is None:
            continue
        speed = _tokens_per_second(node)
        if (rule, node.name) in rows:
            rows[rule, node.name]["tokens_per_second"] = speed
        elif rule not in measured and node.run:
            rows[rule, node.name] = {
                "rule": rule,
                "job": node.name,
                "seconds": node.run["seconds"],
                "cpu_seconds": None,
                "peak_memory_mb": node.run["peak_memory_mb"],
                "tokens_per_second": speed,
                "source": "manifest",
            }
    ordered = sorted(
        rows.values(),
        key=lambda row: (
            ORDER.index(row["rule"]) if row["rule"] in ORDER else len(ORDER),
            row["rule"],
            row["job"],
        ),
    )
    return pd.DataFrame(ordered, columns=COLUMNS)


def rule_of(lineage: Lineage, path: str) -> str | None:
    """Return the rule that writes an artifact's manifest.

    None for a kind that no rule of this workflow writes.
    """
    node = lineage.nodes[path]
    if "adopted" in node.manifest:
        return f"adopt_{node.kind}"
    kinds = {lineage.nodes[parent].kind for parent in node.parents}
    if node.kind == "source" and "source" in kinds:
        return "clean"
    if node.kind != "model":
        return RULES.get(node.kind)
    if "checkpoint" in kinds:
        return "convert"
    return "posttrain" if "model" in kinds else "fetch_model"


def rule_summary(jobs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per rule.

    Jobs, seconds in all, longest job, CPU seconds, largest peak memory, in the order of `jobs`.
    """
    return (
        jobs.groupby("rule", sort=False)
        .agg(
            jobs=("job", "size"),
            seconds=("seconds", "sum"),
            longest=("seconds", "max"),
            cpu_seconds=("cpu_seconds", lambda column: column.sum(min_count=1)),
            peak_memory_mb=("peak_memory_mb", "max"),
        )
        .reset_index()
    )


def _benchmarks(folder: Path) -> list[dict]:
    rows = []
    for file in sorted(folder.rglob("*.tsv")):
        relative = file.relative_to(folder)
        if len(relative.parts) == 1:
            rule = job = relative.stem
        else:
            rule, job = (relative.parts[0], str(Path(*relative.parts[1:]).with_suffix("")))
        # Snakemake writes NA where a job was over before it could be measured, and one row for each
        # repeat.
        content = pd.read_csv(file, sep="\t")
        if content.empty:
            continue
        last = content.iloc[-1]
        rows.append(
            {
                "rule": rule,
                "job": job,
                "seconds": _number(last.get("s")),
                "cpu_seconds": _number(last.get("cpu_time")),
                "peak_memory_mb": _number(last.get("max_rss")),
                "tokens_per_second": None,
                "source": "benchmark",
            }
        )
    return rows


def _number(value: object) -> float | None:
    number = pd.to_numeric(value, errors="coerce")
    return None if pd.isna(number) else float(number)


def _tokens_per_second(node) -> float | None:  # type: ignore[no-untyped-def]
    speeds = [
        line["tokens_per_second"]
        for log in training_logs(node)
        for line in read_log(log)
        if line.get("tokens_per_second")
    ]
    return round(median(speeds), 1) if speeds else None

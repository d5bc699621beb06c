"""Parts of the page, ready to be written.

Contamination, comparisons, signal, throughput, texts side by side.
"""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from zagreus.errors import InputError
from zagreus.reporting import cells
from zagreus.reporting.lineage import Lineage

# Items and comparisons beyond these many are in the CSV alone.
LISTED_ITEMS, LISTED_PAIRS = 100, 400
SIGNIFICANT = 0.05


def contamination(tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """The matrix source by data set, as (found, checked) or None where no model trained on the
    source is asked; items; clean scores.
    """
    pairs, items, clean = (
        tables["contamination"],
        tables["contaminated_items"],
        tables["clean_scores"],
    )
    datasets = list(dict.fromkeys(pairs["dataset"]))
    items = items.assign(found=[_found(row) for row in items.to_dict("records")])
    matrix = []
    for source, source_pairs in pairs.groupby("source", sort=False):
        counts = {
            row.dataset: (int(row.overlapping), int(row.checked))
            for row in source_pairs.itertuples()
        }
        matrix.append((source, [counts.get(dataset) for dataset in datasets]))
    worst = items.assign(share=items["matched"] / items["ngrams"]).sort_values(
        ["share", "matched"], ascending=False, kind="stable"
    )
    return {
        "datasets": datasets,
        "matrix": matrix,
        "pairs": len(pairs),
        "touched": int((pairs["overlapping"] > 0).sum()),
        "items": worst.head(LISTED_ITEMS).to_dict("records"),
        "all_items": len(items),
        "near": "similarity" in items,
        "scores": clean.to_dict("records"),
    }


def _found(row: dict[str, Any]) -> str:
    """Return what was found of an item: n-grams, or a passage in other words."""
    if pd.isna(row["ngrams"]):
        return f"in other words, {cells.number(row['similarity'], 2)}"
    return f"{row['matched']} of {row['ngrams']}"


def paired(table: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """The comparisons by their reason, those that are significant first in each task."""
    listed = {}
    for why in ("parent", "training", "models"):
        comparisons = table[table["why"] == why].head(LISTED_PAIRS)
        listed[why] = [
            {
                "task": row.task,
                "metric": row.metric,
                "one": (row.model, row.checkpoint),
                "other": (row.other, row.other_checkpoint),
                "n": row.n,
                "difference": cells.signed(row.difference),
                "stderr": cells.number(row.stderr),
                "better": row.better,
                "worse": row.worse,
                "p_value": cells.probability(row.p_value),
                "p_adjusted": cells.probability(row.p_adjusted),
                "significant": row.p_adjusted < SIGNIFICANT,
            }
            for row in comparisons.itertuples()
        ]
    return listed


def signal(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per task and metric.

    In how many of the models that have a course the task tells something, and the numbers behind
    it.
    """
    rows = []
    for (task, metric), group in table.groupby(["task", "metric"], sort=False):
        known = group["signal"].dropna()
        rows.append(
            {
                "task": task,
                "metric": metric,
                "language": group["language"].iloc[0],
                "n": group["n"].iloc[0],
                "models": group["model"].tolist(),
                "carry": int(known.sum()),
                "known": len(known),
                "monotone": group["monotone"].median(),
                "gain_errors": group["gain_errors"].median(),
                "noise_errors": group["noise_errors"].median(),
                "above": int(group["above_chance"].fillna(False).sum()),
            }
        )
    return rows


def texts(lineage: Lineage, models: pd.DataFrame) -> list[dict[str, Any]]:
    """The texts by prompt, so that the models stand side by side: {language, prompt, chat, texts.

    [{model, checkpoint, sample}]}.

    The first prompt of every language comes first, then the second of every language, and so on.

    Raises:
        InputError: samples that are not in the contract's form, or of a model that the run does not
            have.
    """
    order = list(dict.fromkeys(models["model"]))
    prompts: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for node in lineage.of_kind("samples"):
        for key in ("model", "checkpoint", "chat", "samples"):
            if key not in node.manifest:
                raise InputError(f"{node.path}: samples without '{key}'")
        model = node.manifest["model"]
        if model not in order:
            raise InputError(f"samples of {model}, which is not in models.csv: {', '.join(order)}")
        about = {
            "model": model,
            "checkpoint": str(node.manifest["checkpoint"]),
            "chat": node.manifest["chat"],
            "path": node.path,
        }
        for sample in node.manifest["samples"]:
            prompts.setdefault((sample["language"], sample["prompt"]), []).append(
                {**about, **sample}
            )
    rank: dict[tuple[str, str], int] = {}
    for language, prompt in prompts:
        rank[language, prompt] = sum(other == language for other, _ in rank)
    return [
        {
            "language": language,
            "prompt": prompt,
            "first": rank[language, prompt] == 0,
            "texts": sorted(prompts[language, prompt], key=lambda text: order.index(text["model"])),
        }
        for language, prompt in sorted(prompts, key=lambda key: rank[key])
    ]


def set_aside(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """The tasks that set items aside, `task, n, count, reasons`.

    Items scored, items set aside, and how many for which reason.
    """
    rows = []
    for task, task_scores in scores[scores["set_aside"].notna()].groupby("task", sort=False):
        counts = json.loads(task_scores.iloc[0]["set_aside"])
        reasons = "; ".join(f"{count} {reason}" for reason, count in counts.items())
        items = sum(count for reason, count in counts.items() if not reason.startswith("example: "))
        rows.append(
            {"task": task, "n": int(task_scores.iloc[0]["n"]), "count": items, "reasons": reasons}
        )
    return rows

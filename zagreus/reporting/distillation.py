"""What each distillation closed of the distance between a student and its teacher."""

from __future__ import annotations

import pandas as pd

from zagreus.reporting.lineage import Lineage

COLUMNS = [
    "model",
    "student",
    "teacher",
    "rows",
    "teacher_wrong",
    "steps",
    "kl_before",
    "kl_after",
    "closed",
    "heldout_prompts",
]


def distillation_table(lineage: Lineage) -> pd.DataFrame:
    """Return one row per distilled model.

    Its student (the checkpoint that it started from) and teacher, the prompts that it was trained
    on and those that the teacher answered wrongly (missing where nobody looked), and the mean of
    KL(student || teacher), in nats a token, on the student's own answers to held-out prompts,
    before and after. `closed` is the share of it that is gone.
    """
    rows = []
    for node in lineage.of_kind("model"):
        manifest = node.manifest
        if manifest.get("stage") != "distill":
            continue
        kl = manifest.get("heldout_kl")
        rows.append(
            {
                "model": manifest["model"],
                "student": manifest["base"],
                "teacher": manifest["teacher"],
                "rows": manifest["rows"],
                "teacher_wrong": manifest.get("teacher_correct", {}).get("dropped"),
                "steps": manifest["steps"],
                "kl_before": kl and kl["before"],
                "kl_after": kl and kl["after"],
                "closed": kl and round(1 - kl["after"] / kl["before"], 6),
                "heldout_prompts": kl and kl["prompts"],
            }
        )
    rows.sort(key=lambda row: str(row["model"]))
    frame = pd.DataFrame(rows, columns=COLUMNS)
    whole = ["rows", "teacher_wrong", "steps", "heldout_prompts"]
    return frame.astype(dict.fromkeys(whole, "Int64"))

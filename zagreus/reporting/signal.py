"""Which task tells anything about these models.

Does its score rise with training, by more than noise, and above chance?

After the criteria of FineTasks (H. Kydlicek, G. Penedo and others, 2024: monotonicity, low noise,
above random) and of Signal and Noise (D. Heineman and others, arXiv 2508.13144, 2025: the range of
a score over training against its spread from checkpoint to checkpoint).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from zagreus.reporting.published import headline_metrics
from zagreus.reporting.tables import STANDARD_ERRORS

MONOTONE = 0.5  # rank correlation of step and score, at least
CHECKPOINTS = 3  # fewer say nothing of a course
COLUMNS = [
    "task",
    "language",
    "metric",
    "model",
    "n",
    "checkpoints",
    "monotone",
    "gain",
    "gain_errors",
    "noise_errors",
    "above_chance",
    "signal",
]


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Return the rank correlation (ties share their mean rank).

    0 where one of the two does not vary.
    """
    ranks = [pd.Series(values).rank().to_numpy() for values in (first, second)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def signal_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Return one row per task and base model that has a course (CHECKPOINTS checkpoints or more).

    Args:
        scores: the run's scores, in long form. Of each task the headline metric, and bits per byte.

    Returns:
        COLUMNS: monotone, the rank correlation of step and improvement; gain, the improvement from
        the first checkpoint to the last; gain_errors, that in standard errors of the difference
        (unpaired: items.parquet gives tighter ones); noise_errors, the root mean square of the
        steps back and forth about the course's trend, in standard errors of one score;
        above_chance, of the last checkpoint, by STANDARD_ERRORS; signal, whether it rises
        (MONOTONE), by more than STANDARD_ERRORS, and ends above chance.
    """
    headline = headline_metrics(scores)
    headline_rows = (scores["metric"] == scores["task"].map(headline)) | (
        scores["metric"] == "bits_per_byte"
    )
    rows = []
    for (task, metric, model), course in scores[headline_rows & (scores["kind"] == "base")].groupby(
        ["task", "metric", "model"], sort=False
    ):
        course = course.sort_values("step")
        if len(course) < CHECKPOINTS:
            continue
        better = 1 if course["higher_is_better"].iloc[0] else -1
        steps, values = course["step"].to_numpy(float), better * course["value"].to_numpy(float)
        errors = course["stderr"].to_numpy(float)
        monotone, gain = spearman(steps, values), values[-1] - values[0]
        spread = np.hypot(errors[0], errors[-1])
        gain_errors = gain / spread if spread > 0 else np.nan
        above = course["above_chance"].iloc[-1]
        rises = monotone >= MONOTONE and gain_errors > STANDARD_ERRORS
        rows.append(
            {
                "task": task,
                "language": course["language"].iloc[0],
                "metric": metric,
                "model": model,
                "n": course["n"].iloc[-1],
                "checkpoints": len(course),
                "monotone": round(monotone, 3),
                "gain": gain,
                "gain_errors": round(float(gain_errors), 2),
                "noise_errors": _noise(
                    steps,
                    values,
                    float(np.nanmean(errors)) if not np.isnan(errors).all() else np.nan,
                ),
                "above_chance": above,
                "signal": bool(rises and above) if not pd.isna(above) else None,
            }
        )
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.astype({"above_chance": "boolean", "signal": "boolean", "n": "Int64"})


def _noise(steps: np.ndarray, values: np.ndarray, error: float) -> float | None:
    """Return how far each inner checkpoint is from the line between its neighbours, as a root mean
    square, in standard errors of a score.
    """
    share = (steps[1:-1] - steps[:-2]) / (steps[2:] - steps[:-2])
    off = values[1:-1] - (values[:-2] + share * (values[2:] - values[:-2]))
    # The line is of two scores, so that a score's own error counts (1 + share^2 + (1 - share)^2)
    # times.
    scale = np.sqrt(1 + share**2 + (1 - share) ** 2)
    return None if not error > 0 else round(float(np.sqrt(np.mean((off / scale) ** 2)) / error), 2)

"""Figures that hold published numbers.

Those of the published tables, where this run has the task.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from reporting_run import make_report, script

from zagreus.reporting.agentic import COLUMNS as CASE_COLUMNS
from zagreus.reporting.at_chance import chance_rows, tasks_at_chance
from zagreus.reporting.replication import replication_table

NO_CASES = pd.DataFrame(columns=CASE_COLUMNS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    root = tmp_path_factory.mktemp("run")
    return root, make_report(root)


def plot(folder: Path, frames: dict[str, pd.DataFrame]) -> Path:
    """Return the folder of the figures of these tables."""
    (folder / "tables").mkdir()
    for name, frame in frames.items():
        frame.to_csv(folder / "tables" / f"{name}.csv", index=False)
    done = script("plot", "--tables", folder / "tables", "--output", folder / "figures")
    assert done.returncode == 0, done.stderr
    return folder / "figures"


def test_published_points_are_drawn_where_the_run_has_the_task(
    run: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """The published steps and tasks, two of the three.

    Points in the figure's CSV are those of the published table.
    """
    tables = {
        name: pd.read_csv(run[0] / "tables" / f"{name}.csv", dtype={"checkpoint": str})
        for name in ("scores", "training", "models", "exports")
    }
    published = pd.read_csv("reference/table1_zagreus_ita.csv")
    rows = [
        {
            **tables["scores"].iloc[-1].to_dict(),
            "kind": "base",
            "model": "ita",
            "checkpoint": str(step),
            "step": step,
            "language": "ita",
        }
        | {
            "task": task,
            "metric": metric,
            "value": 0.3,
            "stderr": 0.01,
            "n": 1000,
            "num_fewshot": 0,
            "chance": 0.25,
            "majority_baseline": 0.27,
        }
        for step in (95000, 290000, 775000)
        for task, metric in (("m_mmlu_it", "acc"), ("hellaswag_it", "acc_norm"))
    ]
    scores = pd.DataFrame(rows)
    replication = replication_table(
        "reference", scores, {"ita": ["95000", "290000", "775000"]}, NO_CASES
    )
    figures = plot(tmp_path, {**tables, "scores": scores, "replication": replication})
    drawn = pd.read_csv(figures / "checkpoints_ita.csv")
    points = drawn[drawn["source"] == "published"]
    for column, task in (
        ("m_mmlu_it:acc", "m_mmlu_it"),
        ("hellaswag_it:acc_norm", "hellaswag_it"),
        ("mean", "mean"),
    ):
        expected = published[["step", column]].dropna()
        assert (
            points.loc[points["task"] == task, ["step", "value"]].values.tolist()
            == expected.values.tolist()
        )
    index = json.loads((figures / "index.json").read_text())
    assert "Hollow: the published numbers" in next(
        entry["caption"] for entry in index if entry["file"] == "checkpoints_ita.svg"
    )


def test_figure_8_holds_the_published_means(run: tuple[Path, list[str]], tmp_path: Path) -> None:
    """The means of the tasks that this run has are those that the published table gives of the same
    tasks.
    """
    tables = {
        name: pd.read_csv(run[0] / "tables" / f"{name}.csv", dtype={"checkpoint": str})
        for name in ("scores", "training", "models", "exports")
    }
    table = pd.read_csv("reference/table6_nesso.csv", index_col="model")
    quantities = [column for column in table.columns if not column.startswith("mean")]
    strict = "prompt_level_strict_acc"
    tasks = [
        (
            *(column.split(":") if ":" in column else (column, strict)),
            "ita" if "_it" in column else "eng",
        )
        for column in quantities
    ]
    models = [("nesso-instruct", "posttrained", "dpo"), ("qwen3-0.6b", "baseline", "release")]
    rows = [
        {
            **tables["scores"].iloc[-1].to_dict(),
            "kind": kind,
            "model": model,
            "checkpoint": checkpoint,
            "language": language,
        }
        | {
            "task": task,
            "metric": metric,
            "value": 0.3,
            "stderr": 0.01,
            "n": 1000,
            "num_fewshot": 0,
            "chance": None,
            "majority_baseline": 0.27,
        }
        for model, kind, checkpoint in models
        for task, metric, language in tasks
    ]
    scores = pd.DataFrame(rows)
    replication = replication_table(
        "reference", scores, {model: [checkpoint] for model, _, checkpoint in models}, NO_CASES
    )
    tables["training"] = tables["training"][:0]
    shown = [
        {**tables["models"].iloc[-1].to_dict(), "model": model, "kind": kind, "checkpoint": name}
        for model, kind, name in models
    ]
    figures = plot(
        tmp_path,
        {**tables, "scores": scores, "replication": replication, "models": pd.DataFrame(shown)},
    )
    drawn = pd.read_csv(figures / "posttrained_mean.csv")
    points = drawn[drawn["source"] == "published"].set_index(["model", "mean"])["value"]
    for model, name in (
        ("nesso-instruct", "Nesso-0.4B-instruct"),
        ("qwen3-0.6b", "Qwen/Qwen3-0.6B"),
    ):
        assert points[model, "eng"] == pytest.approx(table.loc[name, "mean_en"], abs=6e-5)
        assert points[model, "ita"] == pytest.approx(table.loc[name, "mean_it"], abs=6e-5)
        assert points[model, "together"] == pytest.approx(table.loc[name, quantities].mean())


def test_figure_5_and_the_tasks_beyond_the_published_ones(
    run: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """The nine Portuguese tasks of both published checkpoints and of the baseline.

    A base model's further tasks have panels of their own.
    """
    tables = {
        name: pd.read_csv(run[0] / "tables" / f"{name}.csv", dtype={"checkpoint": str})
        for name in ("scores", "training", "models", "exports")
    }
    tables["training"] = tables["training"][tables["training"]["model"] == "por"]
    tables["exports"] = tables["exports"][:0]  # of models that these tables do not have
    named = pd.read_csv("reference/tasks.csv")
    port = [(row.task, row.metric) for row in named.itertuples() if row.task.endswith("_port")]
    models = [
        ("por", "base", "483000", 483000),
        ("por", "base", "582000", 582000),
        ("qwen3-0.6b-base", "baseline", "release", None),
    ]
    rows = [
        {
            **tables["scores"].iloc[-1].to_dict(),
            "kind": kind,
            "model": model,
            "checkpoint": checkpoint,
            "step": step,
            "language": "por",
        }
        | {
            "task": task,
            "metric": metric,
            "value": 0.3,
            "stderr": 0.01,
            "n": 1000,
            "num_fewshot": 0,
            "chance": None,
            "majority_baseline": 0.27,
        }
        for model, kind, checkpoint, step in models
        for task, metric in [*port, ("arc_pt", "acc_norm"), ("include_pt", "acc")]
    ]
    scores = pd.DataFrame(rows)
    replication = replication_table(
        "reference",
        scores,
        {"por": ["483000", "582000"], "qwen3-0.6b-base": ["release"]},
        NO_CASES,
    )
    shown = [
        {
            **tables["models"].iloc[-1].to_dict(),
            "model": model,
            "kind": kind,
            "checkpoint": checkpoint,
        }
        for model, kind, checkpoint, _ in models
    ]
    figures = plot(
        tmp_path,
        {**tables, "scores": scores, "replication": replication, "models": pd.DataFrame(shown)},
    )
    drawn = pd.read_csv(figures / "extended_por.csv")
    labels = {f"{model} {checkpoint}" for model, _, checkpoint, _ in models}
    assert set(drawn.loc[drawn["source"] == "this run", "model"]) == labels and set(
        drawn["task"]
    ) == {task for task, _ in port}
    table = pd.read_csv("reference/table5_portuguese_extended.csv")
    points = drawn[drawn["source"] == "published"].set_index(["model", "task"])["value"]
    assert len(points) == 27 and points["por 483000", "assin2_rte_port"] == table["assin2_rte"][0]
    assert points["qwen3-0.6b-base release", "oab_exams_port"] == table["oab_exams"][2]
    first, second, third = (
        pd.read_csv(figures / f"checkpoints_por{part}.csv") for part in ("", "_2", "_3")
    )
    assert (
        set(first["task"]) == {"arc_pt"}
        and len(set(second["task"])) == 7
        and len(set(third["task"])) == 3
    )
    assert "include_pt" in {*second["task"], *third["task"]}


def test_a_task_at_chance_for_every_model_is_a_row_and_no_figure(
    run: tuple[Path, list[str]], tmp_path: Path
) -> None:
    tables = {
        name: pd.read_csv(run[0] / "tables" / f"{name}.csv", dtype={"checkpoint": str})
        for name in ("scores", "training", "models", "replication", "exports")
    }
    scores = tables["scores"]
    scores["above_chance"] = scores["above_chance"].astype("boolean")
    assert "choice_eng" not in tasks_at_chance(scores)
    before = {path.name for path in plot(tmp_path, tables).glob("score_*.svg")}
    assert "score_choice_eng.svg" in before
    # The same scores, none of them above the floor.
    scores.loc[scores["task"] == "choice_eng", "above_chance"] = False
    assert tasks_at_chance(scores) == ["choice_eng"]
    (row,) = chance_rows(scores)
    task_scores = scores[(scores["task"] == "choice_eng") & (scores["metric"] == row["metric"])]
    assert row["scores"] == len(task_scores) and float(row["highest"]) == pytest.approx(
        task_scores["value"].max(), abs=5e-4
    )
    (tmp_path / "second").mkdir()
    after = {path.name for path in plot(tmp_path / "second", tables).glob("*.svg")}
    assert before - after == {"score_choice_eng.svg"}
    # A score without a standard error says nothing: the task keeps its figure.
    scores.loc[(scores["task"] == "choice_eng"), "above_chance"] = pd.NA
    assert tasks_at_chance(scores) == []

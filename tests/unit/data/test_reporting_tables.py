"""Tables: against values worked out by hand from the same manifests; checks.

They follow the numbers.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from reporting_run import (
    BASES,
    PLAN,
    POSTTRAINED,
    STEPS,
    TOKENS_PER_STEP,
    bits,
    family,
    tabulate,
    write_benchmarks,
    write_run,
)

from zagreus.errors import InputError
from zagreus.manifest import sha256_file, write_manifest
from zagreus.reporting.checks import checks, continues
from zagreus.reporting.distillation import distillation_table
from zagreus.reporting.lineage import Lineage
from zagreus.reporting.tables import (
    above_chance,
    floor,
    model_table,
    read_tables,
    score_table,
    token_table,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    root = tmp_path_factory.mktemp("run")
    manifests = write_run(root)
    write_benchmarks(root / "benchmarks")
    done = tabulate(manifests, root / "benchmarks", root / "tables")
    assert done.returncode == 0, done.stderr
    return root, manifests


def test_scores_hold_every_score_once_in_the_order_of_the_configuration(
    run: tuple[Path, list[str]],
) -> None:
    root, manifests = run
    expected = []
    for manifest in map(Path, manifests):
        content = json.loads(manifest.read_text())
        if content["kind"] == "scores":
            expected += [
                (
                    content["model"],
                    content["checkpoint"],
                    score["task"],
                    score["metric"],
                    score["value"],
                )
                for score in content["scores"]
            ]
    scores = read_tables(root / "tables", ["scores"])["scores"]
    actual = list(
        scores[["model", "checkpoint", "task", "metric", "value"]].itertuples(
            index=False, name=None
        )
    )
    assert sorted(actual) == sorted(expected)
    assert len(actual) == len(set(actual))
    order = [model["name"] for model in family()]
    assert [order.index(model) for model, *_ in actual] == sorted(
        order.index(model) for model, *_ in actual
    )
    base = scores[scores["kind"] == "base"]
    assert (base["tokens"] == base["step"] * TOKENS_PER_STEP).all()
    assert scores.loc[scores["kind"] != "base", "step"].isna().all()


def test_above_chance_is_two_standard_errors_beyond_the_better_of_chance_and_constant(
    run: tuple[Path, list[str]],
) -> None:
    root, _ = run
    scores = read_tables(root / "tables", ["scores"])["scores"]
    for row in scores.itertuples():
        if row.metric == "bits_per_byte":
            assert row.above_chance == (row.value < row.majority_baseline - 2 * row.stderr)
        elif row.metric == "acc":
            assert row.above_chance == (
                row.value > max(row.chance, row.majority_baseline) + 2 * row.stderr
            )
        else:
            assert pd.isna(row.above_chance)
    acc = scores[scores["metric"] == "acc"]["above_chance"]
    assert acc.any() and not acc.all()


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (
            {
                "value": 0.41,
                "stderr": 0.05,
                "chance": 0.25,
                "majority_baseline": 0.3,
                "higher_is_better": True,
            },
            True,
        ),
        (
            {
                "value": 0.39,
                "stderr": 0.05,
                "chance": 0.25,
                "majority_baseline": 0.3,
                "higher_is_better": True,
            },
            False,
        ),
        (
            {
                "value": 0.39,
                "stderr": 0.05,
                "chance": 0.25,
                "majority_baseline": None,
                "higher_is_better": True,
            },
            True,
        ),
        (
            {
                "value": 0.39,
                "stderr": None,
                "chance": 0.25,
                "majority_baseline": None,
                "higher_is_better": True,
            },
            None,
        ),
        (
            {
                "value": 0.39,
                "stderr": 0.05,
                "chance": None,
                "majority_baseline": None,
                "higher_is_better": True,
            },
            None,
        ),
        (
            {
                "value": 3.0,
                "stderr": 0.1,
                "chance": None,
                "majority_baseline": 3.3,
                "higher_is_better": False,
            },
            True,
        ),
        (
            {
                "value": 3.2,
                "stderr": 0.1,
                "chance": None,
                "majority_baseline": 3.3,
                "higher_is_better": False,
            },
            False,
        ),
    ],
)
def test_above_chance(score: dict, expected: bool | None) -> None:
    assert above_chance(score) is expected


def test_floor_is_the_harder_of_the_two_levels() -> None:
    assert floor(0.25, 0.31, True) == 0.31
    assert floor(0.25, 0.2, True) == 0.25
    assert floor(8.0, 4.4, False) == 4.4
    assert floor(None, float("nan"), True) is None


def test_training_has_each_step_once_though_a_killed_job_wrote_some_twice(tmp_path: Path) -> None:
    manifests = write_run(tmp_path)
    log = tmp_path / "pretrain" / "ita" / "160.jsonl"
    lines = log.read_text().splitlines()
    again = [json.dumps(json.loads(line) | {"loss": 1.5}) for line in lines[-2:]]
    log.write_text("\n".join([*lines, *again]) + "\n")
    assert tabulate(manifests, tmp_path / "benchmarks", tmp_path / "tables").returncode == 0
    training = read_tables(tmp_path / "tables", ["training"])["training"]
    ita = training[(training["model"] == "ita") & (training["stage"] == "pretrain")]
    assert ita["step"].tolist() == list(range(1, STEPS[-1] + 1))
    assert ita["tokens"].tolist() == [step * TOKENS_PER_STEP for step in range(1, STEPS[-1] + 1)]
    assert ita.set_index("step")["loss"][[159, 160]].tolist() == [1.5, 1.5]
    assert list(training.columns) == [
        "model",
        "stage",
        "step",
        "tokens",
        "loss",
        "grad_norm",
        "learning_rate",
        "heldout_loss",
    ]
    assert set(training["stage"]) == {"pretrain", "sft", "dpo"}


def test_tokens_and_mixture(run: tuple[Path, list[str]]) -> None:
    root, _ = run
    tables = read_tables(root / "tables", ["tokens", "mixture"])
    tokens, mixture = tables["tokens"], tables["mixture"]
    assert tokens["language"].iloc[-1] == "code"
    assert tokens.loc[
        tokens["source"] == "eng_bible", ["documents", "tokens", "text_bytes"]
    ].values.tolist() == [[101, 501000, 2000007]]
    assert tokens.loc[tokens["source"] == "eng_bible", "tokens_per_word"].item() == round(
        501_000 / 400_000, 4
    )
    assert mixture.groupby("model")["weight"].sum().round(9).tolist() == [1.0] * len(BASES)
    row = mixture[(mixture["model"] == "ita") & (mixture["source"] == "ita_bible")].iloc[0]
    assert row["tokens_seen"] == round(0.4 * 240 * TOKENS_PER_STEP)
    assert row["epochs"] == pytest.approx(0.4 * 240 * TOKENS_PER_STEP / 502_000, abs=1e-4)


def test_rows_left_out(run: tuple[Path, list[str]]) -> None:
    root, _ = run
    table = read_tables(root / "tables", ["left_out"])["left_out"]
    rows = {
        (row.kind, row.name, row.reason): (row.left_out, row.rows) for row in table.itertuples()
    }
    # Sources that lost nothing, reasons without a row and splits without a loss have no row.
    assert ("text", "eng_wiki", "blank") not in rows
    assert rows["text", "ita_bible", "blank"] == (2, 102 + 10 + 2)
    assert rows["chat", "instruct", "no JSON"] == (3, 400)
    assert rows["chat", "instruct", "repeated"] == (16, 400)
    assert rows["post-training", "nesso-instruct/sft", "too long"] == (19, 380)
    evaluation = table[table["kind"] == "evaluation"]
    assert evaluation[["name", "reason", "left_out"]].values.tolist() == [
        ["items", "test: null", 2]
    ]
    assert evaluation["rows"].isna().all()
    assert table.loc[table["reason"] == "too long", "share"].unique().tolist() == [0.05]


def test_models_have_their_size_weights_and_parent(run: tuple[Path, list[str]]) -> None:
    root, _ = run
    models = read_tables(root / "tables", ["models"])["models"]
    assert [(row.model, row.checkpoint) for row in models.itertuples()] == [
        (model["name"], checkpoint) for model in family() for checkpoint in model["checkpoints"]
    ]
    assert models["parameters"].tolist() == [6_200_000] * (len(models) - 1) + [134_515_008]
    assert (
        models.set_index(["model", "checkpoint"]).loc[("spa", "160"), "text_languages"]
        == "eng spa code"
    )
    for row in models.itertuples():
        assert row.weights_sha256 == sha256_file(
            root / "models" / row.model / row.checkpoint / "model.safetensors"
        )


def test_published_layout(run: tuple[Path, list[str]]) -> None:
    root, _ = run
    ita = pd.read_csv(root / "tables" / "published_ita.csv")
    assert list(ita.columns) == ["model", "checkpoint", "step", "choice_ita:acc", "mean"]
    assert ita["checkpoint"].tolist() == list(STEPS)
    assert ita["mean"].tolist() == pytest.approx([0.26 + 0.0008 * step for step in STEPS])
    nesso = pd.read_csv(root / "tables" / "published_nesso-instruct.csv")
    assert list(nesso.columns) == [
        "model",
        "checkpoint",
        "step",
        "choice_eng:acc",
        "mean_eng",
        "choice_ita:acc",
        "mean_ita",
    ]
    assert list(zip(nesso["model"], nesso["checkpoint"], strict=True)) == [
        ("nesso-instruct", "sft"),
        ("nesso-instruct", "dpo"),
        ("ita", "240"),
        ("smollm2", "release"),
    ]
    assert pd.isna(nesso["mean_ita"].iloc[-1])


def test_published_columns_come_in_the_published_order(tmp_path: Path) -> None:
    from zagreus.reporting.published import published_table, reference_columns

    published = ["arc_pt:acc_norm", "hellaswag_pt:acc_norm", "m_mmlu_pt:acc"]
    assert reference_columns("reference", "por")[:3] == published
    model = next(model for model in family() if model["name"] == "por")
    rows = [
        {
            "model": "por",
            "checkpoint": str(step),
            "kind": "base",
            "task": task,
            "language": "por",
            "metric": metric,
            "value": value,
        }
        for step in STEPS
        for task, metric, value in (
            ("extra_pt", "acc", 0.4),
            ("m_mmlu_pt", "acc", 0.3),
            ("arc_pt", "acc", 0.9),
            ("arc_pt", "acc_norm", 0.2),
        )
    ]
    table = published_table(
        pd.DataFrame(rows), model, family(), reference_columns("reference", "por")
    )
    assert list(table.columns)[3:] == ["arc_pt:acc_norm", "m_mmlu_pt:acc", "extra_pt:acc", "mean"]
    assert table["mean"].tolist() == pytest.approx([0.25] * 3), "of the published columns"


def test_jobs_take_the_benchmark_where_there_is_one(run: tuple[Path, list[str]]) -> None:
    root, _ = run
    jobs = read_tables(root / "tables", ["jobs"])["jobs"].set_index(["rule", "job"])
    measured = jobs.loc[("pretrain", "ita/80")]
    assert (measured["seconds"], measured["peak_memory_mb"], measured["source"]) == (
        61.25,
        812.5,
        "benchmark",
    )
    assert measured["tokens_per_second"] == 11700 + 40.5
    assert ("pretrain", "ita/240") not in jobs.index
    assert jobs.loc[("evaluate", "ita/80/languages"), "source"] == "manifest"
    assert set(jobs.index.get_level_values("rule")) >= {
        "fetch",
        "tokenize",
        "convert",
        "posttrain",
        "fetch_model",
        "sample",
    }


def test_two_identical_runs_give_the_same_bytes_but_for_jobs(
    run: tuple[Path, list[str]], tmp_path: Path
) -> None:
    root, _ = run
    assert (
        tabulate(write_run(tmp_path), tmp_path / "benchmarks", tmp_path / "tables").returncode == 0
    )
    names = sorted(path.name for path in (root / "tables").glob("*.csv"))
    assert len(names) == 19 + len(BASES) + len(POSTTRAINED)
    for name in names:
        if name not in ("jobs.csv", "throughput.csv", "plan.csv", "export_speeds.csv"):
            assert (root / "tables" / name).read_bytes() == (
                tmp_path / "tables" / name
            ).read_bytes(), name


def test_the_plan_stands_beside_what_was_used(run: tuple[Path, list[str]]) -> None:
    root, _ = run
    plan = pd.read_csv(root / "tables" / "plan.csv").set_index(["stage", "measure"])
    throughput = pd.read_csv(root / "tables" / "throughput.csv")
    training = throughput[throughput["rule"] == "pretrain"]
    assert plan.loc[("pretrain", "rank_hours"), "planned"] == pytest.approx(
        training["planned_hours"].sum()
    )
    assert plan.loc[("pretrain", "rank_hours"), "used"] == pytest.approx(training["hours"].sum())
    assert plan.loc[("pretrain", "cost"), "used"] == pytest.approx(2.0 * training["hours"].sum())
    nodes = Lineage(run[1]).nodes.values()
    made = sum(
        item["bytes"]
        for node in nodes
        if node.kind in ("tokens", "tokenizer")
        for item in node.manifest["outputs"]
    )
    assert plan.loc[("tokens", "bytes"), "used"] == made
    assert plan.loc[("text", "bytes"), "planned"] > 0 and ("run", "wall_hours") in plan.index


def test_every_rule_that_processes_tokens_says_how_fast(run: tuple[Path, list[str]]) -> None:
    root, manifests = run
    throughput = pd.read_csv(root / "tables" / "throughput.csv").set_index("rule")
    lineage = Lineage(manifests)
    shards = [node.manifest["tokens"] for node in lineage.of_kind("tokens")]
    assert throughput.loc["tokenize", "tokens"] == sum(shards) and throughput.loc[
        "tokenize", "tokens_per_second"
    ] == pytest.approx(250_000)
    assert pd.isna(throughput.loc["tokenize", "mfu"])
    tasks = sum(
        len({score["task"] for score in node.manifest["scores"]})
        for node in lineage.of_kind("scores")
    )
    assert throughput.loc["evaluate", "tokens"] == 3000 * tasks and throughput.loc[
        "evaluate", "tokens_per_second"
    ] == pytest.approx(1500)
    assert throughput.loc["evaluate", "flops_per_second"] == pytest.approx(2 * 6_200_000 * 1500)
    assert throughput.loc["evaluate", "mfu"] == pytest.approx(
        2 * 6_200_000 * 1500 / PLAN["peak_flops"]
    )
    after = [node for node in lineage.of_kind("model") if "train_tokens" in node.run]
    assert len(after) == 3 and throughput.loc["posttrain", "tokens"] == 3 * 40_000
    assert throughput.loc["posttrain", "flops_per_second"] == pytest.approx(6 * 6_200_000 * 5000)
    pretrain = throughput.loc["pretrain"]
    assert (pretrain["tokens_per_second"] > 0).all() and (pretrain["mfu"] > 0).all()


def checks_of(root: Path, **change: object) -> dict[str, bool | None]:
    lineage = Lineage(write_run(root, **change))  # type: ignore[arg-type]
    scores = score_table(lineage, family())
    return {
        check.claim: check.passed
        for check in checks(scores, model_table(lineage, family(), token_table(lineage)))
    }


def test_checks_hold_on_a_run_that_learns(tmp_path: Path) -> None:
    assert list(checks_of(tmp_path).values()) == [True] * 4 + [None]


def test_a_model_that_does_not_learn_fails_the_first_check(tmp_path: Path) -> None:
    outcomes = checks_of(tmp_path, bits_of=lambda model, step, language: bits(model, 240, language))
    assert list(outcomes.values()) == [False, True, True, True, None]


def test_a_model_no_better_than_letter_frequencies_fails_the_second_check(tmp_path: Path) -> None:
    outcomes = checks_of(
        tmp_path,
        bits_of=lambda model, step, language: (
            bits(model, step, language) + (2.5 if model == "por" else 0)
        ),
    )
    assert list(outcomes.values()) == [True, False, False, True, None]


def test_a_model_second_best_on_its_own_language_fails_the_third_check(tmp_path: Path) -> None:
    outcomes = checks_of(
        tmp_path,
        bits_of=lambda model, step, language: (
            bits("por" if (model, language) == ("spa", "por") else model, step, language)
            - (0.1 if (model, language) == ("spa", "por") else 0)
        ),
    )
    assert list(outcomes.values()) == [True, True, False, True, None]


@pytest.mark.parametrize(("turns", "expected"), [(0.94, True), (0.55, False), (0.1, False)])
def test_a_model_that_does_not_end_its_turns_fails_the_fourth_check(
    tmp_path: Path, turns: float, expected: bool
) -> None:
    assert (
        checks_of(tmp_path, turns=turns)["Post-training makes the chat format appear"] is expected
    )


def test_a_run_without_such_scores_has_no_check() -> None:
    columns = [
        "model",
        "checkpoint",
        "kind",
        "step",
        "task",
        "language",
        "metric",
        "value",
        "stderr",
        "majority_baseline",
        "n",
    ]
    empty, models = (
        pd.DataFrame(columns=columns),
        pd.DataFrame(
            {"model": ["ita"], "kind": ["base"], "parent": [None], "text_languages": ["eng ita"]}
        ),
    )
    assert [check.passed for check in checks(empty, models)] == [None] * 5


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (2.05, 2.0, [True, True]),
        (2.2, 2.0, [False, True]),
        (2.0, 2.95, [True, False]),
        (2.0, 3.1, [True, False]),
    ],
)
def test_a_continued_model_keeps_the_old_and_gains_on_the_new(
    old: float, new: float, expected: list[bool]
) -> None:
    values = {("ita", "ita"): 2.0, ("ita", "fra"): 3.0, ("more", "ita"): old, ("more", "fra"): new}
    common = {
        "checkpoint": "9",
        "kind": "base",
        "step": 9,
        "metric": "bits_per_byte",
        "stderr": 0.01,
        "majority_baseline": 4.0,
        "n": 9,
    }
    scores = pd.DataFrame(
        [
            {
                "model": model,
                "task": f"heldout_{language}",
                "language": language,
                "value": value,
                **common,
            }
            for (model, language), value in values.items()
        ]
    )
    models = pd.DataFrame(
        {
            "model": ["ita", "more"],
            "kind": "base",
            "parent": [None, "ita"],
            "text_languages": ["ita", "ita fra"],
        }
    )
    assert [case.passed for case in continues(scores, models).cases] == expected


def test_lineage_reaches_the_wheel_and_notices_a_change(
    run: tuple[Path, list[str]], tmp_path: Path
) -> None:
    _, manifests = run
    lineage = Lineage(manifests)
    wheel = next(node for node in lineage.of_kind("source")).files
    assert [Path(item["path"]).name for item in wheel] == ["texts-1.0-py3-none-any.whl"]
    order = list(lineage.nodes)
    assert all(
        order.index(parent) < order.index(path)
        for path, node in lineage.nodes.items()
        for parent in node.parents
    )
    assert lineage.check()[1] == []
    again = write_run(tmp_path)
    source = tmp_path / "sources" / "ita_bible" / "00000.json"
    source.write_text(source.read_text().replace('"documents": 102', '"documents": 103'))
    broken = Lineage(again).check()[1]
    assert broken and all(line.endswith(f"<- {source}") for line in broken)


def one_line(done: subprocess.CompletedProcess, *parts: str) -> None:
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for part in ("error: ", *parts):
        assert part in done.stderr


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    manifests = write_run(tmp_path)
    output = tmp_path / "tables"
    one_line(
        tabulate([*manifests, str(tmp_path / "gone.json")], tmp_path / "benchmarks", output),
        "gone.json",
        "no such manifest",
    )
    one_line(
        tabulate([str(tmp_path / "samples" / "ita" / "240.json")], tmp_path / "benchmarks", output),
        "no scores",
    )
    scores = Path(manifests[0])
    whole = scores.read_text()
    scores.write_text(whole[:200])
    one_line(tabulate(manifests, tmp_path / "benchmarks", output), str(scores), "invalid JSON")
    scores.write_text(whole.replace('"stderr"', '"standard_error"'))
    one_line(tabulate(manifests, tmp_path / "benchmarks", output), str(scores), "stderr")
    scores.write_text(whole.replace('"checkpoint": "80"', '"checkpoint": "81"'))
    one_line(
        tabulate(manifests, tmp_path / "benchmarks", output),
        "scores of ita/81",
        "expected those of ita/80",
    )
    scores.write_text(whole)
    tokens = tmp_path / "tokens" / "ita_bible" / "00000.json"
    tokens.unlink()
    one_line(tabulate(manifests, tmp_path / "benchmarks", output), str(tokens), "was made from it")
    assert not output.exists()


def test_a_torn_training_log_is_one_line(tmp_path: Path) -> None:
    manifests = write_run(tmp_path)
    log = tmp_path / "pretrain" / "spa" / "80.jsonl"
    log.write_text(log.read_text()[:-20])
    one_line(tabulate(manifests, tmp_path / "benchmarks", tmp_path / "tables"), str(log), "line 81")


def test_a_missing_table_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such table"):
        read_tables(tmp_path, ["scores"])
    (tmp_path / "scores.csv").write_text("")
    with pytest.raises(InputError, match="not a table"):
        read_tables(tmp_path, ["scores"])


def test_published_numbers_are_those_of_the_source() -> None:
    source = Path("../shared/reference")
    if not source.is_dir():
        pytest.skip("the source of the published numbers is not beside the repository")
    for file in source.glob("*.csv"):
        assert (Path("reference") / file.name).read_bytes() == file.read_bytes()


def test_a_distillation_has_a_row_of_its_own(tmp_path: Path) -> None:
    kl = {"before": 2.0, "after": 0.5, "prompts": 60, "tokens_before": 9, "tokens_after": 8}
    facts = {"model": "nesso-instruct", "checkpoint": "distill", "stage": "distill"}
    facts |= {"base": "ita/240", "teacher": "nesso-agentic/sft", "rows": 7, "steps": 3}
    manifest = tmp_path / "manifest.json"
    write_manifest(manifest, kind="model", name="nesso-instruct/distill", heldout_kl=kl, **facts)
    (row,) = distillation_table(Lineage([str(manifest)])).to_dict("records")
    assert pd.isna(row.pop("teacher_wrong"))  # nobody looked
    assert row == {
        "model": "nesso-instruct",
        "student": "ita/240",
        "teacher": "nesso-agentic/sft",
        "rows": 7,
        "steps": 3,
        "kl_before": 2.0,
        "kl_after": 0.5,
        "closed": 0.75,
        "heldout_prompts": 60,
    }


def test_a_run_without_a_distillation_has_no_table_of_it(run: tuple[Path, list[str]]) -> None:
    root, manifests = run
    assert not len(distillation_table(Lineage(manifests)))
    assert not (root / "tables" / "distillation.csv").exists()

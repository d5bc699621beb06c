"""Paired tests against the binomial distribution and against simulation, the table of signal, and
scores without contaminated items.
"""

from __future__ import annotations

import json
import math
import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from reporting_run import TASKS, family, tabulate, write_run

from zagreus.errors import InputError
from zagreus.manifest import sha256_file
from zagreus.reporting.contamination import clean_scores, contaminated_items, contamination_table
from zagreus.reporting.items import Answers, Pairs, all_answers
from zagreus.reporting.lineage import Lineage
from zagreus.reporting.owners import check_owners
from zagreus.reporting.paired import compare, holm, mcnemar, paired_table
from zagreus.reporting.signal import signal_table, spearman


@pytest.fixture(scope="module")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Lineage:
    return Lineage(write_run(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def answers(lineage: Lineage) -> list[Answers | Pairs]:
    return list(all_answers(lineage))


def answers_of(
    numerators: list[float],
    denominators: list[float] | None = None,
    name: str = "a",
    metric: str = "acc",
) -> Answers:
    n = len(numerators)
    return Answers(
        name,
        "1",
        "t",
        metric,
        metric == "acc",
        np.arange(n),
        np.array(numerators, float),
        np.array(denominators or [1.0] * n, float),
    )


@pytest.mark.parametrize(
    ("better", "worse"), [(0, 0), (1, 0), (5, 0), (3, 9), (20, 20), (59, 41), (700, 612), (3, 4000)]
)
def test_mcnemar_is_the_binomial_test(better: int, worse: int) -> None:
    tosses, fewer = better + worse, min(better, worse)
    exact = min(
        Fraction(1),
        2 * sum(Fraction(math.comb(tosses, k)) for k in range(fewer + 1)) / Fraction(2) ** tosses,
    )
    assert mcnemar(better, worse) == pytest.approx(float(exact), rel=1e-12)


def test_mcnemar_at_the_textbook_value() -> None:
    assert mcnemar(5, 0) == 0.0625  # 2 / 2^5
    assert mcnemar(10, 0) == 2 / 1024


def test_p_values_of_equals_are_uniform_at_most() -> None:
    """Two models that are right on each item independently with the same chance.

    5 % of p-values are below 0.05, no more.
    """
    draw = np.random.default_rng(0)
    below = 0
    for _ in range(400):
        easy = draw.uniform(size=200)
        one, other = ((draw.uniform(size=200) < easy).astype(float).tolist() for _ in range(2))
        below += compare(answers_of(one), answers_of(other))["p_value"] < 0.05
    assert below / 400 < 0.08


def test_bits_per_byte_agree_with_the_bootstrap() -> None:
    draw = np.random.default_rng(1)
    sizes = draw.integers(50, 500, size=300).astype(float)
    hard = draw.uniform(1, 4, size=300)
    first, other = sizes * hard, sizes * (hard + draw.normal(0.02, 0.1, size=300))
    comparison = compare(
        answers_of(first.tolist(), sizes.tolist(), metric="bits_per_byte"),
        answers_of(other.tolist(), sizes.tolist(), "b", "bits_per_byte"),
    )
    picks = draw.integers(0, 300, size=(4000, 300))
    means = (first - other)[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    assert comparison["difference"] == pytest.approx((first - other).sum() / sizes.sum())
    assert comparison["stderr"] == pytest.approx(means.std(), rel=0.1)
    assert (
        comparison["better"] + comparison["worse"] == 300
        and comparison["better"] > comparison["worse"]
    )
    assert 0 <= comparison["p_value"] < 0.05


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == [] and holm([0.7, 0.9]) == [1.0, 1.0]


def test_other_items_are_refused() -> None:
    with pytest.raises(InputError, match="asked different items"):
        compare(answers_of([1, 0]), answers_of([1, 0, 0]))


def test_every_task_s_items_give_one_of_its_scores(
    lineage: Lineage, answers: list[Answers]
) -> None:
    scores = {
        (
            node.manifest["model"],
            node.manifest["checkpoint"],
            score["task"],
            score["metric"],
        ): score["value"]
        for node in lineage.of_kind("scores")
        for score in node.manifest["scores"]
    }
    for answer in answers:
        assert answer.value() == pytest.approx(
            scores[answer.model, answer.checkpoint, answer.task, answer.metric], rel=1e-9
        )
    assert (
        len({(answer.model, answer.checkpoint, answer.task) for answer in answers})
        == len(answers)
        > 100
    )


def test_items_of_other_scores_are_refused(tmp_path: Path) -> None:
    manifests = write_run(tmp_path)
    folder = tmp_path / "evaluate" / "ita" / "80"
    items, stated = (
        folder / "languages.items.parquet",
        json.loads((folder / "languages.json").read_text()),
    )
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(items).slice(1), items)
    with pytest.raises(
        InputError,
        match=(
            r"languages.items.parquet: sha256 .*, expected .*languages.json says: items of "
            r"other scores"
        ),
    ):
        list(all_answers(Lineage(manifests)))
    stated["outputs"][0] |= {"sha256": sha256_file(items)}
    (folder / "languages.json").write_text(json.dumps(stated))
    with pytest.raises(
        InputError,
        match=(
            "languages.json: the items of task 'heldout_eng' give a bits_per_byte of .*, expected"
        ),
    ):
        list(all_answers(Lineage(manifests)))
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(items).drop_columns("values"), items)
    stated["outputs"][0] |= {"sha256": sha256_file(items)}
    (folder / "languages.json").write_text(json.dumps(stated))
    with pytest.raises(InputError, match="no column 'values'.*score it again"):
        list(all_answers(Lineage(manifests)))


def test_results_of_another_model_are_refused(tmp_path: Path) -> None:
    """Before a table is written: what was found, where, and what was expected."""
    manifests = write_run(tmp_path)
    check_owners(Lineage(manifests))
    evaluate, models = tmp_path / "evaluate", tmp_path / "models"
    manifest = evaluate / "ita" / "80" / "languages.json"
    kept = manifest.read_bytes()
    manifest.write_bytes((evaluate / "spa" / "80" / "languages.json").read_bytes())
    with pytest.raises(
        InputError,
        match=(
            r"ita/80/languages.json: scores of spa/80, expected those of ita/80, whose place "
            r"this is"
        ),
    ):
        check_owners(Lineage(manifests))
    manifest.write_text(
        kept.decode().replace(str(models / "ita" / "80"), str(models / "spa" / "80"))
    )
    with pytest.raises(
        InputError,
        match=(
            r"scores of ita/80 that were made from spa/80 \(.*models/spa/80/manifest.json\): "
            r"another model's"
        ),
    ):
        check_owners(Lineage(manifests))
    weights = json.loads(kept)["weights_sha256"]
    manifest.write_text(kept.decode().replace(weights, "0" * 64))
    message = (
        rf"ita/80/languages.json: scores of weights with sha256 000000000000..., but those "
        rf"of ita/80 have {weights[:12]}..."
    )
    with pytest.raises(InputError, match=message):
        check_owners(Lineage(manifests))
    refused = tabulate(manifests, tmp_path, tmp_path / "tables")
    assert (
        refused.returncode == 2
        and len(refused.stderr.strip().splitlines()) == 1
        and "another model's" in refused.stderr
    )
    assert not (tmp_path / "tables").exists()
    manifest.write_bytes(kept)
    samples = tmp_path / "samples" / "ita" / "240.json"
    samples.write_bytes((tmp_path / "samples" / "spa" / "240.json").read_bytes())
    with pytest.raises(
        InputError, match=r"samples/ita/240.json: samples of spa/240, expected those of ita/240"
    ):
        check_owners(Lineage(manifests))


def test_pairs_are_scored_without_some_of_them() -> None:
    pairs = [("Sim", "Sim"), ("Sim", "Não"), ("Não", "Não"), ("Não", "[invalid]")]
    scored = Pairs("por", "1", "t", "f1_macro", np.arange(4), pairs)
    assert scored.value() == pytest.approx((2 / 3 + 2 / 4) / 2)
    assert scored.value(np.array([True, False, True, False])) == 1.0
    assert list(paired_table([scored], family()).index) == []


def test_two_metrics_of_a_task(tmp_path: Path) -> None:
    """Tasks are compared by the metric that tables quote.

    Scores without contaminated items are given for every one.
    """
    manifests = write_run(tmp_path)
    for model in ("ita", "spa", "por", "fra"):
        for step in (80, 160, 240):
            path = tmp_path / "evaluate" / model / str(step) / "languages.json"
            stated, items = (
                json.loads(path.read_text()),
                path.with_suffix("").with_suffix(".items.parquet"),
            )
            rows = pyarrow.parquet.read_table(items)
            held = [
                [*values, ("acc_norm", [1.0 - values[0][1][0], 1.0])]
                if values[0][0] == "acc"
                else values
                for values in rows["values"].to_pylist()
            ]
            column = pyarrow.array(held, rows.schema.field("values").type)
            pyarrow.parquet.write_table(
                rows.set_column(rows.schema.get_field_index("values"), "values", column), items
            )
            stated["scores"] += [
                {**score, "metric": "acc_norm", "value": 1 - score["value"]}
                for score in stated["scores"]
                if score["metric"] == "acc"
            ]
            stated["outputs"][0]["sha256"] = sha256_file(items)
            path.write_text(json.dumps(stated))
    lineage = Lineage(manifests)
    answers = list(all_answers(lineage))
    table = paired_table(answers, family())
    assert set(
        table.loc[(table["model"] == "ita") & (table["task"] == "choice_ita"), "metric"]
    ) == {"acc_norm"}
    clean = clean_scores(lineage, contaminated_items(lineage), answers, family(), TASKS).set_index(
        ["model", "task", "metric"]
    )
    one, other = (
        clean.loc[("ita", "choice_ita", "acc")],
        clean.loc[("ita", "choice_ita", "acc_norm")],
    )
    assert one["value"] == pytest.approx(1 - other["value"]) and one["without"] == pytest.approx(
        1 - other["without"]
    )
    assert one["overlapping"] == other["overlapping"] == 3


def test_what_is_compared(answers: list[Answers]) -> None:
    table = paired_table(answers, family())
    rows = table[(table["task"] == "choice_ita") & (table["model"] == "ita")]
    assert list(
        rows.loc[rows["why"] == "training", ["checkpoint", "other_checkpoint"]].itertuples(
            index=False, name=None
        )
    ) == [
        ("160", "80"),
        ("240", "160"),
        ("240", "80"),
    ]
    parent = table[(table["task"] == "choice_ita") & (table["why"] == "parent")]
    assert set(zip(parent["model"], parent["checkpoint"], parent["other"])) == {
        ("nesso-instruct", "dpo", "ita"),
        ("nesso-agentic", "sft", "ita"),
    }
    pairs = [
        frozenset([(row.model, row.checkpoint), (row.other, row.other_checkpoint)])
        for row in table[table["task"] == "choice_eng"].itertuples()
    ]
    assert len(pairs) == len(set(pairs))
    whole = table[table["metric"] == "acc"]
    assert ((whole["better"] - whole["worse"]) / whole["n"]).tolist() == pytest.approx(
        whole["difference"].tolist()
    )
    assert (table["p_adjusted"] >= table["p_value"]).all()


def course(
    task: str, values: list[float], stderr: float = 0.01, above: bool = True, metric: str = "acc"
) -> list[dict]:
    return [
        {
            "kind": "base",
            "model": "ita",
            "task": task,
            "language": "ita",
            "metric": metric,
            "step": step,
            "value": value,
        }
        | {"stderr": stderr, "above_chance": above, "higher_is_better": metric == "acc", "n": 400}
        for step, value in enumerate(values)
    ]


def test_signal() -> None:
    rows = [
        *course("learns", [0.3, 0.35, 0.37, 0.42]),
        *course("flat", [0.25, 0.26, 0.24, 0.25]),
        *course("falls", [0.4, 0.35, 0.3, 0.28]),
        *course("rises_below_chance", [0.15, 0.18, 0.2, 0.24], above=False),
        *course("bits", [2.5, 2.2, 2.0, 1.9], metric="bits_per_byte"),
        *course("two_points", [0.1, 0.9]),
    ]
    table = signal_table(pd.DataFrame(rows)).set_index("task")
    assert table["signal"].to_dict() == {
        "learns": True,
        "flat": False,
        "falls": False,
        "rises_below_chance": False,
        "bits": True,
    }
    assert table.loc["learns", "monotone"] == 1 and table.loc["falls", "monotone"] == -1
    assert table.loc["learns", "gain_errors"] == pytest.approx(
        0.12 / (0.01 * math.sqrt(2)), abs=0.01
    )


def test_noise_of_equal_scores_is_about_one_standard_error() -> None:
    draw = random.Random(0)
    values = [0.3 + 0.0001 * step + draw.gauss(0, 0.01) for step in range(400)]
    assert signal_table(pd.DataFrame(course("t", values)))["noise_errors"].item() == pytest.approx(
        1, abs=0.1
    )


def test_spearman_has_ties_and_no_variation() -> None:
    assert spearman(np.array([1.0, 2, 3]), np.array([5.0, 5, 5])) == 0
    assert spearman(np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 3, 9])) == pytest.approx(
        0.9487, abs=1e-4
    )


def test_contamination_and_scores_without_it(lineage: Lineage, answers: list[Answers]) -> None:
    items = contaminated_items(lineage)
    table = contamination_table(lineage, items).set_index("source")
    assert table["overlapping"].to_dict() == {
        source: {"ita_bible": 3, "eng_wiki": 1}.get(source, 0) for source in table.index
    }
    assert table.loc["ita_bible", "share"] == pytest.approx(3 / 190, abs=1e-6)
    clean = clean_scores(lineage, items, answers, family(), TASKS)
    overlapping = dict(zip(zip(clean["model"], clean["task"]), clean["overlapping"]))
    assert overlapping["ita", "choice_ita"] == 3 and overlapping["spa", "choice_spa"] == 1
    assert overlapping["nesso-instruct", "choice_ita"] == 3, "what the base model read counts"
    assert not any(model == "smollm2" for model, _ in overlapping), "what it read is not known"
    row = clean[(clean["model"] == "ita") & (clean["task"] == "choice_ita")].iloc[0]
    choice_answers = next(
        answer
        for answer in answers
        if (answer.model, answer.checkpoint, answer.task) == ("ita", "240", "choice_ita")
    )
    kept = [index for index in range(500) if index not in (1, 5, 9)]
    assert row["without"] == choice_answers.numerators[kept].mean() and row[
        "difference"
    ] == pytest.approx(row["without"] - row["value"])

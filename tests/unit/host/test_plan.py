"""What a run needs.

Against nanotron's own count of operations, the published shape, and figures worked out by hand.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zagreus.config.long_form import read_config
from zagreus.plan.estimate import (
    TEXT_BYTES_PER_TOKEN,
    TOKENS_PER_CPU_SECOND,
    Jobs,
    fetch_jobs,
    job_plan,
    source_plan,
    training_plan,
)
from zagreus.plan.targets import Targets
from zagreus.plan.totals import totals
from zagreus.recipe.cost import checkpoint_bytes, flops_per_token, model_bytes, parameters
from zagreus.recipe.read import read_recipe

VECTORS = Path("../shared/vectors/nanotron/lr_vectors.json")
PUBLISHED = read_config("config.yaml")
STEP_TOKENS = 64 * 4 * 4096


def recipe() -> Any:
    return read_recipe("recipes/pretrain/zagreus.yaml")


def test_the_published_shape() -> None:
    config = recipe().model.model_config
    assert parameters(config, 128256) == 437_760_960
    assert model_bytes(recipe(), 128256) == 2 * 437_760_960
    assert checkpoint_bytes(recipe(), 128256) == (2 + 4 + 4 + 4) * 437_760_960, (
        "bf16 weights, fp32 weights, two moments"
    )


@pytest.mark.skipif(not VECTORS.exists(), reason="the reference vectors are not there")
def test_flops_are_nanotrons() -> None:
    expected = json.loads(VECTORS.read_text())["nanotron_get_flops_zagreus_per_token"]
    assert flops_per_token(recipe().model.model_config, 128256, 4096) == expected


def test_nothing_is_there_yet(tmp_path: Path) -> None:
    plan = {entry.name: entry for entry in training_plan(PUBLISHED, tmp_path)}
    ita = plan["ita"]
    assert (ita.steps, ita.tokens, ita.parameters) == (775_000, 775_000 * STEP_TOKENS, 437_760_960)
    # 4.136 GFLOP a token at 35 % of 312 TFLOP/s: 26,400 tokens/s.
    assert ita.rank_hours == pytest.approx(
        775_000 * STEP_TOKENS / (0.35 * 312e12 / 4.13589e9) / 3600, rel=1e-4
    )
    assert ita.disk_bytes == 12 * 16 * 437_760_960 and ita.rolling_bytes == 3 * 14 * 437_760_960
    sources = {entry.name: entry for entry in source_plan(PUBLISHED, tmp_path)}
    assert sources["fineweb"].needed_tokens == pytest.approx(0.4 * 775_000 * STEP_TOKENS), (
        "of the model that sees most of it"
    )
    assert sources["fineweb"].epochs is None and sources["fineweb"].made == 0
    assert sources["fineweb"].cpu_hours == pytest.approx(
        sources["fineweb"].needed_tokens / TOKENS_PER_CPU_SECOND / 3600
    )
    assert sources["fineweb"].shard_bytes == pytest.approx(4 * sources["fineweb"].needed_tokens), (
        "128,256 entries: 4 bytes a token"
    )
    assert sources["fineweb"].text_bytes == pytest.approx(
        TEXT_BYTES_PER_TOKEN * sources["fineweb"].needed_tokens
    )


def written(path: Path, **facts: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts))


def test_what_is_there_and_what_was_measured(tmp_path: Path) -> None:
    folder = tmp_path / "pretrain/ita"
    written(folder / "95000.json", kind="checkpoint")
    lines = [
        {"event": "start", "ranks": 64},
        *({"step": step, "tokens_per_second": 64 * 20_000} for step in range(5)),
    ]
    (folder / "95000.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    plan = {entry.name: entry for entry in training_plan(PUBLISHED, tmp_path)}
    assert plan["ita"].steps == 680_000
    assert plan["ita"].rank_hours == pytest.approx(680_000 * STEP_TOKENS / 20_000 / 3600)
    assert plan["ita"].basis == "measured, 20,000 tokens/s a rank, MFU 27%"
    assert plan["spa"].basis == "measured (ita), 20,000 tokens/s a rank, MFU 27%", (
        "of the same recipe"
    )
    assert plan["spa"].rank_hours == pytest.approx(518_000 * STEP_TOKENS / 20_000 / 3600)
    for task in range(PUBLISHED["sources"]["finepdfs_ita"]["tasks"]):
        written(tmp_path / f"tokens/finepdfs_ita/{task:05d}.json", tokens=10**9)
        written(tmp_path / f"tokens/finepdfs_ita/{task:05d}.run.json", tokens_per_second=20e6)
        written(
            tmp_path / f"sources/finepdfs_ita/{task:05d}.json",
            outputs=[{"bytes": 10**9}, {"bytes": 10**6}],
        )
    written(tmp_path / "tokens/fineweb/00000.json", tokens=2 * 10**9)
    sources = {entry.name: entry for entry in source_plan(PUBLISHED, tmp_path)}
    assert sources["finepdfs_ita"].epochs == pytest.approx(0.1 * 775_000 * STEP_TOKENS / 64e9)
    assert sources["finepdfs_ita"].cpu_hours == 0
    assert (
        sources["finepdfs_ita"].text_bytes
        == PUBLISHED["sources"]["finepdfs_ita"]["tasks"] * 1_001_000_000
    )
    assert sources["fineweb"].epochs is None, "not all of it is tokenized"
    assert sources["fineweb"].cpu_hours == pytest.approx(
        (0.4 * 775_000 * STEP_TOKENS - 2e9) / 20e6 / 3600
    )


def test_other_jobs_take_what_such_jobs_took(tmp_path: Path) -> None:
    for name, seconds in (("a/1", "60"), ("a/2", "180"), ("b/1", "NA")):
        file = tmp_path / f"benchmarks/evaluate/{name}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"s\tmax_rss\n{seconds}\t5\n")
    written(tmp_path / "there.json")
    outputs = {
        "evaluate": [str(tmp_path / "there.json"), "gone/1", "gone/2", "gone/3"],
        "sample": ["gone/4"],
    }
    evaluate, sample = job_plan(PUBLISHED, outputs, tmp_path / "benchmarks")
    assert (evaluate.missing, evaluate.hours, evaluate.ranks) == (
        3,
        pytest.approx(3 * 120 / 3600),
        1,
    )
    assert (sample.missing, sample.hours) == (1, None)
    (posttrain,) = job_plan(PUBLISHED, {"posttrain": ["gone"]}, tmp_path / "benchmarks")
    assert posttrain.ranks == 8, "a whole node"


def test_the_speed_of_a_long_training_is_that_of_its_end(tmp_path: Path) -> None:
    (tmp_path / "pretrain/ita").mkdir(parents=True)
    with open(tmp_path / "pretrain/ita/95000.jsonl", "w") as log:
        log.write(json.dumps({"event": "start", "ranks": 64}) + "\n")
        for step in range(20_000):
            log.write(
                json.dumps(
                    {"step": step, "tokens_per_second": 64 * (10_000 if step < 15_000 else 20_000)}
                )
                + "\n"
            )
        log.write('{"step": 20000, "tokens_per_s')  # it goes on
    plan = {training.name: training for training in training_plan(PUBLISHED, tmp_path)}
    assert plan["ita"].basis == "measured, 20,000 tokens/s a rank, MFU 27%"


def test_chains_and_limits(tmp_path: Path) -> None:
    models = {name: PUBLISHED["models"][name] for name in ("ita", "spa")}
    continued = {**models["spa"]["pretrain"], "from": "ita", "checkpoints": [1000]}
    config = {**PUBLISHED, "models": {**models, "more": {**models["spa"], "pretrain": continued}}}
    plan = training_plan(config, tmp_path)
    hours = {training.name: training.rank_hours or 0.0 for training in plan}
    jobs = [
        Jobs("convert", 2, 1.0),
        Jobs("posttrain", 3, 9.0, ranks=8),
        Jobs("evaluate", 10, 20.0, ranks=1),
        Jobs("sample", 1, None),
    ]
    sources = source_plan(config, tmp_path)
    whole = totals(config, sources, plan, jobs)
    longest = max(source.cpu_hours / source.tasks for source in sources)
    longest = max(longest, sum(source.cpu_hours for source in sources) / (8 * 64))
    assert whole.around == pytest.approx(longest + 0.5 + 2.0), (
        "no model of this configuration is post-trained"
    )
    assert (
        whole.training_hours == pytest.approx(sum(hours.values()))
        and whole.job_hours == 8 * 9.0 + 20.0
    )
    assert whole.cpu_hours == pytest.approx(sum(source.cpu_hours for source in sources) + 1.0)
    assert whole.flops == pytest.approx(sum(training.flops for training in plan))
    assert (
        whole.peak_bytes
        == whole.text_bytes + whole.shard_bytes + whole.checkpoint_bytes + 3 * 3 * 14 * 437_760_960
    )
    assert whole.longest == pytest.approx((hours["ita"] + hours["more"]) / 64)
    assert whole.row == pytest.approx(sum(hours.values()) / 64)
    assert whole.exceeded(config) is None
    prices = {"currency": "EUR", "rank_hour": 2.0, "cpu_hour": 0.0}
    limited = {**config, "plan": {**config["plan"], "prices": prices, "max_cost": 1000}}
    line = whole.exceeded(limited)
    assert line is not None and line.startswith(
        f"plan.max_cost: the run needs {2 * (sum(hours.values()) + 92):,.1f}, the configuration "
        "allows 1,000.0"
    )
    assert (whole.exceeded({**config, "plan": {"max_disk_tb": 0.001}}) or "").startswith(
        "plan.max_disk_tb"
    )


def test_a_target_costs_what_it_alone_needs(tmp_path: Path) -> None:
    """ita: its own four sources and training.

    What fra shares with it (English, code) stands in both; what is there stands in neither.
    """
    sources, trainings = source_plan(PUBLISHED, tmp_path), training_plan(PUBLISHED, tmp_path)
    files = {
        "convert/ita": ["gone/1"],
        "convert/ita/last": ["gone/2"],
        "posttrain/nesso-agentic": ["gone/3"],
        "evaluate/ita": ["gone/4"],
    }
    for rule, seconds in (("convert", 36), ("posttrain", 3600), ("fetch", 360)):
        file = tmp_path / f"benchmarks/{rule}/x.tsv"
        file.parent.mkdir(parents=True)
        file.write_text(f"s\tmax_rss\n{seconds}\t5\n")
    parts = Targets(PUBLISHED, sources, trainings, files, tmp_path / "benchmarks")
    mixture, own = (
        PUBLISHED["models"]["ita"]["pretrain"]["mixture"],
        {entry.name: entry for entry in sources},
    )
    tasks = {name: own[name].tasks for name in mixture}
    ita = {
        "text": tasks,
        "tokens": list(mixture),
        "train": ["ita"],
        "jobs": ["convert/ita", "convert/ita/last", "evaluate/ita"],
    }
    target = parts.target(ita)
    (training,) = [entry for entry in trainings if entry.name == "ita"]
    assert (target.tokens, target.flops, target.training_hours) == (
        training.tokens,
        training.flops,
        training.rank_hours,
    )
    assert target.jobs == 2 * sum(tasks.values()) + 12 + 3 and target.untimed == ["evaluate"]
    assert target.job_hours == pytest.approx(2 * 0.01), "two conversions on a GPU each"
    assert target.cpu_hours == pytest.approx(
        sum(own[name].cpu_hours for name in mixture) + 0.1 * sum(tasks.values())
    )
    assert target.disk_bytes == pytest.approx(
        sum(own[name].text_bytes + own[name].shard_bytes for name in mixture) + training.disk_bytes
    )
    assert target.peak_bytes == pytest.approx(target.disk_bytes + training.rolling_bytes)
    instruct = parts.target({**ita, "jobs": ["convert/ita/last", "posttrain/nesso-agentic"]})
    assert instruct.job_hours == pytest.approx(0.01 + 8 * 1.0) and instruct.around == pytest.approx(
        target.around + 1.0
    )
    # A tenth of the text of one source, and nothing of it tokenized.
    part = parts.target({"text": {"fineweb": 16}, "tokens": [], "train": [], "jobs": []})
    assert (
        part.text_bytes == pytest.approx(own["fineweb"].text_bytes / 16)
        and part.shard_bytes == part.made_tokens == 0
    )
    assert part.jobs == 16 and part.cpu_hours == pytest.approx(1.6) and part.rank_hours == 0


def test_stages_are_the_parts_of_the_whole(tmp_path: Path) -> None:
    sources, trainings = source_plan(PUBLISHED, tmp_path), training_plan(PUBLISHED, tmp_path)
    files = {"convert/ita": ["gone/1"], "evaluate/ita": ["gone/4"], "evaluate/fra": ["gone/5"]}
    stages = Targets(PUBLISHED, sources, trainings, files, tmp_path).stages()
    jobs = [fetch_jobs(sources, tmp_path), *job_plan(PUBLISHED, files, tmp_path)]
    whole = totals(PUBLISHED, sources, trainings, jobs)
    assert list(stages) == ["fetch", "tokenize", "pretrain", "convert", "evaluate"]
    for figure in (
        "jobs",
        "made_tokens",
        "tokens",
        "flops",
        "training_hours",
        "cpu_hours",
        "text_bytes",
        "shard_bytes",
        "checkpoint_bytes",
    ):
        assert sum(getattr(stage, figure) for stage in stages.values()) == pytest.approx(
            getattr(whole, figure)
        ), figure


def test_the_script_prints_the_plan(tmp_path: Path) -> None:
    needs = {
        "ita": {
            "text": {"starcoder": 128},
            "tokens": ["starcoder"],
            "train": ["ita"],
            "jobs": ["evaluate/ita"],
        }
    }
    request = tmp_path / "plan.json"
    request.write_text(
        json.dumps({"config": PUBLISHED, "files": {"evaluate/ita": ["x"]}, "targets": needs})
    )
    command = [sys.executable, "-P", "scripts/plan.py", "--request", request]
    done = subprocess.run(
        [*command, "--results", tmp_path, "--benchmarks", tmp_path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "assumed, MFU 35%" in done.stdout and "437M" not in done.stderr
    assert "no such job was timed yet: fetch, evaluate" in done.stdout
    rows = {
        line.split()[0]: line.split()
        for line in done.stdout.split("By target")[1].splitlines()
        if line.strip()
    }
    assert rows["ita"][1:8] == ["269", "163", "G", "813", "G", "3.36e+21", "8,550"], (
        "128 tasks fetched and tokenized, 12 segments, a suite"
    )
    assert done.stderr == ""

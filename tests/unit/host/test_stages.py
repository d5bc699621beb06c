"""Post-training stages, checked before any job.

Of every shipped configuration, and where they cannot run.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.shipped import CONFIGS
from zagreus.config.stages import processes, rows_of, stage_problems, stages
from zagreus.posttraining.recipe_file import load_recipe

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def made(folder: Path, config: dict[str, Any], name: str, rows: int) -> None:
    """Write the manifest of a chat data set, as `fetch_chat` does."""
    (folder / "chat").mkdir(exist_ok=True)
    (folder / "chat" / f"{name}.json").write_text(
        json.dumps({"entry": config["chat"][name], "rows": rows})
    )


@pytest.mark.parametrize("path", map(ROOT.joinpath, CONFIGS), ids=lambda path: path.stem)
def test_every_shipped_stage_can_run(path: Path, tmp_path: Path) -> None:
    """The rows of data sets from packages are counted in tests/unit/data/test_chat_readers.py."""
    config = read(path)
    posttrained = [model for model in config["models"].values() if "posttrain" in model]
    assert len(list(stages(config))) == sum(len(model["posttrain"]) for model in posttrained)
    assert posttrained or path.stem == "ladder"
    assert not list(stage_problems(config, tmp_path))
    if "agentic" in config["chat"] and path.stem in ("config", "small"):
        made(tmp_path, config, "agentic", 5673)
        assert not list(stage_problems(config, tmp_path))


@pytest.mark.parametrize(
    ("change", "rows", "words"),
    [
        (
            {},
            10000,
            "open_zagreus_sft.yaml: chat.instruct: val_set_size 10000 sets 10,000 of 10,000 rows "
            "apart and leaves none",
        ),
        ({}, 10001, None),
        ({"limit": 500}, None, "chat.instruct: val_set_size 10000 sets 10,000 of 500 rows apart"),
        (
            {"batch_ranks": 1, "ranks_per_node": 16},
            None,
            "16 processes cannot share 8 micro batches",
        ),
        ({"posttrain_nodes": 3}, None, "24 processes cannot share 64 micro batches"),
        (
            {"attention": "xformers"},
            None,
            "needs the package xformers, which the image does not have",
        ),
        ({"attention": "flash_attention_3"}, None, None),
    ],
)
def test_a_stage_that_cannot_run_is_named(
    change: dict[str, Any], rows: int | None, words: str | None, tmp_path: Path
) -> None:
    config = copy.deepcopy(read(ROOT / "config.yaml"))
    stage = config["models"]["nesso-instruct"]["posttrain"][0]
    if "limit" in change:
        config["chat"]["instruct"]["limit"] = change["limit"]
    if "batch_ranks" in change:
        stage["batch_ranks"] = change["batch_ranks"]
    if "attention" in change:
        recipe = {
            key: value
            for key, value in load_recipe(stage["recipe"]).items()
            if key != "flash_attention"
        }
        stage["recipe"] = str(tmp_path / "open_zagreus_sft.yaml")
        Path(stage["recipe"]).write_text(
            yaml.safe_dump({**recipe, "attn_implementation": change["attention"]})
        )
    config["cluster"] |= {
        key: value
        for key, value in change.items()
        if key in config["cluster"] or key == "posttrain_nodes"
    }
    if rows is not None:
        made(tmp_path, config, "instruct", rows)
    problems = list(stage_problems(config, tmp_path))
    if words is None:
        assert not problems
        return
    assert re.match(r"^models\.[a-z-]+\.posttrain\.0: .*" + re.escape(words), problems[0])


def test_rows_are_known_where_they_can_be(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": "1"}\n\n{"id": "2"}\n')
    local = {"kind": "local", "path": str(tmp_path / "rows.jsonl")}
    config = {
        "chat": {
            "a": local,
            "b": {**local, "limit": 1},
            "c": {"kind": "package"},
            "d": {"kind": "package", "limit": 9},
        }
    }
    assert [rows_of(config, name, tmp_path) for name in "abcd"] == [2, 1, None, 9]
    made(tmp_path, config, "c", 5)
    assert rows_of(config, "c", tmp_path) == 5
    config["chat"]["c"]["heldout"] = 0.5  # another entry: the manifest is of before
    assert rows_of(config, "c", tmp_path) is None


def test_without_gpus_one_process_trains() -> None:
    cluster = {"nodes": 8, "ranks_per_node": 8}
    assert processes({"torch": "cpu", "cluster": cluster}) == 1
    assert processes({"torch": "cuda", "cluster": {**cluster, "posttrain_nodes": 2}}) == 16

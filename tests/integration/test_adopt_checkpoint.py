"""A checkpoint that nanotron itself made, adopted by the workflow in its images, and trained on
from there.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import CONFIG, ROOT

FOLDER = Path("results/test-nanotron")
VECTORS = ROOT.parent / "shared" / "vectors" / "nanotron"
ADOPTED, LAST = 10, 20


def zagreus(*arguments: str) -> str:
    """Run the workflow on the configuration below, and return what it printed."""
    command = [ROOT / "bin/zagreus", *arguments, "--configfile", FOLDER / "config.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def adopted() -> Path:
    """A model with the recipe of nanotron's run, whose first checkpoint is nanotron's.

    Its folder.
    """
    if not VECTORS.exists():
        pytest.skip(f"no checkpoint of nanotron's in {VECTORS}")
    shutil.rmtree(ROOT / FOLDER, ignore_errors=True)
    (ROOT / FOLDER).mkdir(parents=True)
    recipe = yaml.safe_load((VECTORS / "r1.yaml").read_text())
    for stage in recipe["data_stages"]:
        stage["data"]["dataset"] = {"dataset_folder": [], "dataset_weights": []}
    recipe["parallelism"] |= {"dp": 1, "tp": 1}
    recipe["tokens"]["batch_accumulation_per_replica"] = 2
    recipe["model"]["model_config"] |= {"bos_token_id": -1, "eos_token_id": -1}
    (ROOT / FOLDER / "recipe.yaml").write_text(yaml.safe_dump(recipe))

    config: dict[str, Any] = yaml.safe_load((ROOT / CONFIG).read_text())
    config["pathvars"] |= {
        "results": str(FOLDER),
        "logs": f"{FOLDER}/logs",
        "benchmarks": f"{FOLDER}/benchmarks",
    }
    config["cluster"] = {"nodes": 1, "ranks_per_node": 1}
    config["tokenizer"] = {"kind": "train", "vocab_size": 512, "sources": ["ita_bible"]}
    pretrain = {
        "recipe": f"{FOLDER}/recipe.yaml",
        "mixture": {"ita_bible": 1.0},
        "checkpoints": [ADOPTED, LAST],
    }
    config["models"] = {"ita": config["models"]["ita"] | {"pretrain": pretrain}}
    config["adopt"] = {
        f"pretrain/ita/{ADOPTED}": {
            "folder": f"{FOLDER}/theirs",
            "origin": "nanotron's reference run",
        }
    }
    config.pop("exports", None)  # of models that are not made here
    (ROOT / FOLDER / "config.yaml").write_text(yaml.safe_dump(config))
    checkpoint = ROOT / FOLDER / "theirs" / str(ADOPTED)
    shutil.copytree(VECTORS / "r1_ckpt" / str(ADOPTED), checkpoint)

    zagreus(f"{FOLDER}/tokenizer/manifest.json")
    tokenizer = json.loads((ROOT / FOLDER / "tokenizer/manifest.json").read_text())
    added = json.loads((ROOT / FOLDER / "tokenizer/tokenizer.json").read_text())["added_tokens"]
    ids = {token["content"]: token["id"] for token in added}
    # nanotron's run had a tokenizer of its own: its ids of the begin and the end of a document are
    # the one thing that is changed.
    made = yaml.safe_load((checkpoint / "config.yaml").read_text())
    made["model"]["model_config"] |= {
        "bos_token_id": ids[tokenizer["bos_token"]],
        "eos_token_id": ids[tokenizer["eos_token"]],
    }
    (checkpoint / "config.yaml").write_text(yaml.safe_dump(made))
    zagreus("adopt")
    return ROOT / FOLDER


def test_the_checkpoint_is_in_its_place_in_the_image(adopted: Path) -> None:
    manifest = json.loads((adopted / f"pretrain/ita/{ADOPTED}.json").read_text())
    assert manifest["kind"] == "checkpoint" and manifest["adopted"] == "nanotron's reference run"
    assert manifest["software"].startswith("train-"), "the rule ran in its image"
    assert any(item["path"].startswith("optimizer/") for item in manifest["origin"])
    assert all(
        (ROOT / item["path"]).stat().st_size == item["bytes"] for item in manifest["outputs"]
    )


def test_only_the_next_segment_is_trained(adopted: Path) -> None:
    out = zagreus("-n", "ita")
    jobs = re.findall(r"^rule (\S+):\n(?:    .*\n)*?    wildcards: (.*)$", out, re.MULTILINE)
    trained = {wildcards for rule, wildcards in jobs if rule in ("pretrain", "render_recipe")}
    assert trained == {f"model=ita, step={LAST}"}
    assert {"tokenizer", "adopt_checkpoint", "adopt"}.isdisjoint(
        re.findall(r"^rule (\S+):", out, re.MULTILINE)
    )
    zagreus(f"{FOLDER}/pretrain/ita/{LAST}.json")
    lines = [
        json.loads(line)
        for line in (adopted / f"pretrain/ita/{LAST}.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in lines if "loss" in line] == list(range(ADOPTED + 1, LAST + 1))
    assert "Nothing to be done" in zagreus("adopt")

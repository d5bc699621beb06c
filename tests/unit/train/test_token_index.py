"""The manifest that stands for all of a source's token shards.

A training sees through it to each of them.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from small import Training

from zagreus.errors import InputError
from zagreus.manifest import read_manifest
from zagreus.recipe.read import read_recipe
from zagreus.training.segment import plan_segment, shard_manifests


def index(folder: Path, tasks: int) -> subprocess.CompletedProcess[str]:
    told = [
        "--source",
        folder.name,
        "--language",
        "ita",
        "--tasks",
        str(tasks),
        "--folder",
        str(folder),
    ]
    command = [
        sys.executable,
        "-P",
        "scripts/index_tokens.py",
        *told,
        str(folder.with_suffix(".json")),
    ]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def training(tmp_path: Path) -> Training:
    made = Training(tmp_path)
    for manifest in made.tokens:  # those of the workflow count documents too
        manifest.write_text(
            manifest.read_text().replace('"tokens":', '"documents": 7,\n  "tokens":', 1)
        )
    return made


def test_an_index_stands_for_its_shards(training: Training) -> None:
    folders = [training.root / "tokens" / name for name in "ab"]
    assert [index(folder, tasks).returncode for folder, tasks in zip(folders, (2, 1))] == [0, 0]
    indexes = [folder.with_suffix(".json") for folder in folders]
    manifest = read_manifest(indexes[0], "token_index")
    assert (manifest["tokens"], manifest["documents"], len(manifest["inputs"])) == (9000, 14, 2)
    assert shard_manifests(indexes) == training.tokens
    recipe = read_recipe(training.recipe)
    plan_segment(recipe, 20, None, indexes, 1)
    shard = folders[1] / "00000_unshuffled.ds"
    shard.rename(folders[1] / "00009_unshuffled.ds")
    for suffix in (".index", ".metadata"):
        Path(f"{shard}{suffix}").rename(folders[1] / f"00009_unshuffled.ds{suffix}")
    with pytest.raises(InputError, match="a token shard that no manifest names"):
        plan_segment(recipe, 20, None, indexes, 1)


def test_a_shard_that_is_not_there(training: Training) -> None:
    done = index(training.root / "tokens" / "a", 3)
    assert done.returncode == 2 and "00002.json: no such manifest" in done.stderr
    assert not (training.root / "tokens" / "a.json").exists()

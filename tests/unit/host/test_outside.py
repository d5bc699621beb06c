"""What lies outside the repository is given to the images, once each."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from zagreus.config import outside
from zagreus.config.long_form import read_config
from zagreus.config.outside import outside_paths
from zagreus.errors import InputError

ROOT = Path(__file__).parents[3]
DEMO = read_config(ROOT / "config/demo.yaml")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The demo's configuration in a repository of its own; /tmp is a disk like any other here."""
    monkeypatch.setattr(outside, "SEEN", Path("/nowhere"))
    (tmp_path / "repository").mkdir()
    monkeypatch.chdir(tmp_path / "repository")
    return copy.deepcopy(DEMO)


def test_a_repository_that_has_everything_needs_nothing(config: dict[str, Any]) -> None:
    assert outside_paths(config, ["config.yaml"]) == []


def test_folders_links_recipes_and_the_configuration(
    config: dict[str, Any], tmp_path: Path
) -> None:
    for name in ("disk", "text", "chat", "recipes/mine"):
        (tmp_path / name).mkdir(parents=True)
    Path("results").symlink_to(tmp_path / "disk")
    config["sources"]["eng_wiki"] |= {"kind": "local", "folder": str(tmp_path / "text/wiki")}
    config["chat"]["open"] = {"kind": "local", "path": str(tmp_path / "chat/rows.jsonl")}
    config["models"]["ita"]["pretrain"]["recipe"] = str(tmp_path / "recipes/mine/ita.yaml")
    config["models"]["nesso-instruct"]["posttrain"][0]["recipe"] = str(
        tmp_path / "recipes/sft.yaml"
    )
    config["models"]["fra"]["pretrain"]["from"] = {"folder": str(tmp_path / "text")}
    paths = outside_paths(config, [tmp_path / "my configuration.yaml"])
    assert paths == [
        str(tmp_path / name)
        for name in ("chat", "disk/demo", "my configuration.yaml", "recipes", "text")
    ]


def test_a_path_that_bind_reads_as_something_else(config: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has a ':' or a ',' in its path"):
        outside_paths(config, [tmp_path / "a,b.yaml"])


def test_the_root_is_given_to_no_image(config: dict[str, Any]) -> None:
    config["models"]["ita"]["pretrain"]["recipe"] = "/ita.yaml"
    assert outside_paths(config, []) == ["/ita.yaml"]

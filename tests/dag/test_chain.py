"""tests/integration/chain.yaml, which the slow test trains: the jobs of the whole chain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from zagreus.config.long_form import read_config
from zagreus.workflow.workflow import Workflow

CONFIG = "tests/integration/chain.yaml"


@pytest.fixture
def text(checkout: Path) -> Path:
    """The folder of the text that the test makes first; a dry-run asks for its names alone."""
    folder = checkout / "results/chain_text"
    for language in ("eng", "ita"):
        (folder / language).mkdir(parents=True)
        (folder / language / "00000.parquet").touch()
    (folder / "talk.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], '
        '"language": "ita", "score": 1.0}\n'
    )
    return folder


def test_the_whole_chain_is_planned(text: Path, dry_run: Callable[..., dict[str, int]]) -> None:
    jobs = dry_run(CONFIG, "all")
    assert (jobs["pretrain"], jobs["posttrain"]) == (3, 1)
    assert jobs["clean"] == 2 and jobs["report"] == 1
    assert jobs["near_duplicates"] == 2


def test_needles_are_made_of_text_and_tokenizer_and_not_searched_for() -> None:
    reader = Workflow.read(read_config(CONFIG) | {"software": "venv"}, [])
    inputs = reader.evaluation.data_inputs(SimpleNamespace(dataset="needle_ita"))
    assert inputs == ["<results>/sources/ita_bible/00000.json", "<results>/tokenizer/manifest.json"]
    searched = reader.contamination.searched("ita_bible")
    assert "positions_ita" in searched["ita"] and "needle_ita" not in searched["ita"]
    assert {Path(path).parts[1] for path in reader.contamination.near_results()} == {
        "near_duplicates"
    }

"""A full disk under `posttrain`.

One line, no model, and a later run goes on or begins again in the same working folder.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny import finish, make_base, make_recipe, make_rows, start

from tests.unit.forked import Done
from tests.unit.full_disk import check, small_disk

SHORT = {
    "sequence_len": 64,
    "micro_batch_size": 1,
    "num_epochs": 1,
    "val_set_size": 0,
    "eval_strategy": "no",
}
SHORT |= {"save_strategy": "steps", "save_steps": 5}


@pytest.mark.slow  # half a minute for each start of Axolotl
def test_posttrain(tmp_path: Path) -> None:
    base, rows = make_base(tmp_path / "base"), make_rows(tmp_path / "chat/sft.json", "sft", 24)
    recipe = make_recipe(tmp_path / "sft.yaml", "recipes/posttrain/test_sft.yaml", **SHORT)
    with small_disk(tmp_path / "disk", 32) as disk:

        def script() -> Done:
            status, written = finish(start(disk, "sft", recipe, base, rows))
            # Both streams are one pipe: the traceback is in a file of its own.
            return Done(status, "", written)

        check(disk, script, rooms=(0, 65536, 400_000), working=["work"])
        assert sorted(os.listdir(disk / "work/sft")) == ["axolotl.yaml", "log.jsonl"]

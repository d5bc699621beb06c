"""The published SFT recipe on one process and without FlashAttention.

Its sizes alone are smaller.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import finish, make_base, make_recipe, make_rows, start

SMALLER = {
    "sequence_len": 64,
    "num_epochs": 1,
    "gradient_accumulation_steps": 2,
    "save_steps": 5,
    "eval_steps": 5,
    "val_set_size": 8,
    "dataset_num_proc": 1,
    "dataloader_num_workers": 0,
    "dataloader_pin_memory": False,
}


def test_it_trains_and_keeps_packed_rows_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the probe of packing_probe.py among Axolotl's plugins."""
    probe = tmp_path / "probe.json"
    monkeypatch.setenv("ZAGREUS_PROBE", str(probe))
    changes = SMALLER | {"plugins": ["tests.unit.posttrain.packing_probe.PackingProbe"]}
    recipe = make_recipe(
        tmp_path / "sft.yaml", "recipes/posttrain/open_zagreus_sft.yaml", **changes
    )
    base = make_base(tmp_path / "base")
    rows = make_rows(tmp_path / "chat" / "sft.json", "sft", 72)
    status, written = finish(start(tmp_path, "sft", recipe, base, rows))
    assert status == 0, written[-3000:]
    notes = [line for line in written.splitlines() if line.startswith("note: ")]
    assert (
        len([line for line in notes if "attention: sdpa; published: flash_attention" in line]) == 1
    )
    assert len([line for line in notes if "fsdp_config: left out" in line]) == 1
    seen = json.loads(probe.read_text())
    assert seen["attention"] == "sdpa" and seen["rows"] > 1
    changed, other = seen["packed"]
    assert changed > 0.01 and other < 1e-6, seen
    assert seen["mixed"][1] > 0.001, seen  # the measurement would have shown it


def test_more_validation_rows_than_rows(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path / "sft.yaml", "recipes/posttrain/open_zagreus_sft.yaml")
    base, rows = make_base(tmp_path / "base"), make_rows(tmp_path / "chat" / "sft.json", "sft", 72)
    status, written = finish(start(tmp_path, "sft", recipe, base, rows))
    assert status == 2 and "val_set_size 10000 sets 10,000 of 72 rows apart" in written
    assert not (tmp_path / "work").exists() and "Traceback" not in written

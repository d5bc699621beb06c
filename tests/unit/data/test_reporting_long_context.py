"""Loss by position as a figure, needles as tables."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pandas as pd

from zagreus.reporting import style
from zagreus.reporting.long_context import needle_tables, position_figure

MODELS = ("base", "long")


def scores() -> pd.DataFrame:
    rows = []
    for shift, model in enumerate(MODELS):
        for checkpoint, late in (("10", 1.0), ("20", 0.0)):
            for first, last in ((1, 64), (65, 128), (129, 256)):
                value = 5 - first / 100 - shift + late
                rows.append((model, checkpoint, "positions_ita", f"loss_{first}_{last}", value))
            rows.append((model, checkpoint, "heldout_ita", "bits_per_byte", 2.0))
            for length in (128, 512):
                for depth in (0, 100):
                    if (length, depth) != (512, 0):
                        metric = f"acc_length_{length}_depth_{depth}"
                        rows.append((model, checkpoint, "needle_ita", metric, depth / 200 + late))
    frame = pd.DataFrame(rows, columns=["model", "checkpoint", "task", "metric", "value"])
    return frame.assign(language="ita", stderr=0.1, n=8, chance=0.25)


def test_a_line_for_each_model_at_its_last_checkpoint(tmp_path: Path) -> None:
    with matplotlib.rc_context(style.RC):
        (drawn,) = position_figure(scores(), style.colours(MODELS), tmp_path)
    assert (drawn.file, drawn.section) == ("loss_positions_ita.svg", "heldout")
    assert drawn.title == "Loss by position, Italian" and "The same 8 held-out" in drawn.caption
    data = pd.read_csv(tmp_path / "loss_positions_ita.csv")
    assert data["model"].tolist() == ["base"] * 3 + ["long"] * 3
    assert set(data["checkpoint"]) == {20}
    assert data["last_position"].tolist() == [64, 128, 256] * 2
    assert data["value"].tolist() == [4.99, 4.35, 3.71, 3.99, 3.35, 2.71]
    assert "NaN" not in (tmp_path / "loss_positions_ita.svg").read_text()


def test_needles_by_length_and_depth() -> None:
    tables = needle_tables(scores())
    assert [table["model"] for table in tables] == list(MODELS)
    table = tables[1]
    assert (table["task"], table["checkpoint"], table["chance"]) == ("needle_ita", "20", "0.25")
    assert table["depths"] == [0, 100]
    length_128, length_512 = table["rows"]
    assert length_128 == (
        128,
        [("0.00", "acc_length_128_depth_0"), ("0.50", "acc_length_128_depth_100")],
    )
    assert length_512 == (512, [None, ("0.50", "acc_length_512_depth_100")])


def test_a_run_without_them_has_neither(tmp_path: Path) -> None:
    rows = scores()
    rows = rows[rows["metric"] == "bits_per_byte"]
    assert position_figure(rows, style.colours(MODELS), tmp_path) == []
    assert needle_tables(rows) == []

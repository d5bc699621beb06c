"""Loss by position against transformers' own logits, within and beyond the model's context."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from small import TEXT, make_data, make_model

from zagreus.errors import InputError
from zagreus.evaluation.harness import TurnModel, load, read_suite, score
from zagreus.evaluation.positions import LAST, position_ranges
from zagreus.evaluation.rows import item_rows
from zagreus.evaluation.scores import task_scores

TASK = {
    "name": "positions",
    "language": "eng",
    "recipe": "recipes/evaluate/positions.yaml",
    "data": "positions",
    "num_fewshot": 0,
}
CONTEXT = 64


def documents(folder: Path, lengths: list[int]) -> list[str]:
    """Write documents of so many characters."""
    texts = [TEXT[100 * number : 100 * number + length] for number, length in enumerate(lengths)]
    rows = [
        {"id": str(number), "text": text, "bytes": len(text.encode()), "unigram_bits": 1.0}
        for number, text in enumerate(texts)
    ]
    make_data(folder, "positions", rows)
    return texts


def by_hand(folder: Path, texts: list[str]) -> dict[str, list[float]]:
    """Return the loss of each document by range, from the logits of the whole document."""
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encoded = [tokenizer(text)["input_ids"] for text in texts]
    ranges = position_ranges(min(map(len, encoded)) - 1)
    losses: dict[str, list[float]] = {f"loss_{first}_{last}": [] for first, last in ranges}
    for ids in encoded:
        with torch.no_grad():
            logits = network(torch.tensor([ids])).logits[0].log_softmax(-1)
        for first, last in ranges:
            chosen = [-float(logits[index - 1, ids[index]]) for index in range(first, last + 1)]
            losses[f"loss_{first}_{last}"].append(sum(chosen) / len(chosen))
    return losses


def loaded(folder: Path) -> TurnModel:
    return load(folder, transformers.AutoTokenizer.from_pretrained(folder), 4)


def test_ranges_double_and_end_where_the_text_does() -> None:
    assert position_ranges(63) == []
    assert position_ranges(511) == [(1, 64), (65, 128), (129, 256)]
    assert position_ranges(10**6)[-1] == (LAST // 2 + 1, LAST)


@pytest.mark.parametrize("scorer", ["shared prefix", "harness"])
def test_as_transformers_has_it(
    scorer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = documents(tmp_path, [900, 700, 1200])
    folder = make_model(tmp_path / "model", context=CONTEXT).parent
    model = loaded(folder)
    if scorer == "harness":
        monkeypatch.setattr(model, "reason", "the reference")
    ((task, results),) = score(model, read_suite([TASK], tmp_path))
    expected = by_hand(folder, texts)
    assert len(expected) >= 3
    scores = {entry["metric"]: entry for entry in task_scores(results, "positions", task.recipe)}
    assert list(scores) == list(reversed(expected)), "the most distant range comes first"
    for metric, losses in expected.items():
        entry = scores[metric]
        assert entry["value"] == pytest.approx(sum(losses) / len(losses), abs=1e-4)
        assert entry["n"] == 3 and not entry["higher_is_better"] and entry["stderr"] > 0
        assert entry["chance"] is None and entry["majority_baseline"] is None
    rows = item_rows(results["samples"]["positions"], "positions", "loglikelihood_rolling")
    for number, row in enumerate(rows):
        assert row["values"].keys() == expected.keys()
        assert row["values"]["loss_1_64"] == [
            pytest.approx(expected["loss_1_64"][number], abs=1e-4),
            1,
        ]
    assert model.max_length == CONTEXT, "the next task has the model's own context"


def test_other_tasks_after_it_are_scored_as_before(tmp_path: Path) -> None:
    documents(tmp_path, [900, 700])
    heldout = {**TASK, "name": "heldout", "recipe": "recipes/evaluate/heldout.yaml"}
    folder = make_model(tmp_path / "model", context=CONTEXT).parent
    alone = [results for _, results in score(loaded(folder), read_suite([heldout], tmp_path))]
    both = [results for _, results in score(loaded(folder), read_suite([TASK, heldout], tmp_path))]
    assert both[1]["results"]["heldout"] == alone[0]["results"]["heldout"]


def test_documents_that_are_too_short_are_refused(tmp_path: Path) -> None:
    documents(tmp_path, [900, 40])
    folder = make_model(tmp_path / "model", context=CONTEXT).parent
    with pytest.raises(InputError, match=r"expected at least 64 in each \('min_bytes'"):
        list(score(loaded(folder), read_suite([TASK], tmp_path)))

"""Which documents a task takes, and what is written."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zagreus.data import split
from zagreus.data.heldout import held_apart
from zagreus.data.split import Document, select, write_split

TEXTS = [(f"key{number}", f"text {number}") for number in range(3000)]


@given(st.integers(1, 40), st.integers(1, 100) | st.none())
def test_tasks_are_a_partition(tasks: int, limit: int | None) -> None:
    texts = TEXTS[:60]
    whole, _ = select(texts, "s", 0, 1, limit)
    parts = [select(texts, "s", task, tasks, limit)[0] for task in range(tasks)]
    assert sorted(document for part in parts for document in part) == sorted(whole)
    assert len(whole) == min(limit or 60, 60)


def test_order_does_not_depend_on_the_reading_order_and_is_mixed() -> None:
    documents, _ = select(TEXTS, "s", 0, 1, None)
    assert documents == select(TEXTS[::-1], "s", 0, 1, None)[0]
    assert [document.key for document in documents] != [key for key, _ in TEXTS]


def test_a_limit_does_not_prefer_the_documents_held_apart() -> None:
    documents, _ = select(TEXTS, "s", 0, 1, 300)
    assert 10 < sum(held_apart(document.key, 0.1) for document in documents) < 60


def test_blank_and_repeated_texts_are_dropped() -> None:
    documents, dropped = select([("a", "x"), ("b", " \n"), ("c", "x"), ("d", "")], "s", 0, 1, None)
    assert documents == [Document("a", "s:a", "x")]
    assert dropped == {"blank": 2, "repeated": 1}


def test_written_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "ROW_GROUP_ROWS", 100)
    documents, _ = select([(key, text + " è 🙂\n") for key, text in TEXTS], "s", 0, 1, None)
    counts = write_split(documents, tmp_path / "t.parquet", tmp_path / "h.parquet", 0.05)
    train, apart = pq.read_table(tmp_path / "t.parquet"), pq.read_table(tmp_path / "h.parquet")
    assert train.schema == apart.schema == split.SCHEMA
    expected = [
        (document.id, document.text) for document in documents if not held_apart(document.key, 0.05)
    ]
    assert list(zip(train["id"].to_pylist(), train["text"].to_pylist(), strict=True)) == expected
    assert counts.documents == len(expected) == train.num_rows
    assert counts.heldout_documents == apart.num_rows == 3000 - counts.documents > 0
    assert counts.text_bytes == sum(len(text.encode()) for _, text in expected)
    assert pq.ParquetFile(tmp_path / "t.parquet").num_row_groups == -(-counts.documents // 100)


def test_same_documents_give_same_bytes(tmp_path: Path) -> None:
    documents, _ = select(TEXTS, "s", 0, 1, None)
    for name in ("first", "second"):
        write_split(
            iter(documents),
            tmp_path / f"{name}.parquet",
            tmp_path / f"{name}.heldout.parquet",
            0.05,
        )
    assert (tmp_path / "first.parquet").read_bytes() == (tmp_path / "second.parquet").read_bytes()


def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    def failing() -> Iterator[Document]:
        yield Document("a", "s:a", "text")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_split(failing(), tmp_path / "t.parquet", tmp_path / "h.parquet", 0.5)
    assert list(tmp_path.iterdir()) == []

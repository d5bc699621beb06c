"""Chat rows: what is valid, what is held out, and rows from files of others."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zagreus.data.chat.files import read_files
from zagreus.data.chat.rows import alternate, check_row, divide, write_rows
from zagreus.errors import InputError
from zagreus.losses import Losses

GOOD = {"id": "a/0", "conversation": alternate(["Ciao", "Ciao a te"], system="Sii breve.")}
PAIR = {
    "id": "a/0",
    "messages": alternate(["Ciao"]),
    "chosen": {"role": "assistant", "content": "Ciao a te"},
    "rejected": {"role": "assistant", "content": "Il gatto dorme"},
}


def test_valid_rows_pass():
    check_row(GOOD, "test")
    check_row(PAIR, "test")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({**GOOD, "id": 3}, "without a string 'id'"),
        ({"id": "a/0"}, "keys \\['id'\\]"),
        ({**GOOD, "source": "x"}, "keys"),
        ({"id": "a/0", "conversation": []}, "list of messages"),
        ({"id": "a/0", "conversation": alternate(["Ciao"])}, "ending with 'assistant'"),
        ({"id": "a/0", "conversation": alternate(["Ciao", " "])}, "empty message"),
        ({"id": "a/0", "conversation": [{"role": "tool", "content": "x"}]}, "no call asked for"),
        ({"id": "a/0", "conversation": [{"role": "user", "content": "x"}] * 2}, "in turn"),
        ({"id": "a/0", "conversation": [{"role": "system", "content": "x"}]}, "in turn"),
        ({**PAIR, "rejected": PAIR["chosen"]}, "the same text"),
        ({**PAIR, "chosen": {"role": "user", "content": "x"}}, "expected 'assistant'"),
        ({**PAIR, "messages": GOOD["conversation"]}, "ending with 'user'"),
    ],
)
def test_invalid_rows_are_named(row, words):
    with pytest.raises(InputError, match=words) as raised:
        check_row(row, "test")
    assert "\n" not in str(raised.value)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.text("abc", min_size=1, max_size=4)), max_size=60),
    st.floats(0, 1),
)
def test_dividing_keeps_a_key_together_and_repeats_nothing(drawn, share):
    rows = [
        {"id": f"{key}/{index}", "conversation": alternate(["x", text])}
        for index, (key, text) in enumerate(drawn)
    ]
    training, apart = divide(rows, share)
    keys = [{row["id"].split("/")[0] for row in side} for side in (training, apart)]
    assert not keys[0] & keys[1]
    texts = [row["conversation"][1]["content"] for row in training + apart]
    assert sorted(texts) == sorted({text for _, text in drawn})
    assert (training, apart) == divide(list(reversed(rows)), share) or len(set(texts)) < len(rows)


def test_limit_keeps_the_first_and_leaves_what_is_held_apart_alone():
    rows = [
        {"id": f"{number}/0", "conversation": alternate(["x", str(number)])}
        for number in range(200)
    ]
    whole, apart = divide(rows, 0.2)
    assert divide(rows, 0.2, limit=10) == (whole[:10], apart)
    assert 20 < len(apart) < 60


def test_parquet_of_others_with_other_names(tmp_path: Path):
    file = tmp_path / "part.parquet"
    conversations = [
        [{"from": "human", "value": "Ciao"}, {"from": "gpt", "value": "Ciao a te"}],
        [{"from": "human", "value": "Ciao"}, {"from": "human", "value": "Ci sei?"}],
    ]
    pyarrow.parquet.write_table(pyarrow.table({"turns": conversations, "other": [1, 2]}), file)
    losses = Losses()
    (row,) = read_files([file], {"messages": "turns"}, losses)
    assert row["conversation"] == alternate(["Ciao", "Ciao a te"])
    assert losses.by_reason() == {"roles not in turn": 1} and "row 1" in str(losses.first)
    with pytest.raises(InputError, match="no column 'conversation', it has turns, other"):
        list(read_files([file], {"messages": "conversation"}, Losses()))


def test_truncated_parquet(tmp_path: Path):
    file = tmp_path / "part.parquet"
    pyarrow.parquet.write_table(
        pyarrow.table({"conversation": [[{"role": "user", "content": "x"}]]}), file
    )
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InputError, match="not a whole parquet file"):
        list(read_files([file], {"messages": "conversation"}, Losses()))


def test_our_own_rows_come_back(tmp_path: Path):
    file = tmp_path / "rows.jsonl"
    write_rows(file, [GOOD, {**GOOD, "id": "b/0"}])
    assert list(read_files([file], None, Losses())) == [GOOD, {**GOOD, "id": "b/0"}]
    file.write_text(json.dumps(GOOD) + '\n{"id": "c/0",\n', encoding="utf-8")
    with pytest.raises(InputError, match="line 2, column 15: found the end"):
        list(read_files([file], None, Losses()))
    with pytest.raises(InputError, match="no such file"):
        list(read_files([tmp_path / "absent.jsonl"], None, Losses()))


def test_preferences_of_others(tmp_path: Path):
    file = tmp_path / "pairs.jsonl"
    whole = alternate(["Ciao", "Ciao a te"])
    file.write_text(
        json.dumps({"prompt": whole[:1], "yes": whole, "no": "Il gatto dorme"}), encoding="utf-8"
    )
    (row,) = read_files([file], {"messages": "prompt", "chosen": "yes", "rejected": "no"}, Losses())
    assert {**row, "id": "a/0"} == PAIR

"""Conversations from elsewhere.

What becomes a chat row, what is left out and counted, and what is refused.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scripts.fetch_chat import main
from zagreus.data.chat.form import form_of_chat
from zagreus.data.chat.messages import from_columns
from zagreus.data.chat.rows import alternate, check_row, write_rows
from zagreus.errors import InputError
from zagreus.records import RowError

SFT = {"messages": "m"}
DPO = {"messages": "m", "chosen": "yes", "rejected": "no"}
WHOLE = {"chosen": "yes", "rejected": "no"}
TALK = alternate(["Ciao", "Ciao a te"])
ASKED = TALK[:1]
OTHER = [*ASKED, {"role": "assistant", "content": "Il gatto dorme"}]
SYSTEM = alternate(["Ciao", "Ciao a te"], system="Sii breve.")
PAIR = {"messages": ASKED, "chosen": TALK[1], "rejected": OTHER[1]}


def turn(role: Any, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


# What is accepted: columns, the record, and the row that it becomes (without its id).
ACCEPTED: dict[str, tuple[dict[str, str], Any, Any]] = {
    "role and content": (SFT, {"m": TALK}, {"conversation": TALK}),
    "system message first": (SFT, {"m": SYSTEM}, {"conversation": SYSTEM}),
    "from and value": (
        SFT,
        {"m": [{"from": "human", "value": "Ciao"}, {"from": "gpt", "value": "Ciao a te"}]},
        {"conversation": TALK},
    ),
    "from and value with a system message": (
        SFT,
        {
            "m": [
                {"from": "system", "value": "Sii breve."},
                {"from": "human", "value": "Ciao"},
                {"from": "gpt", "value": "Ciao a te"},
            ]
        },
        {"conversation": SYSTEM},
    ),
    "roles in capitals": (
        SFT,
        {"m": [turn("USER", "Ciao"), turn("Assistant", "Ciao a te")]},
        {"conversation": TALK},
    ),
    "further keys, and tool calls that are null": (
        SFT,
        {
            "m": [
                turn("user", "Ciao", name="x", tool_calls=None),
                turn("assistant", "Ciao a te", tool_calls=[], weight=1),
            ]
        },
        {"conversation": TALK},
    ),
    "content as parts": (
        SFT,
        {"m": [turn("user", [{"type": "text", "text": "Ciao"}]), TALK[1]]},
        {"conversation": TALK},
    ),
    "prompt and replies as text": (
        DPO,
        {"m": "Ciao", "yes": "Ciao a te", "no": "Il gatto dorme"},
        PAIR,
    ),
    "prompt as messages, replies as messages": (
        DPO,
        {"m": ASKED, "yes": TALK[1], "no": OTHER[1]},
        PAIR,
    ),
    "prompt as text, replies as conversations": (
        DPO,
        {"m": "Ciao", "yes": TALK, "no": OTHER},
        PAIR,
    ),
    "prompt with other white space": (
        DPO,
        {"m": "Ciao\n", "yes": TALK, "no": OTHER},
        {**PAIR, "messages": [turn("user", "Ciao\n")]},
    ),
    "no prompt, replies as conversations": (WHOLE, {"yes": TALK, "no": OTHER}, PAIR),
    "one reply as a conversation, one as text": (
        WHOLE,
        {"yes": TALK, "no": "Il gatto dorme"},
        PAIR,
    ),
    "system message in the conversations alone": (
        DPO,
        {"m": "Ciao", "yes": SYSTEM, "no": [*SYSTEM[:-1], OTHER[1]]},
        {**PAIR, "messages": SYSTEM[:-1]},
    ),
    "prompt that is the first turn of several": (
        DPO,
        {
            "m": "Ciao",
            "yes": [*TALK, turn("user", "E tu?"), turn("assistant", "Bene")],
            "no": [*TALK, turn("user", "E tu?"), OTHER[1]],
        },
        {
            "messages": [*TALK, turn("user", "E tu?")],
            "chosen": turn("assistant", "Bene"),
            "rejected": OTHER[1],
        },
    ),
}

# What is left out: columns, the record, and the reason.
LEFT_OUT: dict[str, tuple[dict[str, str], Any, str]] = {
    "role that is a mapping": (
        SFT,
        {"m": [turn({"name": "user"}, "Ciao"), TALK[1]]},
        "role that is no text",
    ),
    "role that is a list": (SFT, {"m": [turn(["user"], "Ciao"), TALK[1]]}, "role that is no text"),
    "role that is a number": (SFT, {"m": [turn(1, "Ciao"), TALK[1]]}, "role that is no text"),
    "role that is null": (SFT, {"m": [turn(None, "Ciao"), TALK[1]]}, "message without a role"),
    "unknown role": (SFT, {"m": [turn("narrator", "Ciao"), TALK[1]]}, "unknown role"),
    "no role": (SFT, {"m": [{"content": "Ciao"}, TALK[1]]}, "message without a role"),
    "content null": (SFT, {"m": [turn("user", None), TALK[1]]}, "empty message"),
    "no content": (SFT, {"m": [{"role": "user"}, TALK[1]]}, "empty message"),
    "content of white space": (SFT, {"m": [turn("user", " \n"), TALK[1]]}, "empty message"),
    "content that is a number": (SFT, {"m": [turn("user", 3), TALK[1]]}, "content that is no text"),
    "content with a picture": (
        SFT,
        {"m": [turn("user", [{"type": "image_url"}]), TALK[1]]},
        "content that is no text",
    ),
    "message that is text": (SFT, {"m": ["Ciao", "Ciao a te"]}, "no message"),
    "message that is null": (SFT, {"m": [None, TALK[1]]}, "no message"),
    "messages that are text": (SFT, {"m": "Ciao"}, "no list of messages"),
    "messages that are null": (SFT, {"m": None}, "no list of messages"),
    "messages that are a mapping": (SFT, {"m": {"role": "user"}}, "no list of messages"),
    "no messages": (SFT, {"m": []}, "no list of messages"),
    "tool calls with null content": (
        SFT,
        {"m": [ASKED[0], turn("assistant", None, tool_calls=[{"id": "1"}])]},
        "tool calls",
    ),
    "result of a tool": (SFT, {"m": [*TALK, turn("tool", "3"), TALK[1]]}, "tool calls"),
    "function call of ShareGPT": (
        SFT,
        {"m": [{"from": "human", "value": "x"}, {"from": "function_call", "value": "{}"}]},
        "tool calls",
    ),
    "two of one role": (SFT, {"m": [ASKED[0], *TALK]}, "roles not in turn"),
    "begins with the assistant": (SFT, {"m": [TALK[1], *TALK]}, "roles not in turn"),
    "system message later": (SFT, {"m": [*TALK, turn("system", "x")]}, "roles not in turn"),
    "system message alone": (SFT, {"m": [turn("system", "x")]}, "roles not in turn"),
    "ends with the user": (SFT, {"m": ASKED}, "ends with user"),
    "prompt ends with the assistant": (
        DPO,
        {"m": TALK, "yes": "a b", "no": "c d"},
        "ends with assistant",
    ),
    "reply of the user": (
        DPO,
        {"m": "Ciao", "yes": ASKED[0], "no": "x y"},
        "reply of another role",
    ),
    "reply null": (DPO, {"m": "Ciao", "yes": None, "no": "x y"}, "no message"),
    "reply that is empty": (DPO, {"m": "Ciao", "yes": "", "no": "x y"}, "empty message"),
    "no reply": (DPO, {"m": "Ciao", "yes": [], "no": "x y"}, "no reply"),
    "equal replies": (DPO, {"m": "Ciao", "yes": TALK, "no": TALK}, "equal replies"),
    "no prompt at all": (WHOLE, {"yes": "a b", "no": "c d"}, "no prompt"),
    "replies to different prompts": (
        WHOLE,
        {"yes": TALK, "no": [turn("user", "Altro"), OTHER[1]]},
        "different prompts",
    ),
    "prompt of another conversation": (
        DPO,
        {"m": "Altro", "yes": TALK, "no": OTHER},
        "different prompts",
    ),
    "no such key": (SFT, {"conversation": TALK}, "missing key"),
}


def fetch(
    folder: Path, path: Path, columns: dict[str, str] | None = None, **entry: Any
) -> dict[str, Any]:
    """Run the script in this process, and return the manifest."""
    options = {"kind": "local", "path": str(path), "columns": columns, **entry}
    arguments = [
        "--name",
        "chat",
        "--entry",
        json.dumps({key: value for key, value in options.items() if value is not None}),
    ]
    arguments += [
        "--heldout",
        folder / "chat.heldout.jsonl",
        "--manifest",
        folder / "chat.json",
        folder / "chat.jsonl",
    ]
    sys.argv = ["fetch_chat.py", *map(str, arguments)]
    main()
    return json.loads((folder / "chat.json").read_text(encoding="utf-8"))


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def rows(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for line in (folder / "chat.jsonl").read_text(encoding="utf-8").split("\n")
        if line
    ]


def refused(folder: Path, path: Path, columns: dict[str, str] | None = None, **entry: Any) -> str:
    """Return the one line of a run that is refused; nothing is written."""
    with pytest.raises(InputError) as raised:
        fetch(folder, path, columns, **entry)
    assert "\n" not in str(raised.value)
    assert not (folder / "chat.json").exists() and not (folder / "chat.jsonl").exists()
    return str(raised.value)


@pytest.mark.parametrize(("columns", "record", "row"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(tmp_path: Path, columns: dict[str, str], record: Any, row: Any) -> None:
    manifest = fetch(tmp_path, write(tmp_path / "in.jsonl", record), columns)
    (made,) = rows(tmp_path)
    assert made.pop("id") and made == row
    assert (
        manifest["form"]
        == form_of_chat({"kind": "local", "columns": columns})
        == ("sft" if columns is SFT else "dpo")
    )


@pytest.mark.parametrize(("columns", "record", "reason"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_left_out(
    tmp_path: Path,
    columns: dict[str, str],
    record: Any,
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = {"m": TALK} if columns is SFT else {"m": "Ciao", "yes": TALK, "no": OTHER}
    path = write(tmp_path / "in.jsonl", good, record)
    manifest = fetch(tmp_path, path, columns, max_lost_rows=0.5)
    assert (manifest["rows_read"], manifest["rows"], manifest["rows_lost"]) == (2, 1, {reason: 1})
    assert (
        f"chat: 1 rows cannot be used: 1 x {reason}; the first: {path}, line 2"
        in capsys.readouterr().out
    )
    line = refused(tmp_path / "other", path, columns)
    assert (
        f"chat: 1 of 2 rows cannot be used, expected 1.00% at most: 1 x {reason}; "
        "chat.chat.max_lost_rows allows more" in line
    )
    assert f"the first: {path}, line 2" in line


def test_up_to_the_limit_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    many = [{"m": alternate(["Ciao", str(number)])} for number in range(99)]
    bad = {"m": TALK[:1]}
    assert fetch(tmp_path, write(tmp_path / "in.jsonl", *many, bad), SFT)["rows_lost"] == {
        "ends with user": 1
    }
    line = refused(tmp_path / "other", write(tmp_path / "in.jsonl", *many, bad, bad, {"m": 3}), SFT)
    assert "3 of 102 rows" in line and "2 x ends with user, 1 x no list of messages" in line


FILES = {
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "gzip": lambda text: gzip.compress(text.encode()),
    "blank lines": lambda text: text.replace("\n", "\n\n \n").encode(),
    "line ends of Windows": lambda text: text.replace("\n", "\r\n").encode(),
    "array": lambda text: f"[{','.join(text.strip().split(chr(10)))}]".encode(),
    "separators of Unicode": lambda text: text.replace("Ciao", "Ci\u2028a\u2029o\x85").encode(),
}


@pytest.mark.parametrize("written", FILES.values(), ids=FILES)
@pytest.mark.parametrize("name", ["in.jsonl", "in.json", "in.parquet", "in"])
def test_files_that_are_read(tmp_path: Path, written: Any, name: str) -> None:
    text = "".join(
        json.dumps({"id": f"{number}/0", "conversation": alternate(["Ciao", str(number)])}) + "\n"
        for number in range(3)
    )
    (tmp_path / name).write_bytes(written(text))
    assert fetch(tmp_path, tmp_path / name)["rows"] == 3


def test_parquet_under_another_name(tmp_path: Path) -> None:
    table = pyarrow.table({"m": [TALK, ASKED, None], "other": [1, 2, 3]})
    pyarrow.parquet.write_table(table, tmp_path / "in.jsonl")
    manifest = fetch(tmp_path, tmp_path / "in.jsonl", SFT, max_lost_rows=1)
    assert (manifest["rows"], manifest["rows_lost"]) == (
        1,
        {"ends with user": 1, "no list of messages": 1},
    )


def test_parquet_with_text_that_is_no_text(tmp_path: Path) -> None:
    broken = pyarrow.array([b"Ciao\xff"]).view(pyarrow.string())
    turns = pyarrow.StructArray.from_arrays(
        [pyarrow.array(["user"]), broken], names=["role", "content"]
    )
    column = pyarrow.ListArray.from_arrays([0, 1], turns)
    pyarrow.parquet.write_table(pyarrow.table({"m": column}), tmp_path / "in.parquet")
    assert "in.parquet: " in refused(tmp_path, tmp_path / "in.parquet", SFT)


BAD_FILES = {
    "empty": (b"", "in.jsonl: found an empty file"),
    "a page of a proxy": (b"<html>", "in.jsonl: found a page in HTML"),
    "Latin-1": ('{"m": "è"}'.encode("latin-1"), "line 1, byte 7: found 0xe8, which is not UTF-8"),
    "cut off": (b'{"m": [\n', "found the end of the text"),
    "null line": (b"null\n", "1 x not an object"),
    "lone surrogate": (rb'{"m": "\ud800"}', "1 x lone surrogate"),
    "deep": (b'{"m": ' + b"[" * 9999 + b"]" * 9999 + b"}", "1 x nested too deeply"),
    "digits": (b'{"m": ' + b"9" * 9999 + b"}", "1 x number too long"),
    "parquet cut off": (b"PAR1xxxx", "not a whole parquet file"),
}


@pytest.mark.parametrize(("content", "words"), BAD_FILES.values(), ids=BAD_FILES)
def test_files_that_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "in.jsonl").write_bytes(content)
    assert words in refused(tmp_path, tmp_path / "in.jsonl", SFT)


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("away")
    assert "found a folder, expected a file" in refused(tmp_path, tmp_path)
    assert "a link to 'away', which is not there" in refused(tmp_path, tmp_path / "link")
    assert "no such file" in refused(tmp_path, tmp_path / "absent")


def test_parquet_without_the_column_or_with_it_twice(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / "in.parquet")
    assert "no column 'm', it has x" in refused(tmp_path, tmp_path / "in.parquet", SFT)
    twice = pyarrow.Table.from_arrays(
        [pyarrow.array(["a"]), pyarrow.array(["b"])], names=["m", "m"]
    )
    pyarrow.parquet.write_table(twice, tmp_path / "in.parquet")
    assert "2 columns 'm', it has m, m" in refused(tmp_path, tmp_path / "in.parquet", SFT)


def test_repetitions_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = fetch(tmp_path, write(tmp_path / "in.jsonl", *[{"m": TALK}] * 50), SFT)
    assert (manifest["rows"], manifest["rows_read"], manifest["rows_repeated"]) == (1, 50, 49)
    assert "50 rows read, 0 lost, 49 repeated, 1 keys; 1 for training" in capsys.readouterr().out


def test_ids_that_rows_share(tmp_path: Path) -> None:
    shared = [{"id": "x", "conversation": alternate(["Ciao", str(number)])} for number in range(5)]
    line = refused(tmp_path, write(tmp_path / "in.jsonl", *shared))
    assert (
        "5 of 5 rows have the id 'x' and are not equal; expected an id of its own for each row"
        in line
    )
    equal = [{"id": "x", "conversation": TALK}] * 5
    assert fetch(tmp_path, write(tmp_path / "in.jsonl", *equal))["rows_repeated"] == 4


def test_one_key_that_is_held_apart(tmp_path: Path) -> None:
    one_key = [
        {"id": f"x/{number}", "conversation": alternate(["Ciao", str(number)])}
        for number in range(5)
    ]
    line = refused(tmp_path, write(tmp_path / "in.jsonl", *one_key), heldout=0.999999)
    assert (
        "no rows for training" in line
        and "5 held out, 5 rows read, 0 lost, 0 repeated, 1 keys" in line
    )


def test_rows_of_two_forms(tmp_path: Path) -> None:
    path = write(tmp_path / "in.jsonl", {"id": "a/0", "conversation": TALK}, {"id": "b/0", **PAIR})
    assert "row 'a/0' is for sft, row 'b/0' is for dpo; expected rows of one form" in refused(
        tmp_path, path
    )


def test_ids_of_rows_that_were_read_before_are_the_same(tmp_path: Path) -> None:
    """The id decides which rows are held out: it must not move with this reader."""
    fetch(tmp_path, write(tmp_path / "in.jsonl", {"m": ASKED}, {"m": TALK}), SFT, max_lost_rows=1)
    assert [row["id"] for row in rows(tmp_path)] == ["6869bc309a1e4e2a/1"]
    fetch(
        tmp_path,
        write(tmp_path / "in.jsonl", {"m": ASKED, "yes": TALK, "no": "Il gatto dorme"}),
        DPO,
    )
    assert [row["id"] for row in rows(tmp_path)] == ["51f5c56d4dd4e490/0"]


@pytest.mark.parametrize(
    ("entry", "form"),
    [
        ({"kind": "package", "reader": "chatterbot"}, "sft"),
        ({"kind": "package", "reader": "chitchat_preferences"}, "dpo"),
        ({"kind": "huggingface", "columns": SFT}, "sft"),
        ({"kind": "huggingface", "columns": WHOLE}, "dpo"),
        ({"kind": "local"}, None),
    ],
)
def test_form_of_an_entry(entry: dict[str, Any], form: str | None) -> None:
    assert form_of_chat(entry) == form


def test_our_own_rows_are_read_back(tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [{"id": "a/0", "conversation": SYSTEM}])
    assert (
        fetch(tmp_path, tmp_path / "in.jsonl")["rows"] == 1
        and rows(tmp_path)[0]["conversation"] == SYSTEM
    )


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["user", "assistant", "gpt", "x", "", " "]),
)
KEYS = st.sampled_from(["role", "content", "from", "value", "tool_calls", "type", "text"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([SFT, DPO, WHOLE]),
    st.fixed_dictionaries({}, optional={"m": VALUES, "yes": VALUES, "no": VALUES}),
)
@example(SFT, {"m": TALK})
def test_any_value_is_a_valid_row_or_is_lost_with_a_reason(
    columns: dict[str, str], record: Any
) -> None:
    try:
        row = {"id": "a/0", **from_columns(record, columns, "F, line 1")}
        check_row(row, "F, line 1")
    except RowError as error:
        assert error.reason and str(error).startswith("F, line 1") and "\n" not in str(error)
        return
    parts = (
        row["conversation"]
        if columns is SFT
        else [*row["messages"], row["chosen"], row["rejected"]]
    )
    assert all(set(part) == {"role", "content"} and part["content"].strip() for part in parts)

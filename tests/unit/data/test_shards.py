"""Token shards: against datatrove's own executor, and read back."""

import json
import re
import subprocess
import sys
import unicodedata
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.tokens import DocumentTokenizer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from wheels import wheel

from zagreus.data import tokenizer as maker
from zagreus.data.batches import open_parquet, sample
from zagreus.data.encode import ReferenceEncoder, check_equal, choose_encoder, read_tokenizer
from zagreus.data.readers import read_wheel
from zagreus.data.shard_files import SUFFIXES, Shard, check_shard
from zagreus.data.shards import BASE_MEMORY, WORKER_MEMORY, write_shard
from zagreus.data.split import Document, write_split
from zagreus.errors import InputError
from zagreus.manifest import describe, write_manifest

EXTRA = ["<|end_of_text|> inside <|begin_of_text|>", "\r\n\ttabs\x00", "è" * 3000, " "]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Real text of five languages and code, and hostile ends."""
    collected = []
    for language in ("it", "en", "es", "fr", "pt-BR"):
        strings = read_wheel(
            wheel("homeassistant"), "homeassistant_strings", {"language": language}
        )
        collected += [text for _, text in islice(strings, 100)]
    code = read_wheel(wheel("homeassistant"), "python_code", {})
    return collected + [text for _, text in islice(code, 200) if text] + EXTRA


@pytest.fixture(scope="module")
def parquet(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    documents = [Document(str(number), f"s:{number}", text) for number, text in enumerate(texts)]
    write_split(documents, folder / "00003.parquet", folder / "00003.heldout.parquet", 0)
    return folder / "00003.parquet"


@pytest.fixture(scope="module")
def tokenizer(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    maker.save(maker.train(texts, 1500), folder)
    return folder / "tokenizer.json"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    maker.save(
        maker.from_package(wheel("llama-models"), "llama_models/llama3/tokenizer.model"), folder
    )
    return folder / "tokenizer.json"


def written(*arguments: object, **options: object) -> Shard:
    return write_shard(*arguments, **options).shard  # type: ignore[arg-type]


def hostile(seed: int) -> list[str]:
    """Documents of every Unicode category, long runs, line ends of all kinds, marks and special
    tokens in the text.
    """
    random = Random(seed)
    by_category: dict[str, list[str]] = {}
    for number in range(sys.maxunicode + 1):
        if not 0xD800 <= number <= 0xDFFF:
            by_category.setdefault(unicodedata.category(chr(number)), []).append(chr(number))
    pieces = [
        character
        for characters in by_category.values()
        for character in random.sample(characters, min(40, len(characters)))
    ]
    pieces += [
        "\r\n",
        "\n\n",
        "\t",
        "  ",
        "\u00a0",
        "\ufffd",
        "'s",
        "'LL",
        "12345",
        "<|end_of_text|>",
        "<|begin_of_text|>",
        "<|im_start|>",
        "<|",
    ]
    documents = ["".join(random.choices(pieces, k=random.randint(1, 300))) for _ in range(400)]
    return (
        documents
        + [character * 20_000 for character in ("a", " ", "\n", "è", "日", "🙂", "0", "-")]
        + [" ".join(pieces) * 50]
    )


def datatrove_files(
    texts: list[str | None], tokenizer: Path, folder: Path, **options: object
) -> dict[str, bytes]:
    """What datatrove itself writes for the texts: name of the file and its bytes."""
    (folder / "in").mkdir(parents=True)
    pq.write_table(
        pa.table({"id": [str(i) for i in range(len(texts))], "text": pa.array(texts, pa.string())}),
        folder / "in/a.parquet",
    )
    writer = DocumentTokenizer(
        str(folder / "out"), str(tokenizer), **({"shuffle_documents": False} | options)
    )
    LocalPipelineExecutor(
        [ParquetReader(str(folder / "in")), writer], tasks=1, logging_dir=str(folder / "logs")
    ).run()
    return {file.name: file.read_bytes() for file in (folder / "out").iterdir()}


def ours(
    texts: list[str | None], tokenizer: Path, folder: Path, kind: pa.DataType, **options: object
) -> dict[str, bytes]:
    """What we write for the same texts, which stand in a column of some type."""
    folder.mkdir(parents=True)
    ids = pa.array([str(i) for i in range(len(texts))])
    column = (
        pa.array(texts, pa.string()).dictionary_encode()
        if pa.types.is_dictionary(kind)
        else pa.array(texts, kind)
    )
    pq.write_table(
        pa.table({"id": ids, "text": column}), folder / "00000.parquet", row_group_size=97
    )
    made = write_shard(folder / "00000.parquet", tokenizer, folder / "out", len(texts), **options)
    for output in made.outputs:
        assert output == describe(output["path"])
    return {file.name: file.read_bytes() for file in (folder / "out").iterdir()}


STRING, LARGE, DICTIONARY = pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())


@pytest.mark.parametrize(
    ("vocabulary", "processes", "options", "expected", "kind"),
    [
        ("trained", (1, 2, 3), {}, {}, STRING),
        ("trained", (1, 3), {}, {}, DICTIONARY),
        ("trained", (1,), {"end_token": maker.END}, {"eos_token": maker.END}, STRING),
        ("trained", (1, 2), {"shuffle_seed": 7}, {"shuffle_documents": True, "seed": 7}, STRING),
        ("llama", (1, 2), {}, {}, LARGE),
        (
            "llama",
            (3,),
            {"end_token": maker.END, "shuffle_seed": 1},
            {"eos_token": maker.END, "shuffle_documents": True, "seed": 1},
            LARGE,
        ),
    ],
)
def test_equals_datatrove(
    texts: list[str],
    tokenizer: Path,
    llama: Path,
    tmp_path: Path,
    vocabulary: str,
    processes: tuple[int, ...],
    options: Any,
    expected: Any,
    kind: pa.DataType,
) -> None:
    path = {"trained": tokenizer, "llama": llama}[vocabulary]
    everything = texts + hostile(len(expected)) + ["", None]
    reference = datatrove_files(everything, path, tmp_path / "theirs", **expected)
    for number in processes:
        actual = ours(
            everything, path, tmp_path / f"ours{number}", kind, processes=number, **options
        )
        assert actual == reference, f"{number} processes"
        assert len(actual) == 3


def test_ten_megabytes_in_one_document(texts: list[str], tokenizer: Path, tmp_path: Path) -> None:
    single = "\n".join(texts)
    documents = ["short", single * (10**7 // len(single) + 1), "x" * 10**6, *texts]
    reference = datatrove_files(documents, tokenizer, tmp_path / "theirs")
    for processes in (1, 2):
        assert (
            ours(documents, tokenizer, tmp_path / f"ours{processes}", STRING, processes=processes)
            == reference
        )


def test_a_document_that_does_not_fit_into_the_memory_is_refused(
    tokenizer: Path, tmp_path: Path
) -> None:
    documents = [*["short"] * 200, "x" * 3 * 10**6]
    for processes, memory in (
        (1, BASE_MEMORY + 12 * 10**6),
        (2, BASE_MEMORY + 2 * (WORKER_MEMORY + 12 * 10**6)),
    ):
        folder = tmp_path / f"ours{processes}"
        with pytest.raises(
            InputError,
            match=(
                r"00000.parquet: row group 2 has a document of 3 MB, at most 1 MB fit into "
                r"the memory .* mem_mb"
            ),
        ):
            ours(documents, tokenizer, folder, STRING, processes=processes, memory=memory)
        assert not list((folder / "out").iterdir())
    with pytest.raises(InputError, match="1000 MB of memory, more than .* MB needed with 3 cores"):
        ours(documents, tokenizer, tmp_path / "ours3", STRING, processes=3, memory=10**9)


def test_the_reference_serves_where_the_fast_engine_cannot(
    texts: list[str], tmp_path: Path
) -> None:
    other = Tokenizer(WordLevel({"[UNK]": 0, "x": 1}, unk_token="[UNK]"))
    other.pre_tokenizer = Whitespace()
    # Documents need a token between them.
    other.post_processor = TemplateProcessing(single="[UNK] $A", special_tokens=[("[UNK]", 0)])
    other.save(str(tmp_path / "tokenizer.json"))
    encoder, why = choose_encoder(*read_tokenizer(tmp_path / "tokenizer.json", None))
    assert encoder.name == "tokenizers" and why
    reference = datatrove_files(texts, tmp_path / "tokenizer.json", tmp_path / "theirs")
    for processes in (1, 2):
        assert (
            ours(
                texts,
                tmp_path / "tokenizer.json",
                tmp_path / f"ours{processes}",
                STRING,
                processes=processes,
            )
            == reference
        )


def test_an_engine_that_differs_stops_the_job_with_the_document_s_name(
    parquet: Path, tokenizer: Path, texts: list[str]
) -> None:
    description, loaded = read_tokenizer(tokenizer, None)
    documents = sample(open_parquet(parquet, len(texts)), parquet)
    assert 8 <= len(documents) <= 64 and {text for _, text in documents} <= set(texts)
    engine, reference = choose_encoder(description, loaded)[0], ReferenceEncoder(loaded)
    assert engine.name == "fastokens"
    check_equal(engine, reference, documents)
    # The reference of another tokenizer: one that takes another token for one character that stands
    # in the fifth document.
    described = json.loads(description)
    text = next(text for text in documents[4][1] if text.isalpha() and text.isascii())
    vocabulary = described["model"]["vocab"]
    vocabulary[text], vocabulary["!"] = vocabulary["!"], vocabulary[text]
    with pytest.raises(
        InputError, match=r"document s:\d+: fastokens and tokenizers differ from token \d+ on"
    ):
        check_equal(engine, ReferenceEncoder(Tokenizer.from_str(json.dumps(described))), documents)


@pytest.mark.parametrize("processes", [1, 2])
def test_text_that_is_not_utf_8_is_refused_with_its_row_group(
    tokenizer: Path, tmp_path: Path, processes: int
) -> None:
    texts = pa.array([b"good"] * 5 + [b"bad \xff\xfe"], pa.binary()).view(pa.string())
    pq.write_table(
        pa.table({"id": list("abcdef"), "text": texts}),
        tmp_path / "00000.parquet",
        row_group_size=3,
    )
    with pytest.raises(InputError, match="00000.parquet: row group 1 holds text that is not UTF-8"):
        write_shard(tmp_path / "00000.parquet", tokenizer, tmp_path / "out", 6, processes=processes)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_damaged_row_group_is_named(
    texts: list[str], tokenizer: Path, tmp_path: Path, processes: int
) -> None:
    path = tmp_path / "00000.parquet"
    pq.write_table(
        pa.table({"id": texts, "text": texts}), path, row_group_size=100, compression="zstd"
    )
    column = pq.ParquetFile(path).metadata.row_group(2).column(1)
    content = bytearray(path.read_bytes())
    offset = (
        column.dictionary_page_offset or column.data_page_offset
    ) + column.total_compressed_size // 2
    content[offset : offset + 64] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(InputError, match="00000.parquet: row group 2 cannot be read"):
        write_shard(path, tokenizer, tmp_path / "out", len(texts), processes=processes)


def test_read_back_is_the_text(
    parquet: Path, tokenizer: Path, texts: list[str], tmp_path: Path
) -> None:
    shard = written(parquet, tokenizer, tmp_path, len(texts))
    coder = Tokenizer.from_file(str(tokenizer))
    ids = np.fromfile(shard.files[0], dtype="<u2")
    ends = np.fromfile(shard.files[1], dtype="<u8")
    assert (shard.documents, shard.tokens, shard.token_bytes) == (len(texts), len(ids), 2)
    for text, start, end in zip(texts, [0, *ends[:-1]], ends, strict=True):
        assert ids[start] == coder.token_to_id(maker.BEGIN)
        assert coder.decode(ids[start + 1 : end].tolist(), skip_special_tokens=False) == text
    # No end token follows any document; the one that is there stands in a text.
    assert (ids == coder.token_to_id(maker.END)).sum() == 1


def test_large_vocabulary_takes_four_bytes(
    parquet: Path, llama: Path, texts: list[str], tmp_path: Path
) -> None:
    shard = written(parquet, llama, tmp_path / "tokens", len(texts))
    ids = np.fromfile(shard.files[0], dtype="<u4")
    assert shard.token_bytes == 4 and ids[0] == 128000 and ids.max() < 128256
    assert shard.files[2].read_text().split("\n")[0] == f"{llama}|4"


def test_what_a_killed_job_left_is_no_shard(
    parquet: Path, tokenizer: Path, texts: list[str], tmp_path: Path
) -> None:
    stale = tmp_path / ".00003.partial"
    stale.mkdir()
    (stale / "00003_unshuffled.ds").write_bytes(b"half")
    other = tmp_path / "00003_00000_doc_shuffled.ds"
    other.write_bytes(b"of another setting")
    write_shard(parquet, tokenizer, tmp_path, len(texts))
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        f"00003_unshuffled{suffix}" for suffix in SUFFIXES
    )


@pytest.mark.parametrize("seed", [None, 3])
def test_a_file_without_a_row(tokenizer: Path, tmp_path: Path, seed: int | None) -> None:
    """Its shard is empty and whole: not every file of a source has a document."""
    (tmp_path / "in").mkdir()
    write_split([], tmp_path / "in" / "00003.parquet", tmp_path / "heldout.parquet", 0)
    empty = write_shard(
        tmp_path / "in" / "00003.parquet", tokenizer, tmp_path / "ours", 0, shuffle_seed=seed
    )
    assert (empty.shard.documents, empty.shard.tokens, empty.longest) == (0, 0, 0)
    assert [file.stat().st_size for file in empty.shard.files[:2]] == [0, 0]
    assert empty.shard.files[2].read_text().split("\n")[1] == "0"


def job(folder: Path, parquet: Path, tokenizer: Path, documents: int) -> list[str]:
    """Put a source and a tokenizer with their manifests into a folder.

    Return the command that makes `out/00003.json` there.
    """
    (folder / "t").mkdir()
    write_manifest(
        folder / "t" / "manifest.json",
        kind="tokenizer",
        name="t",
        eos_token="<|end_of_text|>",
        vocab_size=1500,
    )
    (folder / "t" / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    (folder / "s").mkdir()
    (folder / "s" / "00003.parquet").write_bytes(parquet.read_bytes())
    facts = {"language": "ita", "documents": documents, "text_bytes": 10**6, "words": 9}
    write_manifest(folder / "s" / "00003.json", kind="source", name="s/00003", **facts)
    inputs = [
        "--source",
        str(folder / "s/00003.json"),
        "--tokenizer",
        str(folder / "t/manifest.json"),
    ]
    return [
        sys.executable,
        "-P",
        "scripts/tokenize.py",
        *inputs,
        str(folder / "out" / "00003.json"),
    ]


def test_manifest_and_log(parquet: Path, tokenizer: Path, texts: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        job(tmp_path, parquet, tokenizer, len(texts)), check=True, capture_output=True, text=True
    )
    out = tmp_path / "out"
    manifest = json.loads((out / "00003.json").read_text())
    coder = Tokenizer.from_file(str(tokenizer))
    lengths = [len(coder.encode(text).ids) for text in texts]
    assert (manifest["documents"], manifest["tokens"], manifest["longest_document"]) == (
        len(texts),
        sum(lengths),
        max(lengths),
    )
    assert manifest["text_bytes"] == 10**6 and manifest["tokens_per_byte"] == round(
        sum(lengths) / 10**6, 6
    )
    assert (manifest["engine"], manifest["end_token"], manifest["shuffle_seed"]) == (
        "fastokens",
        None,
        None,
    )
    described = [describe(out / f"00003_unshuffled{suffix}") for suffix in SUFFIXES]
    assert manifest["outputs"] == [
        {**output, "path": str(out / Path(output["path"]).name)} for output in described
    ]
    # The bar: documents, time left after "<", tokens, bytes and tokens a second.
    last = done.stderr.strip().split("\r")[-1]
    rates = r"[\d.]+ documents/s, [\d.]+ M tokens, [\d.]+ MB/s, [\d.]+ M tokens/s"
    assert re.search(rf"{len(texts)}/{len(texts)} \[\d\d:\d\d<\d\d:\d\d, {rates}\]", last), last


def test_memory_does_not_grow_with_the_row_group(
    tokenizer: Path, texts: list[str], tmp_path: Path
) -> None:
    """300 MB of text in one row group and in fifty, in pages of about a megabyte.

    A job takes no more for the first than for the second.
    """
    single = "\n".join(texts)[:100_000]
    documents, peaks = [f"{number} {single}" for number in range(3000)], []
    for name, rows in (("whole", 3000), ("cut", 60)):
        path = tmp_path / f"{name}.parquet"
        table = pa.table({"id": [str(number) for number in range(3000)], "text": documents})
        pq.write_table(
            table,
            path,
            row_group_size=rows,
            compression="zstd",
            use_dictionary=False,
            write_batch_size=8,
        )
        del table
        folder = tmp_path / name
        folder.mkdir()
        # Through a shell: a process begins with the peak of the one that started it, and this one
        # holds all of the text.
        shell = [
            "sh",
            "-c",
            '"$@"; exit $?',
            "sh",
            *job(folder, path, tokenizer, 3000),
            "--memory-mb",
            "1000",
        ]
        subprocess.run(shell, check=True, capture_output=True)
        peaks.append(json.loads((folder / "out" / "00003.run.json").read_text())["peak_memory_mb"])
    assert pq.ParquetFile(tmp_path / "whole.parquet").num_row_groups == 1
    assert peaks[0] < peaks[1] + 100 and max(peaks) < 1000


def test_killed_at_any_moment(
    parquet: Path, tokenizer: Path, texts: list[str], tmp_path: Path
) -> None:
    """No file has a final name before the shard is whole, and the next run writes what an
    undisturbed one writes.
    """
    undisturbed = [
        file.read_bytes()
        for file in written(parquet, tokenizer, tmp_path / "undisturbed", len(texts)).files
    ]
    out = tmp_path / "out"
    command = job(tmp_path, parquet, tokenizer, len(texts))
    moments = 0
    for number, delay in enumerate((0.3, 0.6, 0.9, 1.2, 1.5, 1.8)):
        started = subprocess.Popen(
            [*command, "--threads", str(1 + number % 2)],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            started.wait(delay)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
            moments += 1
        names = {file.name for file in out.glob("0*")}
        if names:
            # Renamed one after the other: whatever stands there is whole, and the manifest comes
            # last.
            for suffix, whole in zip(SUFFIXES[:2], undisturbed[:2], strict=True):
                file = out / f"00003_unshuffled{suffix}"
                assert not file.exists() or file.read_bytes() == whole
            assert "00003.json" not in names or len(names) >= 5
    assert moments
    manifests = set()
    for processes in ("1", "2"):
        subprocess.run([*command, "--threads", processes], check=True, capture_output=True)
        assert sorted(file.name for file in out.glob("*.ds*")) == sorted(
            f"00003_unshuffled{suffix}" for suffix in SUFFIXES
        )
        contents = [(out / f"00003_unshuffled{suffix}").read_bytes() for suffix in SUFFIXES]
        assert contents[:2] == undisturbed[:2]
        assert (
            contents[2].split(b"\n")[1:] == undisturbed[2].split(b"\n")[1:]
        )  # the first line names the tokenizer's path
        assert not [path for path in out.iterdir() if path.is_dir()]
        manifests.add((out / "00003.json").read_bytes())
    assert len(manifests) == 1


def test_bad_parquet(parquet: Path, tokenizer: Path, texts: list[str], tmp_path: Path) -> None:
    truncated, other, numbers = (tmp_path / f"0000{number}.parquet" for number in (0, 2, 3))
    truncated.write_bytes(parquet.read_bytes()[:-100])
    pq.write_table(pq.read_table(parquet).rename_columns(["id", "content"]), other)
    pq.write_table(pa.table({"id": ["a", "b"], "text": [1, 2]}), numbers)
    cases = [
        (truncated, 9, "not a whole parquet"),
        (other, len(texts), "columns id, content"),
        (numbers, 2, "column 'text' is of type int64, expected string"),
        (parquet, 9, "says 9"),
    ]
    for path, documents, message in cases:
        with pytest.raises(InputError, match=message):
            write_shard(path, tokenizer, tmp_path / "out", documents)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_bad_shards(parquet: Path, tokenizer: Path, texts: list[str], tmp_path: Path) -> None:
    data, index, metadata = written(parquet, tokenizer, tmp_path, len(texts)).files
    whole = {file: file.read_bytes() for file in (data, index, metadata)}
    highest = int(np.frombuffer(whole[data], "<u2").max())
    assert check_shard(data, highest + 1).documents == len(texts)
    with pytest.raises(InputError, match=f"token {highest}, the vocabulary has {highest}"):
        check_shard(data, highest)
    damages = [
        (data, whole[data][:-2], "bytes, .* tokens of 2 bytes"),
        (index, whole[index][:-8], "do not rise"),
        (index, whole[index][8:16] + whole[index][:8] + whole[index][16:], "do not rise"),
        (index, b"", "do not rise"),
    ]
    for file, content, message in damages:
        file.write_bytes(content)
        with pytest.raises(InputError, match=message):
            check_shard(data, 1500)
        file.write_bytes(whole[file])
    metadata.unlink()
    with pytest.raises(InputError, match="missing"):
        check_shard(data, 1500)


def test_the_script_refuses_another_artifact(
    parquet: Path, tokenizer: Path, tmp_path: Path
) -> None:
    (tmp_path / "source.json").write_text(json.dumps({"kind": "chat"}))
    (tmp_path / "manifest.json").write_text(json.dumps({"kind": "tokenizer", "vocab_size": 1500}))
    command = [
        sys.executable,
        "-P",
        "scripts/tokenize.py",
        "--source",
        str(tmp_path / "source.json"),
    ]
    command += ["--tokenizer", str(tmp_path / "manifest.json"), str(tmp_path / "out.json")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert (
        result.stderr.strip()
        == f"error: {tmp_path}/source.json: a manifest of kind 'chat', expected 'source'"
    )

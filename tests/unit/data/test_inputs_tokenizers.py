"""Tokenizers that others saved: what is read, what is changed and said, what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.tokenization import PipelineStepWithTokenizer
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from zagreus.data import tokenizer as maker
from zagreus.data.shards import write_shard
from zagreus.errors import InputError

TEXTS = [
    "Nel mezzo del cammin di nostra vita",
    " mi ritrovai\nper una selva oscura, 1300",
    "ché la diritta via era smarrita 🙂 中",
    "<|im_end|> Ahi quanto a dir qual era è cosa dura\t",
]
Description = dict[str, Any]


def trained(special: list[str], pre: Any, size: int, alphabet: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return tokenizer


def template(begin: str = "", end: str = "") -> Callable[[Tokenizer], Any]:
    single = " ".join(filter(None, [begin, "$A", end]))
    names = [token for token in (begin, end) if token]
    return lambda tokenizer: processors.TemplateProcessing(
        single=single, special_tokens=[(name, tokenizer.token_to_id(name)) for name in names]
    )


def byte_level(
    special: list[str], post: Any = None, pre: list[Any] | None = None, normalizer: Any = None
) -> Tokenizer:
    """GPT-2, Qwen, SmolLM and Llama-3 kinds."""
    steps = [*(pre or []), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pre)]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = trained(special, pre_tokenizers.Sequence(steps), 330, alphabet)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.post_processor = post(tokenizer) if post else processors.ByteLevel(trim_offsets=False)
    return tokenizer


def pieces(special: list[str], post: Any, gemma: bool) -> Tokenizer:
    """Llama-2, Mistral and Gemma kinds: sentencepiece's BPE with byte fallback."""
    tokens = [f"<0x{number:02X}>" for number in range(256)]
    whole = trained([*special, *tokens], pre_tokenizers.Metaspace(), 360, [])
    description = json.loads(whole.to_str())
    added = description["added_tokens"]
    description["added_tokens"] = [token for token in added if token["content"] in special]
    description["model"] |= {"byte_fallback": True, "unk_token": "<unk>", "fuse_unk": True}
    description["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(description))
    replace = normalizers.Replace(" ", "▁")
    prepend = [] if gemma else [normalizers.Prepend("▁")]
    tokenizer.normalizer = normalizers.Sequence([*prepend, replace])
    if gemma:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.post_processor = post(tokenizer)
    return tokenizer


SPLIT = pre_tokenizers.Split(Regex(maker.LLAMA3_PATTERN), behavior="isolated", invert=False)
TURNS = ["<|im_start|>", "<|im_end|>"]
RESERVED = [f"<|reserved_special_token_{number}|>" for number in range(4)]
# A kind: tokenizer, begin token, end token, whether it puts a token around a text itself.
KINDS: dict[str, tuple[Callable[[], Tokenizer], str | None, str, bool]] = {
    "gpt2": (lambda: byte_level(["<|endoftext|>"]), "<|endoftext|>", "<|endoftext|>", False),
    "qwen": (
        lambda: byte_level(["<|endoftext|>", *TURNS], pre=[SPLIT], normalizer=normalizers.NFC()),
        None,
        "<|endoftext|>",
        False,
    ),
    "smollm": (
        lambda: byte_level(
            ["<|endoftext|>", *TURNS], pre=[pre_tokenizers.Digits(individual_digits=True), SPLIT]
        ),
        "<|endoftext|>",
        "<|endoftext|>",
        False,
    ),
    "llama2": (
        lambda: pieces(["<unk>", "<s>", "</s>"], template("<s>"), gemma=False),
        "<s>",
        "</s>",
        True,
    ),
    "mistral": (
        lambda: pieces(["<unk>", "<s>", "</s>", "[INST]"], template("<s>"), gemma=False),
        "<s>",
        "</s>",
        True,
    ),
    "both marks": (
        lambda: pieces(["<unk>", "<s>", "</s>"], template("<s>", "</s>"), gemma=False),
        "<s>",
        "</s>",
        True,
    ),
    "gemma": (
        lambda: pieces(["<pad>", "<eos>", "<bos>", "<unk>"], template("<bos>"), gemma=True),
        "<bos>",
        "<eos>",
        True,
    ),
    "llama3": (
        lambda: byte_level([maker.BEGIN, maker.END, *RESERVED], template(maker.BEGIN), pre=[SPLIT]),
        maker.BEGIN,
        maker.END,
        True,
    ),
}


def save(folder: Path, tokenizer: Tokenizer | Description, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(tokenizer) if isinstance(tokenizer, dict) else tokenizer.to_str()
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def saved(folder: Path, kind: str) -> Path:
    make, begin, end, _ = KINDS[kind]
    return save(folder, make(), bos_token=begin, eos_token={"content": end})


def shard(folder: Path, made: Path, end_token: str | None) -> list[int]:
    """Tokenize the texts as a job does; return the ids."""
    parquet = folder / "00000.parquet"
    pq.write_table(pa.table({"id": [str(i) for i in range(len(TEXTS))], "text": TEXTS}), parquet)
    written = write_shard(
        parquet, made / "tokenizer.json", folder / "out", len(TEXTS), end_token=end_token
    )
    kind = f"<u{written.shard.token_bytes}"
    return np.fromfile(written.shard.files[0], kind).tolist()


class Theirs(PipelineStepWithTokenizer):
    """datatrove's own way to its tokenizer."""

    name = "theirs"
    type = "theirs"

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> PipelineStep:
        raise NotImplementedError


def datatrove_ids(made: Path, end_token: str | None) -> list[int]:
    tokenizer = Theirs(str(made / "tokenizer.json"), end_token).tokenizer
    return [number for text in TEXTS for number in tokenizer.encode(text).ids]


@pytest.mark.parametrize("kind", KINDS)
def test_kind(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids stay, the chat marks come in, and shards are datatrove's with a boundary or refused."""
    _, begin, end, marks_itself = KINDS[kind]
    folder, made = saved(tmp_path / "theirs", kind), tmp_path / "made"
    built = maker.from_folder(folder)
    facts = maker.save(built, made)
    before = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    after = Tokenizer.from_file(str(made / "tokenizer.json"))
    renamed = {name for name in before if name in RESERVED[:2]}
    assert all(after.token_to_id(name) == i for name, i in before.items() if name not in renamed)
    assert facts["vocab_size"] == max(after.get_vocab().values()) + 1
    assert (facts["bos_token"], facts["eos_token"]) == (begin, end)
    for mark in maker.CHAT:
        assert after.encode(mark, add_special_tokens=False).ids[-1] == after.token_to_id(mark)
    assert shard(tmp_path, made, end) == datatrove_ids(made, end)
    said = capsys.readouterr()
    assert ("in place of what the tokenizer adds" in said.out + said.err) == marks_itself
    if marks_itself:
        ids = shard(tmp_path, made, None)
        assert ids == datatrove_ids(made, None) and ids[0] == after.token_to_id(begin)
    else:
        with pytest.raises(InputError, match="run together; set `end_token: true`"):
            shard(tmp_path, made, None)


def test_both_marks_and_an_end_token(tmp_path: Path) -> None:
    made = tmp_path / "made"
    maker.save(maker.from_folder(saved(tmp_path / "theirs", "both marks")), made)
    begin, end = (
        Tokenizer.from_file(str(made / "tokenizer.json")).token_to_id(t) for t in ("<s>", "</s>")
    )
    ids = shard(tmp_path, made, "</s>")
    assert begin not in ids and ids.count(end) == len(TEXTS) and ids[-1] == end
    ids = shard(tmp_path, made, None)
    assert ids.count(begin) == ids.count(end) == len(TEXTS)


@pytest.mark.parametrize("what", [["truncation"], ["padding"], ["truncation", "padding"]])
@pytest.mark.parametrize("kind", ["gpt2", "llama2"])
def test_saved_truncation_and_padding(tmp_path: Path, kind: str, what: list[str]) -> None:
    _, begin, end, _ = KINDS[kind]
    plain, cut = KINDS[kind][0](), KINDS[kind][0]()
    if "truncation" in what:
        cut.enable_truncation(3)
    if "padding" in what:
        cut.enable_padding(length=500)
    built = maker.from_folder(save(tmp_path / "theirs", cut, bos_token=begin, eos_token=end))
    said = [note for note in built.notes if "switched off" in note]
    assert len(said) == 1 and all(key in said[0] for key in what)
    maker.save(built, tmp_path / "made")
    assert built.tokenizer.encode(TEXTS[0]).ids == plain.encode(TEXTS[0]).ids
    ids = shard(tmp_path, tmp_path / "made", end)
    # A folder that an earlier version made still has them.
    old = maker.with_chat_marks(cut)
    old.save(str(save(tmp_path / "old", cut) / "tokenizer.json"))
    assert shard(tmp_path, tmp_path / "old", end) == ids


def holes(kind: str, special: dict[str, int], plain: dict[str, int] | None = None) -> Description:
    """Return a tokenizer whose added tokens have other ids, and entries of its vocabulary too."""
    description: Description = json.loads(KINDS[kind][0]().to_str())
    vocabulary = description["model"]["vocab"]
    for token in description["added_tokens"]:
        if token["content"] in special:
            token["id"] = special[token["content"]]
            vocabulary.pop(token["content"], None)
    vocabulary.update(plain or {})
    description["post_processor"] = None
    return description


@pytest.mark.parametrize(
    ("special", "plain", "size"),
    [
        ({"<|endoftext|>": 1000}, {}, 1003),
        ({"<|endoftext|>": 70000}, {}, 70003),
        ({}, {"zzzz": 829}, 832),
        ({"<|endoftext|>": 900}, {"zzzz": 829}, 903),
    ],
)
def test_ids_with_holes(
    tmp_path: Path, special: dict[str, int], plain: dict[str, int], size: int
) -> None:
    description = holes("gpt2", special, plain)
    built = maker.from_folder(save(tmp_path / "theirs", description, eos_token="<|endoftext|>"))
    assert any("ids have no token" in note for note in built.notes)
    facts = maker.save(built, tmp_path / "made")
    made = Tokenizer.from_file(str(tmp_path / "made" / "tokenizer.json"))
    assert facts["vocab_size"] == size == max(made.get_vocab().values()) + 1
    vocabulary = description["model"]["vocab"] | special
    assert all(made.token_to_id(name) == number for name, number in vocabulary.items())
    assert len(set(made.get_vocab().values())) == len(made.get_vocab())
    assert [made.token_to_id(mark) for mark in maker.CHAT] == [size - 2, size - 1]
    ids = shard(tmp_path, tmp_path / "made", "<|endoftext|>")
    end = made.token_to_id("<|endoftext|>")
    assert ids.count(end) == len(TEXTS) and ids[-1] == end == facts["eos_token_id"]


def changed(kind: str, change: Callable[[Description], Any]) -> Description:
    description: Description = json.loads(KINDS[kind][0]().to_str())
    change(description)
    return description


def rename_begin(description: Description) -> None:
    vocabulary = description["model"]["vocab"]
    vocabulary["<begin>"] = vocabulary.pop("<s>")
    description["added_tokens"][1]["content"] = "<begin>"


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "end token not in the vocabulary": (
        KINDS["gpt2"][0],
        {"eos_token": "</s>"},
        "eos_token is '</s>', which tokenizer.json does not have",
    ),
    "begin token not in the vocabulary": (
        KINDS["gpt2"][0],
        {"eos_token": "<|endoftext|>", "bos_token": {"content": "<s>"}},
        "bos_token is '<s>', which tokenizer.json does not have",
    ),
    "padding token not in the vocabulary": (
        KINDS["gpt2"][0],
        {"eos_token": "<|endoftext|>", "pad_token": "[PAD]"},
        "pad_token is '[PAD]', which tokenizer.json does not have",
    ),
    "no end token": (KINDS["gpt2"][0], {"bos_token": "<|endoftext|>"}, "eos_token is None"),
    "no special token at all": (KINDS["gpt2"][0], {}, "eos_token is None"),
    "an end token that is a number": (
        KINDS["gpt2"][0],
        {"eos_token": 3},
        "eos_token is 3, expected",
    ),
    "an end token that is empty": (KINDS["gpt2"][0], {"eos_token": {}}, "eos_token is None"),
    "a renamed token that the post-processor adds": (
        lambda: changed("llama2", rename_begin),
        {"eos_token": "</s>", "bos_token": "<begin>"},
        "the post-processor adds '<s>' with id 1, the vocabulary has None",
    ),
    "two added tokens with one id": (
        lambda: changed("llama2", lambda content: content["added_tokens"][1].update(id=2)),
        {"eos_token": "</s>"},
        "two added tokens have one id",
    ),
    "an added token at another token's id": (
        lambda: holes("gpt2", {"<|endoftext|>": 40}),
        {"eos_token": "<|endoftext|>"},
        "has id 40, the vocabulary has '",
    ),
    "an added token with two ids": (
        lambda: changed("gpt2", lambda content: content["added_tokens"][0].update(id=5000)),
        {"eos_token": "<|endoftext|>"},
        "has id 5000, the vocabulary has id 0",
    ),
    "no tokenizer": ({"model": 3}, {"eos_token": "a"}, "tokenizer.json: not a tokenizer ("),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path: Path, case: str) -> None:
    made, config, message = REFUSED[case]
    folder = save(tmp_path, made() if callable(made) else made, **config)
    with pytest.raises(InputError) as refused:
        maker.from_folder(folder)
    assert message in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe{}", b"[" * 10**5, None])
def test_files_that_are_no_tokenizer(tmp_path: Path, file: str, content: bytes | None) -> None:
    path = saved(tmp_path, "gpt2") / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="not a tokenizer") as refused:
        maker.from_folder(tmp_path)
    assert "\n" not in str(refused.value)


def test_holes_in_a_unigram_vocabulary_are_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -2.0)], 0))
    tokenizer.add_special_tokens([AddedToken("</s>", special=True)])
    description = json.loads(tokenizer.to_str())
    description["added_tokens"][0]["id"] = 9
    with pytest.raises(InputError, match="'</s>' has id 9, expected 3: a vocabulary of this kind"):
        maker.from_folder(save(tmp_path, description, eos_token="</s>"))


@pytest.mark.parametrize("present", [[], [0], [1], [0, 1]])
@pytest.mark.parametrize("reserved", [0, 1, 4])
def test_chat_marks_where_some_are_there(present: list[int], reserved: int) -> None:
    """A mark in the vocabulary keeps its id; the others take reserved places, or are added."""
    here = [maker.CHAT[number] for number in present]
    tokenizer = byte_level(["<|endoftext|>", *RESERVED[:reserved], *here])
    description = json.loads(tokenizer.to_str())
    # In the vocabulary only: no special token yet.
    description["added_tokens"] = [
        t for t in description["added_tokens"] if t["content"] not in here
    ]
    before = tokenizer.get_vocab()
    marked = maker.with_chat_marks(Tokenizer.from_str(json.dumps(description)))
    missing = len(maker.CHAT) - len(here)
    taken = missing if reserved >= missing else 0
    assert marked.get_vocab_size() == len(before) + missing - taken
    for mark in maker.CHAT:
        assert marked.encode(mark).ids == [marked.token_to_id(mark)]
        assert before.get(mark, marked.token_to_id(mark)) == marked.token_to_id(mark)

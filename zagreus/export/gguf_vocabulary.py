"""A tokenizer.json as the vocabulary of a GGUF file, or one line that says why it cannot be.

llama.cpp knows ways to divide text by name (`tokenizer.ggml.pre`) and has no way to read a
pattern: a tokenizer whose pattern has no name there cannot be exported.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from gguf import TokenType
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split

from zagreus.errors import InputError
from zagreus.evaluation.gguf_tokenizer import LLAMA3, QWEN2

PATTERNS = {LLAMA3: "llama3", QWEN2: "qwen2"}
# Way of dividing, whether a whole word that is a token is taken before merging: llama.cpp's name.
NAMES = {
    ("llama3", True): "llama-bpe",
    ("llama3", False): "dbrx",
    ("qwen2", False): "qwen2",
    ("gpt2", False): "gpt-2",
    ("digits", False): "smollm",
}
TURN_END = "<|im_end|>"


@dataclass(frozen=True)
class Vocabulary:
    """The fields of a GGUF file that describe a tokenizer."""

    pre: str
    """llama.cpp's name of the pre-tokenization."""
    tokens: list[str]
    """Tokens by id."""
    types: list[int]
    """llama.cpp's type of each token."""
    merges: list[str]
    """BPE merges, `left right`, in order."""
    begins: bool
    """Whether a BOS token is put before each text."""
    ends: bool
    """Whether an EOS token is put after each text."""
    special: dict[str, int]
    """Ids of special tokens by role."""


def read_vocabulary(path: Path, rows: int, special: dict[str, str | None]) -> Vocabulary:
    """Read a tokenizer.json.

    Args:
        path: the file.
        rows: of the model's embedding; tokens are added up to it, which no text gives.
        special: text of `bos`, `eos`, `pad`, `unk`.

    Raises:
        InputError: a tokenizer that GGUF cannot express, or one larger than the embedding.
    """
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
        content = json.loads(path.read_text(encoding="utf-8"))
    except Exception as error:  # noqa: BLE001 - tokenizers raises Exception itself
        raise InputError(f"{path}: not a tokenizer ({str(error).splitlines()[0]})") from None
    _check_model(content, path)
    pre = _pre_name(tokenizer, content, path)
    tokens = tokenizer.get_vocab(with_added_tokens=True)
    largest = max(tokens.values()) + 1
    if largest > rows:
        raise InputError(
            f"{path}: the vocabulary has {largest:,} entries, the model's embedding {rows:,} rows"
        )
    texts = [f"[PAD{index}]" for index in range(rows)]
    types = [int(TokenType.UNUSED)] * rows
    for text, index in tokens.items():
        texts[index], types[index] = text, int(TokenType.NORMAL)
    for index, token in tokenizer.get_added_tokens_decoder().items():
        if token.lstrip or token.rstrip or token.single_word:
            raise InputError(
                f"{path}: the token {token.content!r} takes in white space around it, or stands "
                "for whole words alone: GGUF cannot express this"
            )
        texts[index] = token.content
        types[index] = int(TokenType.CONTROL if token.special else TokenType.USER_DEFINED)
    begins, ends = _around(tokenizer, special, path)
    ids = {}
    for name, text in special.items():
        if text is not None:
            if text not in tokens:
                raise InputError(f"{path}: {name}_token {text!r} is not in the vocabulary")
            ids[name] = tokens[text]
    if TURN_END in tokens:
        ids["eot"] = tokens[TURN_END]
    merges = [
        " ".join(merge) if isinstance(merge, list) else merge
        for merge in content["model"]["merges"]
    ]
    return Vocabulary(pre, texts, types, merges, begins, ends, ids)


def _check_model(content: dict[str, Any], path: Path) -> None:
    model = content["model"]
    if model.get("type") != "BPE":
        raise InputError(f"{path}: a tokenizer of the kind {model.get('type')}, expected BPE")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(key):
            raise InputError(f"{path}: {key} is {model[key]!r}, which GGUF cannot express")
    normalizer = content.get("normalizer")
    if normalizer and normalizer != {"type": "Sequence", "normalizers": []}:
        raise InputError(
            f"{path}: a normalizer ({normalizer.get('type')}), which GGUF cannot express"
        )


def _pre_name(tokenizer: tokenizers.Tokenizer, content: dict[str, Any], path: Path) -> str:
    way = _ways().get(_canonical(content.get("pre_tokenizer")))
    name = NAMES.get((way or "", bool(content["model"].get("ignore_merges"))))
    if name is None:
        raise InputError(
            f"{path}: text is divided in a way that llama.cpp has no name for, expected one of "
            f"{', '.join(NAMES.values())}"
        )
    return name


def _ways() -> dict[str, str]:
    """Return the ways of dividing text that have a name, by their canonical description."""
    made: dict[str, Any] = {
        "gpt2": ByteLevel(add_prefix_space=False, use_regex=True),
        "digits": Sequence([Digits(individual_digits=True), ByteLevel(False, use_regex=True)]),
    }
    ways = {_canonical(json.loads(item.__getstate__())): way for way, item in made.items()}
    for pattern, way in PATTERNS.items():
        parts = [
            Split(tokenizers.Regex(pattern), "isolated"),
            ByteLevel(False, use_regex=False),
        ]
        ways[_canonical(json.loads(Sequence(parts).__getstate__()))] = way
    return ways


def _canonical(value: Any) -> str:
    """Return a pre-tokenizer's description as text, without what makes no difference to ids."""
    if isinstance(value, dict):
        value = {
            key: json.loads(_canonical(inner)) if isinstance(inner, (dict, list)) else inner
            for key, inner in value.items()
            if key != "trim_offsets"
        }
    elif isinstance(value, list):
        value = [json.loads(_canonical(inner)) for inner in value]
    return json.dumps(value, sort_keys=True)


def _around(
    tokenizer: tokenizers.Tokenizer, special: dict[str, str | None], path: Path
) -> tuple[bool, bool]:
    """Return whether the tokenizer puts the begin token before a text and the end token after."""
    inner = tokenizer.encode("a", add_special_tokens=False).tokens
    whole = tokenizer.encode("a").tokens
    before, after = [special.get("bos")], [special.get("eos")]
    for begins in (False, True):
        for ends in (False, True):
            if whole == [*(before if begins else []), *inner, *(after if ends else [])]:
                return begins, ends
    raise InputError(
        f"{path}: puts {whole} around a text, expected the begin and the end token at most"
    )

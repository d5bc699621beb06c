"""The tokenizer of a GGUF file, as the model was trained with it.

transformers reads vocabulary and merges of a GGUF file, and not how text is divided before merging:
`tokenizer.ggml.pre` names that. The patterns are those of the models' own tokenizers (Llama 3, Qwen
2, GPT-2, SmolLM), which llama.cpp knows by the same names.
"""

from __future__ import annotations

from typing import Any

import tokenizers.decoders
import tokenizers.normalizers
import tokenizers.pre_tokenizers
import tokenizers.processors
from tokenizers import AddedToken, Regex

from zagreus.errors import InputError

CONTROL, USER_DEFINED = 3, 4  # kinds of tokens (tokenizer.ggml.token_type)
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{%s}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = _WORDS % "1,3"
QWEN2 = _WORDS % "1"
# llama.cpp's names of the same division.
KNOWN = {
    "llama-bpe": "llama3",
    "llama3": "llama3",
    "llama-v3": "llama3",
    "qwen2": "qwen2",
    "deepseek-r1-qwen": "qwen2",
    "gpt-2": "gpt2",
    "phi-2": "gpt2",
    "smollm": "digits",
    "starcoder": "digits",
    "refact": "digits",
}


def set_tokenizer(tokenizer: Any, reader: Any, name: str) -> None:
    """Make a tokenizer that transformers read from a GGUF file divide text as the file says.

    Args:
        tokenizer: of transformers; it is changed.
        reader: the file, `gguf.GGUFReader`.
        name: the file's name, for messages.

    Raises:
        InputError: the file names a kind of tokenizer or a pre-tokenizer that is not known here.
    """
    kind = contents(reader, "tokenizer.ggml.model")
    if kind == "llama":
        return  # sentencepiece: what transformers makes of it is whole
    if kind != "gpt2":
        raise InputError(
            f"{name}: tokenizer of the kind {kind!r}, expected 'gpt2' (byte-level BPE) or 'llama'"
        )
    pre = contents(reader, "tokenizer.ggml.pre")
    if pre not in KNOWN:
        raise InputError(
            f"{name}: unknown pre-tokenizer {pre!r}, expected one of {', '.join(KNOWN)}"
        )
    backend = tokenizer.backend_tokenizer
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.pre_tokenizer = _pre_tokenizer(KNOWN[pre])
    # Qwen's tokenizer composes characters first; no other one does.
    composed = KNOWN[pre] == "qwen2"
    backend.normalizer = (
        tokenizers.normalizers.NFC() if composed else tokenizers.normalizers.Sequence([])
    )
    backend.model.byte_fallback = False
    # Llama 3 takes a word that is a token whole, whatever the merges give.
    backend.model.ignore_merges = KNOWN[pre] == "llama3"
    tokens, kinds = (
        contents(reader, "tokenizer.ggml.tokens"),
        contents(reader, "tokenizer.ggml.token_type"),
    )
    for text, token in zip(tokens or (), kinds or (), strict=False):
        if token == CONTROL:
            backend.add_special_tokens([AddedToken(text, normalized=False, special=True)])
        elif token == USER_DEFINED:
            backend.add_tokens([AddedToken(text, normalized=False, special=False)])
    _set_begin(tokenizer, reader, KNOWN[pre] == "llama3")


def contents(reader: Any, key: str) -> Any:
    """Return the value of a field of a GGUF file, None where the file does not have the field."""
    field = reader.get_field(key)
    return None if field is None else field.contents()


def _pre_tokenizer(kind: str) -> tokenizers.pre_tokenizers.PreTokenizer:
    make = tokenizers.pre_tokenizers
    if kind == "gpt2":
        return make.ByteLevel(add_prefix_space=False, use_regex=True)
    if kind == "digits":
        return make.Sequence(
            [
                make.Digits(individual_digits=True),
                make.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    pattern = LLAMA3 if kind == "llama3" else QWEN2
    return make.Sequence(
        [
            make.Split(Regex(pattern), "isolated"),
            make.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _set_begin(tokenizer: Any, reader: Any, default: bool) -> None:
    """Have the tokenizer begin a text with the begin token where the file says so.

    Llama 3 does by default.
    """
    added = contents(reader, "tokenizer.ggml.add_bos_token")
    begin = tokenizer.bos_token
    if not (default if added is None else added) or begin is None:
        tokenizer.backend_tokenizer.post_processor = tokenizers.processors.ByteLevel(
            trim_offsets=False
        )
        return
    begins = tokenizers.processors.TemplateProcessing(
        single=f"{begin}:0 $A:0",
        pair=f"{begin}:0 $A:0 {begin}:1 $B:1",
        special_tokens=[(begin, tokenizer.bos_token_id)],
    )
    tokenizer.backend_tokenizer.post_processor = begins

"""Tokenizers: trained from text, made from the Llama-3 package, or taken from the hub or a folder.

Every one ends as a transformers tokenizer folder with a begin, an end and a padding token, the two
marks of ChatML, and the ChatML template. Encoding a text puts the begin token before it and nothing
after it: so datatrove writes documents where no end token is asked for, and so the published run
did.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from tqdm import tqdm

from zagreus.atomic import atomic_file
from zagreus.data.foreign_tokenizer import read_folder, vocabulary_size
from zagreus.data.parquet import read_texts
from zagreus.errors import InputError

BEGIN, END, PAD = "<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>"
CHAT = ("<|im_start|>", "<|im_end|>")

# How Llama-3 cuts text before BPE; the pattern is that of transformers' TikTokenConverter.
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| "
    r"?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Llama-3.2's special tokens in the order of their ids, 128000 to 128255, by the names of its
# Hugging Face repository.
LLAMA3_SPECIAL = (
    [
        BEGIN,
        END,
        "<|reserved_special_token_0|>",
        "<|reserved_special_token_1|>",
        PAD,
        "<|reserved_special_token_2|>",
    ]
    + ["<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>"]
    + [f"<|reserved_special_token_{number}|>" for number in range(3, 248)]
)

# Each message is <|im_start|>ROLE, a newline, the content, <|im_end|> and a newline.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|im_start|>assistant\\n' }}{% endif %}"
)


@dataclass
class Built:
    """A tokenizer and the names of its special tokens.

    `begin` is None where it has no begin token; `notes` say what was changed, one line each.
    """

    tokenizer: Tokenizer
    begin: str | None
    end: str
    pad: str
    notes: list[str] = field(default_factory=list)


def train(texts: Iterable[str], vocab_size: int, further: Sequence[str] = ()) -> Built:
    """Train byte-level BPE with the Llama-3 pre-tokenization.

    The same texts give the same tokenizer.

    Args:
        texts: the documents.
        vocab_size: number of tokens, the special ones included.
        further: special tokens beside those of every tokenizer here.

    Raises:
        InputError: the texts have too few different words for that many tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(dict.fromkeys([BEGIN, END, PAD, *CHAT, *further])),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        raise InputError(
            f"tokenizer: the text gives {tokenizer.get_vocab_size()} tokens, vocab_size asks for "
            f"{vocab_size}"
        )
    tokenizer.post_processor = _begin_before(tokenizer)
    return Built(tokenizer, BEGIN, END, PAD)


def from_package(wheel: Path, file: str) -> Built:
    """Make the Llama-3.2 tokenizer from the tiktoken model in a wheel.

    Its ids are those of tiktoken.
    """
    from transformers.convert_slow_tokenizer import TikTokenConverter

    # tiktoken's cache goes by the path alone: a file of another content would not be read.
    os.environ["TIKTOKEN_CACHE_DIR"] = ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(wheel) as archive:
                model = archive.extract(file, folder)
        except (zipfile.BadZipFile, KeyError) as error:
            raise InputError(f"{wheel}: no tokenizer can be read out of it ({error})") from None
        try:
            tokenizer = TikTokenConverter(
                vocab_file=model, extra_special_tokens=LLAMA3_SPECIAL
            ).converted()
        except ValueError as error:
            raise InputError(
                f"{wheel}: {file} is not a tiktoken model ({str(error).splitlines()[0]})"
            ) from None
    tokenizer.post_processor = _begin_before(tokenizer)
    return Built(tokenizer, BEGIN, END, PAD)


def from_folder(folder: Path) -> Built:
    """Take the tokenizer of a transformers folder (`tokenizer.json`, `tokenizer_config.json`)."""
    read = read_folder(folder)
    pad = read.pad or (PAD if read.tokenizer.token_to_id(PAD) is not None else read.end)
    return Built(read.tokenizer, read.begin, read.end, pad, read.notes)


def from_hub(repo: str, revision: str) -> Built:
    """Take the tokenizer of a model repository on the hub."""
    from zagreus.data import hub

    with tempfile.TemporaryDirectory() as folder:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            hub.download_model_file(repo, revision, name, Path(folder))
        return from_folder(Path(folder))


def with_chat_marks(tokenizer: Tokenizer) -> Tokenizer:
    """Return the tokenizer with the two marks of ChatML as special tokens.

    They take the first two reserved places where the vocabulary has such, so that its size stays;
    else they are added.
    """
    special = {
        token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special
    }
    # A mark that is in the vocabulary, but no special token, becomes one at its id.
    plain = [
        mark for mark in CHAT if mark not in special and tokenizer.token_to_id(mark) is not None
    ]
    tokenizer.add_special_tokens([_mark(mark) for mark in plain])
    missing = [mark for mark in CHAT if tokenizer.token_to_id(mark) is None]
    if not missing:
        return tokenizer
    description = json.loads(tokenizer.to_str())
    reserved = [
        token
        for token in description["added_tokens"]
        if re.fullmatch(r"<\|reserved_special_token_\d+\|>", token["content"])
    ]
    vocabulary = description["model"]["vocab"]
    if len(reserved) < len(missing):
        size = vocabulary_size(tokenizer)
        if size != tokenizer.get_vocab_size():
            # The library would take the first hole: a token of the vocabulary keeps its id.
            vocabulary.update(zip(missing, range(size, size + len(missing)), strict=True))
            tokenizer = Tokenizer.from_str(json.dumps(description, ensure_ascii=False))
        tokenizer.add_special_tokens([_mark(mark) for mark in missing])
        return tokenizer
    for mark, token in zip(missing, reserved, strict=False):
        if token["content"] in vocabulary:
            vocabulary[mark] = vocabulary.pop(token["content"])
        token["content"] = mark
    return Tokenizer.from_str(json.dumps(description, ensure_ascii=False))


def _mark(mark: str) -> AddedToken:
    return AddedToken(mark, normalized=False, special=True)


def save(built: Built, folder: Path) -> dict[str, Any]:
    """Write `tokenizer.json` and `tokenizer_config.json`, and return the facts for the manifest."""
    tokenizer = with_chat_marks(built.tokenizer)
    config: dict[str, Any] = {
        "bos_token": built.begin,
        "chat_template": CHATML,
        "clean_up_tokenization_spaces": False,
        "eos_token": built.end,
        "model_input_names": ["input_ids", "attention_mask"],
        "pad_token": built.pad,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    if built.begin is None:
        del config["bos_token"]
    with atomic_file(folder / "tokenizer.json") as partial:
        partial.write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    with atomic_file(folder / "tokenizer_config.json") as partial:
        partial.write_text(
            json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    tokens = {"bos_token": built.begin, "eos_token": built.end, "pad_token": built.pad}
    ids = {
        f"{name}_id": None if token is None else tokenizer.token_to_id(token)
        for name, token in tokens.items()
    }
    return {"vocab_size": vocabulary_size(tokenizer), **tokens, **ids}


def parquet_texts(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the texts of parquet files as `fetch` writes them."""
    for path in tqdm(list(paths), unit="file", desc="read"):
        yield from (text for _, text in read_texts(path, str(path), "text", "id"))


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(LLAMA3_PATTERN), behavior="isolated", invert=False)
    return pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def _begin_before(tokenizer: Tokenizer) -> processors.PostProcessor:
    template = processors.TemplateProcessing(
        single=f"{BEGIN} $A",
        pair=f"{BEGIN}:0 $A:0 {BEGIN}:1 $B:1",
        special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))],
    )
    return processors.Sequence([processors.ByteLevel(trim_offsets=False), template])

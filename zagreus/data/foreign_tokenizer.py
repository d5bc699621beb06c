"""Tokenizers that others saved: a transformers folder read so that ids and texts stay as they are.

docs/inputs.md says what is read, what is changed and what is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from zagreus.errors import InputError

LOADED, CONFIG = "tokenizer.json", "tokenizer_config.json"


@dataclass
class Foreign:
    """A tokenizer that was read.

    Attributes:
        tokenizer: encodes texts of any length; its special tokens are added tokens.
        begin: the begin token, None where it has none.
        end: the end token.
        pad: the padding token, None where it names none.
        notes: what was changed or stands out, one line each.
    """

    tokenizer: Tokenizer
    begin: str | None
    end: str
    pad: str | None
    notes: list[str] = field(default_factory=list)


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """Return the largest id + 1: the rows that an embedding needs. Ids may have holes."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1


def read_folder(folder: Path) -> Foreign:
    """Read `tokenizer.json` and `tokenizer_config.json`.

    Raises:
        InputError: no tokenizer, a special token that the vocabulary lacks, ids that contradict one
            another, no end token.
    """
    description, config = _read_json(folder / LOADED), _read_json(folder / CONFIG)
    notes = []
    saved = [key for key in ("truncation", "padding") if description.get(key) is not None]
    if saved:
        # Each document would be cut at that length, or filled up to it.
        description.update(dict.fromkeys(saved))
        notes.append(f"{LOADED} was saved with {' and '.join(saved)}, which is switched off")
    tokenizer = _with_own_ids(description, folder / LOADED)
    for name, number in _template_tokens(description.get("post_processor")):
        if tokenizer.token_to_id(name) != number:
            problem = f"'{name}' with id {number}, the vocabulary has {tokenizer.token_to_id(name)}"
            raise InputError(f"{folder / LOADED}: the post-processor adds {problem}")
    end, begin, pad = _specials(config, tokenizer, folder)
    special = [
        AddedToken(token, normalized=False, special=True)
        for token in dict.fromkeys(filter(None, (begin, end, pad)))
        if not _is_special(tokenizer, token)
    ]
    tokenizer.add_special_tokens(special)
    holes = vocabulary_size(tokenizer) - tokenizer.get_vocab_size()
    if holes > 0:
        size = f"vocab_size is {vocabulary_size(tokenizer):,}, the largest id + 1"
        notes.append(f"{holes:,} ids have no token: {size}")
    if begin is None:
        notes.append("no begin token: the shards need `end_token: true`")
    return Foreign(tokenizer, begin, end, pad, notes)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: not a tokenizer folder ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a tokenizer folder ({_first_line(error)})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a tokenizer folder (no JSON object)")
    return value


def _with_own_ids(description: dict[str, Any], path: Path) -> Tokenizer:
    """Load a description; each added token keeps the id that stands there.

    The library gives an added token the next free id, whatever stands in the file. A token that the
    model's vocabulary has at an id keeps that id.
    """
    added = description.get("added_tokens") or []
    tokenizer = _load(description, path)
    try:
        ids = {token["content"]: token["id"] for token in added}
    except (TypeError, KeyError):
        raise InputError(f"{path}: an added token without content or id") from None
    if len(set(ids.values())) < len(added):
        raise InputError(f"{path}: two added tokens have one id, or one of them stands there twice")
    moved = [name for name, number in ids.items() if tokenizer.token_to_id(name) != number]
    if not moved:
        return tokenizer
    vocabulary = description["model"].get("vocab")
    if not isinstance(vocabulary, dict):
        what = f"'{moved[0]}' has id {ids[moved[0]]}, expected {tokenizer.token_to_id(moved[0])}"
        raise InputError(f"{path}: {what}: a vocabulary of this kind cannot have holes")
    owners = {number: name for name, number in vocabulary.items()}
    for name, number in ids.items():
        owner = owners.get(number, name)
        if owner != name or vocabulary.get(name, number) != number:
            other = f"id {vocabulary[name]}" if name in vocabulary else f"'{owner}' at that id"
            raise InputError(f"{path}: '{name}' has id {number}, the vocabulary has {other}")
        vocabulary[name] = number
    return _load(description, path)


def _load(description: Mapping[str, Any], path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(json.dumps(description, ensure_ascii=False))
    except Exception as error:  # tokenizers raises plain Exception
        raise InputError(f"{path}: not a tokenizer ({_first_line(error)})") from None


def _template_tokens(processor: Any) -> Iterator[tuple[str, int]]:
    """Yield the tokens that a post-processor adds, with their ids."""
    if not isinstance(processor, dict):
        return
    for part in processor.get("processors") or []:
        yield from _template_tokens(part)
    for token in (processor.get("special_tokens") or {}).values():
        yield from zip(token["tokens"], token["ids"], strict=False)
    for key in ("sep", "cls"):
        if key in processor:
            yield tuple(processor[key])


def _specials(
    config: Mapping[str, Any],
    tokenizer: Tokenizer,
    folder: Path,
) -> tuple[str, str | None, str | None]:
    """Return the end token, the begin token and the padding token."""
    end = _special(config, "eos_token", tokenizer, folder)
    if end is None:
        raise InputError(
            f"{folder / CONFIG}: eos_token is None, expected the token that ends texts"
        )
    begin, pad = (_special(config, key, tokenizer, folder) for key in ("bos_token", "pad_token"))
    return end, begin, pad


def _special(config: Mapping[str, Any], key: str, tokenizer: Tokenizer, folder: Path) -> str | None:
    """Return a special token's text; the config has it plain or as a mapping."""
    value = config.get(key)
    if isinstance(value, dict):
        value = value.get("content")
    if value is None:
        return None
    if not isinstance(value, str):
        raise InputError(f"{folder / CONFIG}: {key} is {value!r}, expected a text")
    if tokenizer.token_to_id(value) is None:
        raise InputError(f"{folder / CONFIG}: {key} is '{value}', which {LOADED} does not have")
    return value


def _is_special(tokenizer: Tokenizer, token: str) -> bool:
    added = tokenizer.get_added_tokens_decoder().values()
    return any(entry.special and entry.content == token for entry in added)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

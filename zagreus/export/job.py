"""One export: the file, its gate, its measurements."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from zagreus.errors import InputError
from zagreus.export import gate
from zagreus.export.formats import Format, Limits
from zagreus.export.gguf_file import write_gguf
from zagreus.export.measure import measure
from zagreus.export.model_folder import ModelFolder
from zagreus.export.reference import Reference
from zagreus.export.runtime import Runtime
from zagreus.export.server import rendered, serving
from zagreus.languages import hub_codes


@dataclass(frozen=True)
class Export:
    """What came out: facts for the manifest, measurements of this run, packages that decide."""

    facts: dict[str, Any]
    measured: dict[str, Any]
    packages: list[str]


def export(
    folder: Path,
    reference_folder: Path,
    form: Format,
    limits: Limits,
    path: Path,
    *,
    title: str,
    languages: list[str],
    threads: int = 1,
) -> Export:
    """Write a model as a file, pass the file through the gate, measure it.

    Args:
        folder: the transformers model.
        reference_folder: what `Reference.save` wrote for this model.
        form: the format.
        limits: of the gate.
        path: the file that is written.
        title: what programs show as the model's name.
        languages: of the model, ISO 639-3.
        threads: of computation.

    Raises:
        InputError: the model cannot be expressed in this format, or the gate holds it back.
    """
    model, reference = ModelFolder(folder), Reference.load(reference_folder)
    chat = bool(reference.chats)
    types = write_gguf(model, form.name, title, hub_codes(languages), chat, path)
    found, texts = pass_gguf(model, reference, form, limits, path, threads)
    facts = gate.facts(found, form, limits)
    return Export(
        facts={
            **facts,
            "tensor_types": dict(sorted(types.items())),
            "texts_with_equal_tokens": texts,
            "bytes": path.stat().st_size,
        },
        measured=measure(path, threads),
        packages=["gguf", "xllamacpp"],
    )


def pass_gguf(
    model: ModelFolder,
    reference: Reference,
    form: Format,
    limits: Limits,
    path: Path,
    threads: int = 1,
) -> tuple[gate.Quality, int]:
    """Put a GGUF file through the gate.

    Returns:
        Its quality, and the number of texts whose tokens are the tokenizer's.

    Raises:
        InputError: something in the runtime is not as in the model; the message says what.
    """
    where = path.name
    longest = max(len(item.ids) for item in reference.documents)
    with Runtime(path, longest, threads) as runtime:
        if runtime.vocab_size != model.shape.vocab_size:
            raise InputError(
                f"{where}: {runtime.vocab_size:,} tokens, the model has {model.shape.vocab_size:,}"
            )
        gate.check_special(model, runtime, _special(model))
        texts = gate.check_tokens(reference, runtime, where)
        template = runtime.chat_template
        found = gate.quality(reference, runtime)
    gate.check_quality(found, limits, where)
    answers = []
    if reference.chats:
        with serving(path, context=512, threads=threads) as address:
            answers = [rendered(address, messages) for messages, _ in reference.chats]
    gate.check_chats(reference, answers, template, model)
    return found, texts


def _special(model: ModelFolder) -> dict[str, int]:
    """Return the ids of the tokenizer's begin and end tokens."""
    tokenizer = tokenizers.Tokenizer.from_file(str(model.folder / "tokenizer.json"))
    found = {name: model.special(f"{name}_token") for name in ("bos", "eos")}
    ids = {name: tokenizer.token_to_id(text) for name, text in found.items() if text is not None}
    return {name: number for name, number in ids.items() if number is not None}

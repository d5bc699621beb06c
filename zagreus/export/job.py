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
from zagreus.export.requests import Requests, answers_of
from zagreus.export.runtime import Runtime
from zagreus.export.server import rendered, serving
from zagreus.languages import hub_codes


@dataclass(frozen=True)
class Export:
    """What came out: facts for the manifest, measurements of this run, packages that decide."""

    facts: dict[str, Any]
    """Facts for the manifest; equal in every run."""
    measured: dict[str, Any]
    """Measurements of this run: times and speeds."""
    packages: list[str]
    """Packages whose versions decide the result."""


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
    requests = Requests.load(reference_folder)
    more: dict[str, Any] = {}
    if form.runtime == "llama.cpp":
        codes, chat = hub_codes(languages), bool(reference.chats)
        types = write_gguf(model, form.name, title, codes, chat, path)
        more["tensor_types"] = dict(sorted(types.items()))
        quality, texts = pass_gguf(model, reference, form, limits, path, threads)
        packages = ["gguf", "xllamacpp"]
    else:
        write_onnx_form(model, form, path)
        quality, texts = pass_onnx(model, reference, limits, path, threads)
        packages = ["onnx", "onnxruntime"]
    more |= {"texts_with_equal_tokens": texts, "bytes": path.stat().st_size}
    if requests is not None:
        more |= requests.facts(answers_of(path, requests, threads), folder / "tokenizer.json")
    return Export(
        facts=gate.facts(quality, form, limits) | more,
        measured=measure(path, threads),
        packages=packages,
    )


def write_onnx_form(model: ModelFolder, form: Format, path: Path) -> None:
    """Write a model as an ONNX file, in 8 bits where the format says so."""
    from zagreus.export.onnx_file import quantize_onnx, write_onnx

    if not form.quantized:
        write_onnx(model, path)
        return
    whole = path.with_name(f".{path.name}.fp32")
    try:
        write_onnx(model, whole, own_head=True)
        quantize_onnx(whole, path)
    finally:
        whole.unlink(missing_ok=True)


def pass_onnx(
    model: ModelFolder, reference: Reference, limits: Limits, path: Path, threads: int = 1
) -> tuple[gate.Quality, int]:
    """Put an ONNX file through the gate; its tokenizer is the model folder's own.

    Returns:
        Its quality, and the number of texts whose tokens are those of transformers.

    Raises:
        InputError: something in the runtime is not as in the model; the message says what.
    """
    from zagreus.export.onnx_runtime import OnnxRuntime

    tokenizer = tokenizers.Tokenizer.from_file(str(model.folder / "tokenizer.json"))
    texts = gate.check_tokens(reference, lambda text: tokenizer.encode(text).ids, path.name)
    with OnnxRuntime(path, model.shape.context, threads) as runtime:
        quality = gate.quality(reference, runtime)
        gate.check_quality(quality, limits, path.name)
        gate.check_cache(reference, runtime, limits, path.name)
    return quality, texts


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
        texts = gate.check_tokens(reference, runtime.tokenize, where)
        template = runtime.chat_template
        quality = gate.quality(reference, runtime)
    gate.check_quality(quality, limits, where)
    answers = []
    if reference.chats:
        with serving(path, context=512, threads=threads) as address:
            answers = [rendered(address, messages) for messages, _ in reference.chats]
    gate.check_chats(reference, answers, template, model)
    return quality, texts


def _special(model: ModelFolder) -> dict[str, int]:
    """Return the ids of the tokenizer's begin and end tokens."""
    tokenizer = tokenizers.Tokenizer.from_file(str(model.folder / "tokenizer.json"))
    texts = {name: model.special(f"{name}_token") for name in ("bos", "eos")}
    ids = {name: tokenizer.token_to_id(text) for name, text in texts.items() if text is not None}
    return {name: number for name, number in ids.items() if number is not None}

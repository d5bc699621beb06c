"""The gate: a file is an export only where its own runtime agrees with the reference.

What is compared, in this order: what ends and begins a text, the chat template, token ids, logits,
bits per byte of each language, greedy tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy

from zagreus.errors import InputError
from zagreus.export.formats import Format, Limits
from zagreus.export.model_folder import ModelFolder
from zagreus.export.reference import Reference, predictions
from zagreus.export.runtime import Runtime


class Logits(Protocol):
    """A runtime that computes logits."""

    def logits(self, ids: Sequence[int]) -> numpy.ndarray:
        """Return logits [len(ids), vocabulary] of a sequence from its beginning."""
        ...


@dataclass(frozen=True)
class Quality:
    """How far a runtime is from the reference."""

    logit_difference: float
    """RMS of the logits' differences over the RMS of the reference's centred logits."""
    bits_per_byte: dict[str, float]
    """Bits per byte of held-out text by language."""
    bits_per_byte_reference: dict[str, float]
    """The reference's bits per byte by language."""
    greedy: float
    """Share of positions with the same likeliest token, each after the true text."""
    positions: int
    """Number of compared positions."""

    @property
    def loss(self) -> float:
        """The largest rise of bits per byte over the reference, of all languages."""
        return max(
            value - self.bits_per_byte_reference[language]
            for language, value in self.bits_per_byte.items()
        )


def quality(reference: Reference, runtime: Logits) -> Quality:
    """Run a runtime on the reference's documents and compare."""
    logprobs, greedy, logits = [], [], []
    for item, span in zip(reference.documents, reference.spans, strict=True):
        document_logits = runtime.logits(item.ids)
        predicted = predictions(document_logits, item.ids)
        logprobs.append(predicted[0])
        greedy.append(predicted[1])
        rows = reference.rows
        logits.append(document_logits[rows[(rows >= span.start) & (rows < span.stop)] - span.start])
    kept = numpy.concatenate(logits)
    if kept.shape != reference.logits.shape:
        raise InputError(
            f"the runtime gives logits of {kept.shape[1]:,} tokens, the model has "
            f"{reference.logits.shape[1]:,}"
        )
    return Quality(
        logit_difference=_relative(kept, reference.logits),
        bits_per_byte=_bits(reference, numpy.concatenate(logprobs)),
        bits_per_byte_reference=_bits(reference, reference.logprobs),
        greedy=float((numpy.concatenate(greedy) == reference.greedy).mean()),
        positions=len(reference.greedy),
    )


def _relative(actual: numpy.ndarray, expected: numpy.ndarray) -> float:
    """Return the relative difference of logits; a constant added to a row changes nothing."""
    one, other = (
        rows.astype(numpy.float64) - rows.mean(axis=1, keepdims=True, dtype=numpy.float64)
        for rows in (actual, expected)
    )
    return float(numpy.sqrt(((one - other) ** 2).mean() / (other**2).mean()))


def _bits(reference: Reference, logprobs: numpy.ndarray) -> dict[str, float]:
    """Return bits per byte of each language."""
    bits: dict[str, float] = {}
    size: dict[str, int] = {}
    for item, span in zip(reference.documents, reference.spans, strict=True):
        spent = -float(logprobs[span].sum(dtype=numpy.float64)) / math.log(2)
        bits[item.language] = bits.get(item.language, 0.0) + spent
        size[item.language] = size.get(item.language, 0) + item.bytes
    return {language: bits[language] / size[language] for language in bits}


def check_quality(measured: Quality, limits: Limits, where: str) -> None:
    """Raise `InputError` where a quality is beyond a limit; NaN is beyond every limit."""
    if not measured.logit_difference <= limits.logits:
        raise InputError(
            f"{where}: logits differ by {measured.logit_difference:.3g} of their size from the "
            f"fp32 model's, expected at most {limits.logits:g}"
        )
    for language, value in measured.bits_per_byte.items():
        rise = value - measured.bits_per_byte_reference[language]
        if not rise <= limits.bits_per_byte:
            raise InputError(
                f"{where}: {value:.4f} bits per byte of {language}, {rise:.4f} more than the fp32 "
                f"model, expected at most {limits.bits_per_byte:g}"
            )
    if not measured.greedy >= limits.greedy:
        raise InputError(
            f"{where}: {measured.greedy:.1%} of the greedy tokens are the fp32 model's, expected "
            f"at least {limits.greedy:.1%}"
        )


def check_tokens(reference: Reference, tokenize: Callable[[str], list[int]], where: str) -> int:
    """Compare token ids of the test set and of held-out text; return the number of texts.

    Raises:
        InputError: a text that the runtime gives other tokens than the tokenizer.
    """
    for text, expected in reference.texts:
        tokens = tokenize(text)
        if tokens != expected:
            index = next(
                (
                    position
                    for position, (one, other) in enumerate(zip(tokens, expected, strict=False))
                    if one != other
                ),
                min(len(tokens), len(expected)),
            )
            raise InputError(
                f"{where}: other tokens than the tokenizer's for {text[:40]!r}: at token {index} "
                f"found {tokens[index : index + 3]}, expected {expected[index : index + 3]}"
            )
    return len(reference.texts)


class Cached(Logits, Protocol):
    """A runtime that goes on from what it has computed."""

    def clear(self) -> None:
        """Forget what was decoded."""
        ...

    def decode(self, ids: Sequence[int], start: int = 0) -> numpy.ndarray:
        """Return the logits of tokens at the positions `start`..., after what was decoded."""
        ...


def check_cache(reference: Reference, runtime: Cached, limits: Limits, where: str) -> None:
    """Compare a text that is read in two parts with the same text read at once.

    Raises:
        InputError: the second part has other logits, beyond the limit.
    """
    ids = max((item.ids for item in reference.documents), key=len)
    half = len(ids) // 2
    whole = runtime.logits(ids)[half:]
    runtime.clear()
    runtime.decode(ids[:half])
    difference = _relative(runtime.decode(ids[half:], half), whole)
    if not difference <= limits.logits:
        raise InputError(
            f"{where}: logits after a text that was read before differ by {difference:.3g} of "
            f"their size, expected at most {limits.logits:g}"
        )


def check_special(model: ModelFolder, runtime: Runtime, special: Mapping[str, int]) -> None:
    """Compare what begins and ends a text, and which tokens end a generation.

    Args:
        model: the folder that was exported.
        runtime: the file.
        special: ids of the tokenizer's `bos` and `eos`, where it has them.

    Raises:
        InputError: one of them is another in the runtime.
    """
    for name, token_id in (("bos", runtime.bos_id), ("eos", runtime.eos_id)):
        expected = special.get(name)
        if expected is not None and token_id != expected:
            raise InputError(
                f"{runtime.path}: the {name} token is {token_id}, expected {expected} as the "
                "tokenizer has it"
            )
    for token in model.ends:
        if not runtime.ends(token):
            raise InputError(
                f"{runtime.path}: generation does not stop at token {token}, at which the model's "
                "generation_config.json stops"
            )


def check_chats(
    reference: Reference, rendered: Sequence[str], template: str | None, model: ModelFolder
) -> None:
    """Compare the chat template and what the runtime makes of it.

    Args:
        reference: with the conversations as transformers renders them.
        rendered: the same by the runtime.
        template: the template in the file.
        model: the folder that was exported.

    Raises:
        InputError: the template, or a rendered conversation, is another one.
    """
    if reference.chats and template != model.chat_template:
        raise InputError(f"{model.folder}: the chat template did not go along whole")
    for (messages, expected), actual in zip(reference.chats, rendered, strict=True):
        if actual != expected:
            raise InputError(
                f"{model.folder}: the runtime renders {len(messages)} messages as {actual[:60]!r}, "
                f"transformers as {expected[:60]!r}"
            )


def facts(measured: Quality, form: Format, limits: Limits) -> dict[str, Any]:
    """Return what the manifest of an export says of the gate."""
    return {
        "format": form.name,
        "runtime": form.runtime,
        "logit_difference": round(measured.logit_difference, 9),
        "bits_per_byte": {key: round(value, 6) for key, value in measured.bits_per_byte.items()},
        "bits_per_byte_fp32": {
            key: round(value, 6) for key, value in measured.bits_per_byte_reference.items()
        },
        "greedy_equal": round(measured.greedy, 6),
        "positions": measured.positions,
        "limits": vars(limits),
    }

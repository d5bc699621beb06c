"""The formats that a model is exported to. Standard library alone: rules and jobs share it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from zagreus.errors import InputError


@dataclass(frozen=True)
class Limits:
    """How far an export may be from the fp32 model."""

    logits: float
    """Largest relative difference of logits (root mean squares)."""
    bits_per_byte: float
    """Largest rise of bits per byte of any language."""
    greedy: float
    """Smallest share of equal greedy tokens."""


@dataclass(frozen=True)
class Format:
    """One format."""

    name: str
    """Name in the configuration."""
    runtime: str
    """What runs the file: `llama.cpp` or `onnxruntime`."""
    hub_name: str
    """Name in file names on model hubs."""
    bits: float
    """Bits of a weight of most matrices."""
    limits: Limits
    """Limits where the configuration has none."""

    @property
    def suffix(self) -> str:
        """The ending of the file's name."""
        return "gguf" if self.runtime == "llama.cpp" else "onnx"

    @property
    def quantized(self) -> bool:
        """Whether weights are stored as small integers with scales."""
        return self.bits < 16


# Bits include the scales: ggml-common.h of llama.cpp, struct block_q8_0 and the others.
FORMATS = {
    item.name: item
    for item in (
        Format("f16", "llama.cpp", "F16", 16.0, Limits(0.005, 0.005, 0.98)),
        Format("q8_0", "llama.cpp", "Q8_0", 8.5, Limits(0.1, 0.02, 0.9)),
        Format("q4_0", "llama.cpp", "Q4_0", 4.5, Limits(0.6, 0.2, 0.6)),
        Format("q4_k_m", "llama.cpp", "Q4_K_M", 4.5, Limits(0.5, 0.15, 0.65)),
        Format("onnx_fp32", "onnxruntime", "fp32", 32.0, Limits(0.0001, 0.0001, 0.999)),
        Format("onnx_int8", "onnxruntime", "int8", 8.0, Limits(0.2, 0.05, 0.8)),
    )
}


def format_of(name: str) -> Format:
    """Return a format by its name. Raise `InputError` for an unknown one."""
    if name not in FORMATS:
        raise InputError(f"format '{name}': expected one of {', '.join(FORMATS)}")
    return FORMATS[name]


def file_name(model: str, checkpoint: str, form: Format) -> str:
    """Return the name of an exported file, as the hubs' programs look for it.

    MODEL-CHECKPOINT-FORMAT.gguf; of ONNX `model.onnx` for fp32, `model_int8.onnx`.
    """
    if form.suffix == "onnx":
        return "model.onnx" if not form.quantized else f"model_{form.hub_name}.onnx"
    return f"{model}-{checkpoint}-{form.hub_name}.{form.suffix}"


def limits_of(name: str, overrides: dict[str, float]) -> Limits:
    """Return a format's limits: the configuration's where it has them."""
    return replace(format_of(name).limits, **overrides)

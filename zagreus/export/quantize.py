"""Weights in the blocks of a GGUF type, made by llama.cpp's own code.

Which type each tensor takes is llama.cpp's rule too (llama-quant.cpp): the package holds the code
for blocks, and not the program that chooses types.
"""

from __future__ import annotations

import ctypes

import gguf
import numpy
from gguf import GGMLQuantizationType as Kind

from zagreus.export.runtime import library

BASE = {"f16": Kind.F16, "q8_0": Kind.Q8_0, "q4_0": Kind.Q4_0, "q4_k_m": Kind.Q4_K}
FILE_TYPES = {
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
    "q4_k_m": gguf.LlamaFileType.MOSTLY_Q4_K_M,
}
# Rows whose length is no multiple of a type's block take the type beside.
NARROW = {Kind.Q4_K: Kind.Q5_0, Kind.Q6_K: Kind.Q8_0, Kind.Q4_0: Kind.F16, Kind.Q8_0: Kind.F16}
ROWS = 4096  # rows that are quantized at a time


def tensor_type(form: str, name: str, width: int, layers: int, tied: bool) -> Kind:
    """Return the type that a tensor takes in a file.

    Args:
        form: name of the format.
        name: the tensor's name in GGUF.
        width: length of a row.
        layers: number of the model's layers.
        tied: whether the embedding is the output matrix too.
    """
    if "norm" in name:
        return Kind.F32
    kind = BASE[form]
    output = name == ("token_embd.weight" if tied else "output.weight")
    if output and form.startswith("q4"):
        kind = Kind.Q6_K
        if width % gguf.GGML_QUANT_SIZES[kind][0]:
            return Kind.Q8_0 if width % 32 == 0 else Kind.F16
    elif form == "q4_k_m" and name.endswith(("attn_v.weight", "ffn_down.weight")):
        kind = Kind.Q6_K if _more_bits(int(name.split(".")[1]), layers) else kind
    while width % gguf.GGML_QUANT_SIZES[kind][0]:
        kind = NARROW.get(kind, Kind.F16)
    return kind


def _more_bits(layer: int, layers: int) -> bool:
    """Tell whether a layer is of the first eighth, the last one, or each third between them."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def quantize(weight: numpy.ndarray, kind: Kind) -> numpy.ndarray:
    """Return a matrix [rows, width] in the blocks of a type: bytes [rows, bytes of a row].

    F32 and F16 keep their numbers, in NumPy's types.
    """
    if kind in (Kind.F32, Kind.F16):
        return weight.astype(numpy.float32 if kind == Kind.F32 else numpy.float16)
    rows, width = weight.shape
    block, size = gguf.GGML_QUANT_SIZES[kind]
    result = numpy.empty((rows, width // block * size), dtype=numpy.uint8)
    call = library().ggml_quantize_chunk
    for start in range(0, rows, ROWS):
        source = numpy.ascontiguousarray(weight[start : start + ROWS], dtype=numpy.float32)
        target = result[start : start + ROWS]
        written = call(
            ctypes.c_int(int(kind)),
            source.ctypes.data_as(ctypes.c_void_p),
            target.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_int64(0),
            ctypes.c_int64(len(source)),
            ctypes.c_int64(width),
            None,
        )
        if written != target.nbytes:
            raise ValueError(f"{kind.name}: {written} bytes written, expected {target.nbytes}")
    return result

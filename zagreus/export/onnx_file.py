"""A transformers Llama as an ONNX graph, with keys and values of earlier positions as inputs.

The operators are those of ONNX 23: RMSNormalization, RotaryEmbedding (halves, as transformers) and
Attention (grouped queries). Names of inputs and outputs are those that optimum and transformers.js
look for: `input_ids`, `position_ids`, `past_key_values.N.key`, `logits`, `present.N.key`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

from zagreus.errors import InputError
from zagreus.export.model_folder import ModelFolder

OPSET, IR_VERSION = 23, 11
LARGEST = 2**31 - 1  # bytes of one protobuf message
POSITIONS = 1024  # rotations are in the file for so many at least: speeds are measured with 640


class _Graph:
    """Nodes and weights of a graph that is being made."""

    def __init__(self, model: ModelFolder) -> None:
        self.model = model
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def weight(self, name: str, array: numpy.ndarray) -> str:
        """Add a constant and return its name."""
        self.weights.append(numpy_helper.from_array(numpy.ascontiguousarray(array), name))
        return name

    def add(self, kind: str, inputs: list[str], output: str, *more: str, **attributes: Any) -> str:
        """Add a node and return its first output."""
        self.nodes.append(helper.make_node(kind, inputs, [output, *more], output, **attributes))
        return output

    def linear(self, x: str, name: str, output: str, *shape: int) -> str:
        """Add a product with a matrix of the model, [outputs, inputs], and return the result."""
        weight = self.model.tensor(name, *shape)
        return self.add("MatMul", [x, self.weight(f"{output}.matrix", weight.T)], output)

    def norm(self, x: str, name: str, output: str) -> str:
        """Add a norm with a weight of the model."""
        shape = self.model.shape
        scale = self.weight(name, self.model.tensor(name, shape.hidden_size))
        return self.add("RMSNormalization", [x, scale], output, epsilon=shape.eps, axis=-1)


def write_onnx(model: ModelFolder, path: Path, own_head: bool = False) -> None:
    """Write a model in fp32 as one ONNX file; the same model gives the same bytes.

    Args:
        model: the transformers folder.
        path: the file.
        own_head: whether a tied head is a matrix of its own, which can be quantized.

    Raises:
        InputError: the file would be larger than ONNX allows, or a weight is missing.
    """
    shape = model.shape
    parameters = shape.vocab_size * shape.hidden_size * (
        1 if shape.tied and not own_head else 2
    ) + shape.layers * (
        2 * shape.hidden_size * (shape.heads * shape.head_size + shape.kv_width)
        + 3 * shape.hidden_size * shape.inner_size
    )
    if 4 * parameters > LARGEST:
        raise InputError(
            f"{model.folder}: {4 * parameters / 1e9:.1f} GB in fp32, but one ONNX file holds at "
            "most 2.1 GB; take a GGUF format"
        )
    graph = _Graph(model)
    exponent = numpy.arange(0, shape.head_size, 2, dtype=numpy.float32) / shape.head_size
    frequencies = (1.0 / shape.rope_theta**exponent).astype(numpy.float32)
    angles = numpy.outer(
        numpy.arange(max(shape.context, POSITIONS), dtype=numpy.float32), frequencies
    )
    graph.weight("rope.cos", numpy.cos(angles))
    graph.weight("rope.sin", numpy.sin(angles))
    embedding = graph.weight(
        "model.embed_tokens.weight",
        model.tensor("model.embed_tokens.weight", shape.vocab_size, shape.hidden_size),
    )
    x = graph.add("Gather", [embedding, "input_ids"], "embedded", axis=0)
    for index in range(shape.layers):
        x = _layer(graph, x, index)
    x = graph.norm(x, "model.norm.weight", "normed")
    if shape.tied and own_head:
        graph.linear(x, "model.embed_tokens.weight", "logits", shape.vocab_size, shape.hidden_size)
    elif shape.tied:
        head = graph.add("Transpose", [embedding], "head", perm=[1, 0])
        graph.add("MatMul", [x, head], "logits")
    else:
        graph.linear(x, "lm_head.weight", "logits", shape.vocab_size, shape.hidden_size)
    onnx.save(_model(graph), str(path))


def _layer(graph: _Graph, x: str, index: int) -> str:
    shape, name = graph.model.shape, f"model.layers.{index}"
    width, query = shape.hidden_size, shape.heads * shape.head_size
    sizes = {"q": query, "k": shape.kv_width, "v": shape.kv_width}
    heads = {"q": shape.heads, "k": shape.kv_heads}
    h = graph.norm(x, f"{name}.input_layernorm.weight", f"{index}.attn_in")
    q, k, v = (
        graph.linear(
            h, f"{name}.self_attn.{projection}_proj.weight", f"{index}.{projection}", size, width
        )
        for projection, size in sizes.items()
    )
    q, k = (
        graph.add(
            "RotaryEmbedding",
            [projection, "rope.cos", "rope.sin", "position_ids"],
            f"{index}.{letter}_rotated",
            num_heads=heads[letter],
        )
        for projection, letter in ((q, "q"), (k, "k"))
    )
    past = [f"past_key_values.{index}.{part}" for part in ("key", "value")]
    present = [f"present.{index}.{part}" for part in ("key", "value")]
    mixed = graph.add(
        "Attention",
        [q, k, v, "", *past],
        f"{index}.mixed",
        *present,
        is_causal=1,
        q_num_heads=shape.heads,
        kv_num_heads=shape.kv_heads,
        scale=shape.head_size**-0.5,
    )
    o = graph.linear(mixed, f"{name}.self_attn.o_proj.weight", f"{index}.o", width, query)
    x = graph.add("Add", [x, o], f"{index}.attended")
    h = graph.norm(x, f"{name}.post_attention_layernorm.weight", f"{index}.mlp_in")
    gate, up = (
        graph.linear(
            h,
            f"{name}.mlp.{projection}_proj.weight",
            f"{index}.{projection}",
            shape.inner_size,
            width,
        )
        for projection in ("gate", "up")
    )
    sigmoid = graph.add("Sigmoid", [gate], f"{index}.sigmoid")
    silu = graph.add("Mul", [gate, sigmoid], f"{index}.silu")
    inner = graph.add("Mul", [silu, up], f"{index}.inner")
    down = graph.linear(
        inner, f"{name}.mlp.down_proj.weight", f"{index}.down", width, shape.inner_size
    )
    return graph.add("Add", [x, down], f"{index}.out")


def _model(graph: _Graph) -> onnx.ModelProto:
    shape = graph.model.shape
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "positions"])
        for name in ("input_ids", "position_ids")
    ]
    caches = {
        side: [
            helper.make_tensor_value_info(
                f"{side}.{index}.{part}",
                TensorProto.FLOAT,
                ["batch", shape.kv_heads, length, shape.head_size],
            )
            for index in range(shape.layers)
            for part in ("key", "value")
        ]
        for side, length in (("past_key_values", "past"), ("present", "total"))
    }
    logits = helper.make_tensor_value_info(
        "logits", TensorProto.FLOAT, ["batch", "positions", shape.vocab_size]
    )
    made = helper.make_graph(
        graph.nodes,
        "llama",
        [*ids, *caches["past_key_values"]],
        [logits, *caches["present"]],
        graph.weights,
    )
    return helper.make_model(
        made,
        producer_name="zagreus",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )


def quantize_onnx(source: Path, path: Path) -> None:
    """Write an ONNX file with its matrices in 8 bits, a scale for each output.

    Activations are quantized as they come (onnxruntime's dynamic quantization).
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        source,
        path,
        op_types_to_quantize=["MatMul", "Gather"],
        per_channel=True,
        weight_type=QuantType.QInt8,
    )

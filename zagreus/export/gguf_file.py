"""A transformers Llama as a GGUF file.

Keys and names of tensors: the GGUF specification (`docs/gguf.md` of ggml) and llama.cpp's
`llama-arch.cpp`. llama.cpp rotates neighbouring dimensions (2i, 2i + 1) of a Llama where
transformers rotates (i, i + D/2): the rows of queries and keys are put in that order. A tied head
is left out, and llama.cpp takes the embedding for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy

from zagreus.export.gguf_vocabulary import read_vocabulary
from zagreus.export.model_folder import ModelFolder, Shape
from zagreus.export.quantize import FILE_TYPES, quantize, tensor_type

LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write_gguf(
    model: ModelFolder, form: str, name: str, languages: list[str], chat: bool, path: Path
) -> dict[str, int]:
    """Write a model as a GGUF file.

    Args:
        model: the transformers folder.
        form: name of the format.
        name: of the model, which programs show.
        languages: ISO 639 codes of the languages.
        chat: whether the model ends its turns: then the chat template goes along.
        path: the file; the same model and format give the same bytes.

    Returns:
        Number of tensors of each type.

    Raises:
        InputError: the model or its tokenizer cannot be expressed.
    """
    shape = model.shape
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("model")
    writer.add_name(name)
    writer.add_languages(languages)
    writer.add_file_type(FILE_TYPES[form])
    if form != "f16":
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_shape(writer, shape)
    _add_vocabulary(writer, model, chat)
    counts: dict[str, int] = {}
    for tensor_name, weight in _tensors(model):
        kind = tensor_type(form, tensor_name, weight.shape[-1], shape.layers, shape.tied)
        writer.add_tensor(tensor_name, quantize(weight, kind), raw_dtype=kind)
        counts[kind.name] = counts.get(kind.name, 0) + 1
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return counts


def _add_shape(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_vocab_size(shape.vocab_size)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner_size)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.eps)


def _add_vocabulary(writer: gguf.GGUFWriter, model: ModelFolder, chat: bool) -> None:
    special = {name: model.special(f"{name}_token") for name in ("bos", "eos", "pad", "unk")}
    vocabulary = read_vocabulary(model.folder / "tokenizer.json", model.shape.vocab_size, special)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_add_bos_token(vocabulary.begins)
    writer.add_add_eos_token(vocabulary.ends)
    add = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "pad": writer.add_pad_token_id,
        "unk": writer.add_unk_token_id,
        "eot": writer.add_eot_token_id,
    }
    for name, number in vocabulary.special.items():
        add[name](number)
    if chat and model.chat_template:
        writer.add_chat_template(model.chat_template)


def _tensors(model: ModelFolder) -> Iterator[tuple[str, numpy.ndarray]]:
    """Yield the tensors with their GGUF names, in float32."""
    shape = model.shape
    width, inner, query = shape.hidden_size, shape.inner_size, shape.heads * shape.head_size
    sizes: dict[str, tuple[int, ...]] = {
        "attn_norm": (width,),
        "attn_q": (query, width),
        "attn_k": (shape.kv_width, width),
        "attn_v": (shape.kv_width, width),
        "attn_output": (width, query),
        "ffn_norm": (width,),
        "ffn_gate": (inner, width),
        "ffn_up": (inner, width),
        "ffn_down": (width, inner),
    }
    yield (
        "token_embd.weight",
        model.tensor("model.embed_tokens.weight", shape.vocab_size, width),
    )
    for index in range(shape.layers):
        for short, name in LAYER.items():
            weight = model.tensor(f"model.layers.{index}.{name}.weight", *sizes[short])
            if short == "attn_q":
                weight = rotated_rows(weight, shape.heads)
            elif short == "attn_k":
                weight = rotated_rows(weight, shape.kv_heads)
            yield f"blk.{index}.{short}.weight", weight
    yield "output_norm.weight", model.tensor("model.norm.weight", width)
    if not shape.tied:
        yield "output.weight", model.tensor("lm_head.weight", shape.vocab_size, width)


def rotated_rows(weight: numpy.ndarray, heads: int) -> numpy.ndarray:
    """Put each head's rows (first half, second half) into the order of neighbours."""
    rows = weight.reshape(heads, 2, -1, weight.shape[1])
    return numpy.ascontiguousarray(rows.swapaxes(1, 2)).reshape(weight.shape)

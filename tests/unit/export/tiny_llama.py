"""A small Llama as a model folder, and its reference by a forward pass in NumPy.

The environment has no torch: the forward pass here is independent of transformers and of
llama.cpp. tests/unit/train compares the reference's job with transformers itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import safetensors.numpy
import tokenizers
from tokenizers import AddedToken, Regex

from zagreus.evaluation.gguf_tokenizer import LLAMA3
from zagreus.export.reference import (
    CONVERSATIONS,
    Document,
    Reference,
    kept_rows,
    predictions,
)
from zagreus.export.texts import token_texts

ROOT = Path(__file__).parents[3]
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
VOCABULARY, ROWS = 600, 640  # more rows than tokens, as a padded embedding has
WIDTH, INNER, LAYERS, HEADS, KV_HEADS, THETA = 256, 256, 2, 8, 4, 500000.0
HEAD = WIDTH // HEADS
# The tokenizer, and with it every number of the tests, follow from the text: one that stays.
TEXT = (ROOT / "LICENSE").read_text(encoding="utf-8")


def make_tokenizer() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    pre = tokenizers.pre_tokenizers
    made.pre_tokenizer = pre.Sequence(
        [
            pre.Split(Regex(LLAMA3), "isolated"),
            pre.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([TEXT], trainer)
    made.add_special_tokens([AddedToken(text, normalized=False) for text in SPECIAL])
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{SPECIAL[0]} $A", special_tokens=[(SPECIAL[0], 0)]
    )
    return made


def make_weights(tied: bool) -> dict[str, numpy.ndarray]:
    random = numpy.random.default_rng(0)

    def draw(*shape: int) -> numpy.ndarray:
        return random.normal(0, 0.08, shape).astype(numpy.float32)

    weights = {
        "model.embed_tokens.weight": draw(ROWS, WIDTH),
        "model.norm.weight": 1 + draw(WIDTH),
    }
    if not tied:
        weights["lm_head.weight"] = draw(ROWS, WIDTH)
    for index in range(LAYERS):
        layer = f"model.layers.{index}"
        weights |= {
            f"{layer}.input_layernorm.weight": 1 + draw(WIDTH),
            f"{layer}.post_attention_layernorm.weight": 1 + draw(WIDTH),
            f"{layer}.self_attn.q_proj.weight": 2 * draw(WIDTH, WIDTH),
            f"{layer}.self_attn.k_proj.weight": 2 * draw(KV_HEADS * HEAD, WIDTH),
            f"{layer}.self_attn.v_proj.weight": draw(KV_HEADS * HEAD, WIDTH),
            f"{layer}.self_attn.o_proj.weight": draw(WIDTH, WIDTH),
            f"{layer}.mlp.gate_proj.weight": draw(INNER, WIDTH),
            f"{layer}.mlp.up_proj.weight": draw(INNER, WIDTH),
            f"{layer}.mlp.down_proj.weight": draw(WIDTH, INNER),
        }
    return weights


def config_of(tied: bool) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "bos_token_id": 0,
        "eos_token_id": 3,
        "head_dim": HEAD,
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "max_position_embeddings": 256,
        "model_type": "llama",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_theta": THETA, "rope_type": "default"},
        "tie_word_embeddings": tied,
        "vocab_size": ROWS,
    }


def write_model(folder: Path, tied: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_of(tied)))
    settings = {
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[3],
        "pad_token": SPECIAL[1],
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, 1]}))
    make_tokenizer().save(str(folder / "tokenizer.json"))
    safetensors.numpy.save_file(make_weights(tied), folder / "model.safetensors")
    return folder


def norm(x: numpy.ndarray, weight: numpy.ndarray) -> numpy.ndarray:
    result: numpy.ndarray = x / numpy.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * weight
    return result


def rotate(x: numpy.ndarray) -> numpy.ndarray:
    """Rotate [positions, heads, HEAD] as transformers does: pairs (i, i + HEAD / 2)."""
    exponent = numpy.arange(0, HEAD, 2) / HEAD
    angles = numpy.outer(numpy.arange(len(x)), THETA**-exponent)[:, None, :]
    first, second = numpy.split(x, 2, axis=-1)
    cosine, sine = numpy.cos(angles), numpy.sin(angles)
    return numpy.concatenate(
        [first * cosine - second * sine, second * cosine + first * sine], axis=-1
    )


def logits_of(weights: dict[str, numpy.ndarray], ids: list[int]) -> numpy.ndarray:
    """Return the logits of a sequence, [positions, ROWS], computed in double precision."""
    w = {name: tensor.astype(numpy.float64) for name, tensor in weights.items()}
    x = w["model.embed_tokens.weight"][ids]
    mask = numpy.triu(numpy.full((len(ids), len(ids)), -numpy.inf), 1)
    for index in range(LAYERS):
        part = {
            name.removeprefix(f"model.layers.{index}.").removesuffix(".weight"): tensor
            for name, tensor in w.items()
        }
        h = norm(x, part["input_layernorm"])
        q, k, v = (
            (h @ part[f"self_attn.{name}_proj"].T).reshape(len(ids), -1, HEAD) for name in "qkv"
        )
        q, k = rotate(q), rotate(k)
        k, v = (numpy.repeat(heads, HEADS // KV_HEADS, axis=1) for heads in (k, v))
        scores = numpy.einsum("phd,shd->hps", q, k) / numpy.sqrt(HEAD) + mask
        scores = numpy.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        mixed = numpy.einsum("hps,shd->phd", scores, v).reshape(len(ids), -1)
        x = x + mixed @ part["self_attn.o_proj"].T
        h = norm(x, part["post_attention_layernorm"])
        gate = h @ part["mlp.gate_proj"].T
        inner = gate / (1 + numpy.exp(-gate)) * (h @ part["mlp.up_proj"].T)
        x = x + inner @ part["mlp.down_proj"].T
    head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
    return (norm(x, w["model.norm.weight"]) @ head.T).astype(numpy.float32)


def make_reference(folder: Path, tied: bool = True) -> Reference:
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    weights = make_weights(tied)
    documents, logprobs, greedy, logits = [], [], [], []
    for number, language in enumerate(("eng", "eng", "ita")):
        text = TEXT[number * 700 : number * 700 + 300]
        ids = tokenizer.encode(text).ids
        documents.append(Document(language, ids, len(text.encode())))
        document_logits = logits_of(weights, ids)
        predicted = predictions(document_logits, ids)
        logprobs.append(predicted[0])
        greedy.append(predicted[1])
        logits.append(document_logits[:-1])
    rows = kept_rows(sum(map(len, greedy)))
    texts = [*token_texts(SPECIAL), TEXT[:2000]]
    return Reference(
        documents=documents,
        texts=[(text, tokenizer.encode(text).ids) for text in texts],
        chats=[(messages, rendered(messages)) for messages in CONVERSATIONS],
        logprobs=numpy.concatenate(logprobs),
        greedy=numpy.concatenate(greedy),
        rows=rows,
        logits=numpy.concatenate(logits)[rows],
    )


def rendered(messages: list[dict[str, str]]) -> str:
    turns = [f"<|im_start|>{item['role']}\n{item['content']}<|im_end|>\n" for item in messages]
    return "".join(turns) + "<|im_start|>assistant\n"

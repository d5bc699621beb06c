"""A small random Llama with a small tokenizer, as a model folder, and data sets to score it on."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet
import tokenizers
import tokenizers.decoders
import tokenizers.pre_tokenizers
import tokenizers.processors
import tokenizers.trainers
import torch
import transformers

from zagreus.manifest import write_manifest

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TEXT = Path(__file__).read_text(encoding="utf-8")
SPECIAL = ["<|begin_of_text|>", "<|im_start|>", "<|im_end|>"]


def make_tokenizer(template: str | None = CHATML) -> transformers.PreTrainedTokenizerFast:
    """Byte-level BPE that begins every text with <|begin_of_text|>, as Llama-3's does."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([TEXT], trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{SPECIAL[0]} $A", special_tokens=[(SPECIAL[0], 0)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=SPECIAL[0],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[2],
        chat_template=template,
    )


def make_model(folder: Path, seed: int = 0, always: int | None = None, context: int = 64) -> Path:
    """Write a model folder and return its manifest.

    `always` makes it write that one token, whatever the prompt.
    """
    tokenizer = make_tokenizer()
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        bos_token_id=0,
        eos_token_id=2,
        initializer_range=0.3,  # far from uniform, so that choices differ
    )
    model = transformers.LlamaForCausalLM(config)
    if always is not None:
        with torch.no_grad():
            for layer in model.model.layers:
                layer.self_attn.o_proj.weight.zero_()
                layer.mlp.down_proj.weight.zero_()
            model.model.embed_tokens.weight[:, 0] = 10.0
            model.lm_head.weight.zero_()
            model.lm_head.weight[always, 0] = 10.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    about = {"kind": "model", "name": f"small/{seed}", "model": "small", "checkpoint": str(seed)}
    write_manifest(folder / "manifest.json", outputs=[folder / "model.safetensors"], **about)
    return folder / "manifest.json"


def make_data(folder: Path, name: str, rows: list[dict]) -> Path:
    """Write a data set's items (split `test` where a row does not say) with its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.parquet"
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{"split": "test", **row} for row in rows]), path
    )
    write_manifest(folder / f"{name}.json", kind="evaluation_data", name=name, outputs=[path])
    return path


def lines(count: int) -> list[str]:
    """Return pieces of text of different lengths."""
    words = TEXT.split()
    return [" ".join(words[start : start + 4 + start % 37]) for start in range(0, 5 * count, 5)]

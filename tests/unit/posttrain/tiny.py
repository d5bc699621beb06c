"""A Llama of a few thousand weights with a byte-level tokenizer, chat rows for it, and the script
run on them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from zagreus.manifest import write_manifest

QUESTIONS = [
    "Come stai?",
    "Chi sei?",
    "Che ore sono?",
    "Dove vai?",
    "What is this?",
    "Who are you?",
]
ANSWERS = [
    "Sto bene, grazie.",
    "Sono un modello piccolo.",
    "Non ho un orologio.",
    "Resto qui.",
    "It is a test.",
    "I am a small model.",
]


def make_base(folder: Path, markers: tuple[str, ...] = ("<|im_start|>", "<|im_end|>")) -> Path:
    """Write a model folder and return its manifest."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|end_of_text|>", *markers]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        QUESTIONS + ANSWERS,
        trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet),
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=special[0],
        eos_token=special[1],
        extra_special_tokens=special[2:],
    )
    torch.manual_seed(0)
    shape = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 256,
    }
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(wrapped),
            bos_token_id=0,
            eos_token_id=1,
            tie_word_embeddings=True,
            **shape,
        )
    )
    model.save_pretrained(folder)
    wrapped.save_pretrained(folder)
    write_manifest(
        folder / "manifest.json",
        kind="model",
        name="tiny/1",
        outputs=[folder / "model.safetensors"],
    )
    return folder / "manifest.json"


def make_rows(path: Path, form: str, count: int) -> Path:
    """Write `count` chat rows of a form (`sft` or `dpo`) and return their manifest."""
    rows = []
    for number in range(count):
        index = number % len(QUESTIONS)
        question = {"role": "user", "content": f"{QUESTIONS[index]} {number}"}
        answer = {"role": "assistant", "content": ANSWERS[index]}
        if form == "sft":
            rows.append({"id": f"{number}/0", "conversation": [question, answer]})
        else:
            other = {"role": "assistant", "content": f"Nothing to say about {number}."}
            rows.append(
                {"id": f"{number}/0", "messages": [question], "chosen": answer, "rejected": other}
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    write_manifest(
        path,
        kind="chat",
        name=path.stem,
        form=form,
        rows=count,
        rows_heldout=0,
        origins=[],
        outputs=[path.with_suffix(".jsonl")],
    )
    return path


def make_recipe(path: Path, shipped: str, **changes: Any) -> Path:
    """Write a shipped recipe with changes."""
    recipe = yaml.safe_load(Path(shipped).read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**recipe, **changes}, sort_keys=False), encoding="utf-8")
    return path


def start(
    run: Path, stage: str, recipe: Path, base: Path, data: Path, *further: str | Path
) -> subprocess.Popen[str]:
    """Start scripts/posttrain.py.

    Paths among `further` are more data sets, texts are options.
    The model goes to `run/models/STAGE`, the working folder is `run/work/STAGE`.
    """
    command = [
        sys.executable,
        "-P",
        "scripts/posttrain.py",
        "--recipe",
        recipe,
        "--base",
        base,
        "--data",
        data,
        *(item for item in further if isinstance(item, Path)),
        "--model",
        "tiny",
    ]
    command += [
        *(item for item in further if not isinstance(item, Path)),
        "--stage",
        stage,
        "--title",
        "Tiny",
        "--languages",
        "ita",
        "--work",
        run / "work" / stage,
        run / "models" / stage / "manifest.json",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    return subprocess.Popen(
        list(map(str, command)),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the script; return its exit status and what it wrote."""
    written, _ = process.communicate(timeout=600)
    return process.returncode, written

"""Conversion: a transformers folder that loads, its proof, and a refusal that leaves nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import load_file, save_file
from small import VOCABULARY, Training, environment
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from zagreus.manifest import sha256_file, write_manifest
from zagreus.model.convert import TOLERANCE, logit_difference
from zagreus.recipe.read import read_recipe

TEXTS = [
    f"In the beginning there were {count} words, and each of them was read from its first letter "
    "to its last."
    for count in range(9)
]


def tokenizer_folder(folder: Path) -> Path:
    """Train a byte-level tokenizer of a few entries; return its manifest."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|begin_of_text|>", "<|end_of_text|>"]
    alphabet = sorted(set(pre_tokenizers.ByteLevel.alphabet()))[:100]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=special[1], eos_token=special[2]
    ).save_pretrained(folder)
    write_manifest(
        folder / "manifest.json",
        kind="tokenizer",
        name="tokenizer",
        vocab_size=VOCABULARY,
        bos_token=special[1],
        eos_token=special[2],
    )
    return folder / "manifest.json"


@pytest.fixture
def trained(tmp_path: Path) -> Training:
    """A checkpoint after eight steps, a tokenizer, and held-out text of its two sources."""
    return prepared(Training(tmp_path))


def prepared(training: Training) -> Training:
    tmp_path = training.root
    done = training.train(8)
    assert done.returncode == 0, done.stderr
    tokenizer_folder(tmp_path / "tokenizer")
    (tmp_path / "sources").mkdir()
    for source in ("a", "b"):
        table = pyarrow.table(
            {"id": [f"{source}:{index}" for index in range(len(TEXTS))], "text": TEXTS}
        )
        pyarrow.parquet.write_table(table, tmp_path / "sources" / f"{source}.heldout.parquet")
        write_manifest(
            tmp_path / "sources" / f"{source}.json",
            kind="source",
            name=f"{source}/00000",
            language="eng",
            licence="public domain",
        )
    return training


def convert(training: Training, *options: str) -> subprocess.CompletedProcess[str]:
    root = training.root
    command = [
        *(
            sys.executable,
            "-P",
            "scripts/convert.py",
            "--checkpoint",
            str(root / "8.json"),
            "--recipe",
            str(root / "recipe.yaml"),
        ),
        *(
            "--model",
            "m",
            "--title",
            "A test",
            "--mixture",
            '{"a": 0.6, "b": 0.4}',
            "--tokenizer",
            str(root / "tokenizer/manifest.json"),
        ),
        *(
            "--sources",
            str(root / "sources/a.json"),
            str(root / "sources/b.json"),
            "--output",
            str(root / "models/m/8/manifest.json"),
        ),
        *options,
    ]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120)


def tamper(training: Training, change) -> None:
    """Change the checkpoint's weights, and the manifest with them."""
    file = training.root / "checkpoints/8/weights.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file)
    manifest = json.loads((training.root / "8.json").read_text())
    manifest["weights_sha256"] = sha256_file(file)
    (training.root / "8.json").write_text(json.dumps(manifest))


def test_a_folder_that_transformers_loads_and_a_proof_that_can_fail(trained: Training) -> None:
    folder = trained.root / "models/m/8"
    (folder).mkdir(parents=True)  # as Snakemake makes it before the job
    done = convert(trained)
    assert done.returncode == 0, done.stderr
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    assert model.generation_config.eos_token_id == 2 and tokenizer.eos_token == "<|end_of_text|>"
    assert model.dtype == torch.float32
    assert (
        model.get_output_embeddings().weight.data_ptr()
        == model.get_input_embeddings().weight.data_ptr()
    )
    ids = tokenizer("In the beginning", return_tensors="pt")["input_ids"]
    assert ids[0, 0] == 1
    assert model.generate(ids, max_new_tokens=4, do_sample=False).shape[1] <= ids.shape[1] + 4
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (
        manifest["kind"] == "model"
        and manifest["name"] == "m/8"
        and manifest["tokens_seen"] == 8 * 128
    )
    assert manifest["logit_difference"] <= manifest["logit_difference_allowed"]
    assert {Path(item["path"]).name for item in manifest["outputs"]} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "README.md",
    }
    card = (folder / "README.md").read_text()
    assert "| a | English | 60.0% | public domain |" in card and "1,024 tokens seen" in card

    # The same folder with keys and values exchanged in one layer: what a wrong layout looks like.
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.1.self_attn.{}_proj.weight"
    weights[name.format("k")], weights[name.format("v")] = (
        weights[name.format("v")],
        weights[name.format("k")],
    )
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    recipe = read_recipe(trained.recipe)
    difference, largest = logit_difference(
        recipe, load_file(trained.root / "checkpoints/8/weights.safetensors"), folder, TEXTS
    )
    assert difference > 10 * TOLERANCE * largest


@pytest.mark.parametrize("trained_in", ["float32", "bfloat16"])
def test_either_type_can_be_written(trained_in: str, tmp_path: Path) -> None:
    """fp32 takes the weights that were trained, not their rounded copy.

    Bf16 is those rounded, with logits within 2 % of the largest.
    """
    training = Training(tmp_path)
    training.write_recipe(model={"dtype": trained_in})
    prepared(training)
    folder, checkpoint, models = tmp_path / "models/m/8", tmp_path / "checkpoints/8", {}
    for dtype in ("float32", "bfloat16"):
        done = convert(training, "--dtype", dtype)
        assert done.returncode == 0, done.stderr
        models[dtype] = AutoModelForCausalLM.from_pretrained(folder)
        assert models[dtype].dtype == getattr(torch, dtype)
        manifest = json.loads((folder / "manifest.json").read_text())
        assert (
            manifest["dtype"] == dtype
            and manifest["logit_difference"] <= manifest["logit_difference_allowed"]
        )
    name = "token_embedding.weight"
    exact = load_file(checkpoint / "weights.safetensors")[name]
    if trained_in == "bfloat16":
        exact = load_file(checkpoint / "optimizer.safetensors")[f"master.{name}"]
        assert not torch.equal(exact, exact.bfloat16().float())
    for dtype, model in models.items():
        assert torch.equal(model.get_input_embeddings().weight, exact.to(getattr(torch, dtype)))
    ids = torch.arange(3, 19)[None]
    with torch.no_grad():
        logits, rounded = (models[dtype].float()(ids).logits for dtype in ("float32", "bfloat16"))
    assert (logits - rounded).abs().max() <= 2e-2 * logits.abs().max()


def test_a_refusal_is_one_line_and_leaves_nothing(trained: Training) -> None:
    def spoil(weights: dict) -> None:
        weights["final_layer_norm.weight"][0] = float("nan")

    tamper(trained, spoil)
    done = convert(trained)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if "error" in line] == [
        done.stderr.strip().splitlines()[-1]
    ]
    assert "logits differ by nan from the trainer's" in done.stderr
    assert not list((trained.root / "models/m").glob("*")) and not list(
        (trained.root / "models/m").glob(".*")
    )


def test_weights_that_are_not_the_manifests(trained: Training) -> None:
    with open(trained.root / "checkpoints/8/weights.safetensors", "ab") as opened:
        opened.write(b"x")
    done = convert(trained)
    assert done.returncode == 2 and "missing or not the weights that" in done.stderr

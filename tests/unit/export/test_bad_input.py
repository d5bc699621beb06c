"""What cannot be exported or run: one line each, and nothing half-written."""

from __future__ import annotations

import json
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tiny_llama import SPECIAL

from zagreus.config.checkpoints import last_checkpoints
from zagreus.errors import InputError
from zagreus.export import job
from zagreus.export.formats import FORMATS, format_of, limits_of
from zagreus.export.gguf_file import write_gguf
from zagreus.export.machine import check_instructions, check_memory
from zagreus.export.model_folder import ModelFolder
from zagreus.export.onnx_runtime import COPIES
from zagreus.export.plan import check_exports, exported
from zagreus.export.reference import Reference
from zagreus.export.runtime import Runtime
from zagreus.export.server import check_port, serving
from zagreus.manifest import write_manifest


def changed(folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))


CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"architectures": ["Qwen2ForCausalLM"]}, "architecture Qwen2ForCausalLM, expected Llama"),
    ({"architectures": None, "model_type": "gpt2"}, "architecture gpt2, expected Llama"),
    ({"attention_bias": True}, "attention_bias is True, expected False"),
    ({"mlp_bias": True}, "mlp_bias is True, expected False"),
    ({"hidden_act": "gelu"}, "hidden_act is 'gelu', expected 'silu'"),
    ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1.0}}, "rope_type is 'llama3'"),
    ({"rope_parameters": None, "rope_scaling": {"type": "linear"}}, "rope_type is 'linear'"),
    ({"vocab_size": 500}, r"is \[640, 256\], expected \[500, 256\]"),
    ({"num_key_value_heads": 8}, r"k_proj.weight' is \[128, 256\], expected \[256, 256\]"),
]


@pytest.mark.parametrize(("change", "line"), CONFIGS, ids=lambda value: str(value)[:30])
def test_another_model(change: dict[str, Any], line: str, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    changed(folder, "config.json", lambda content: content.update(change))
    if change == {"vocab_size": 500}:  # else the tokenizer is what is too large
        line = "the vocabulary has 600 entries, the model's embedding 500 rows"
    with pytest.raises(InputError, match=line):
        write_gguf(ModelFolder(folder), "f16", "small", ["en"], True, tmp_path / "a.gguf")


def strip(content: dict[str, Any]) -> None:
    content["added_tokens"][2]["lstrip"] = True


TOKENIZERS: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda t: t.update(normalizer={"type": "NFC"}), r"a normalizer \(NFC\), which GGUF cannot"),
    (lambda t: t["model"].update(byte_fallback=True), "byte_fallback is True, which GGUF cannot"),
    (lambda t: t["model"].update(dropout=0.5), "dropout is 0.5, which GGUF cannot"),
    (strip, "the token '<|im_start|>' takes in white space"),
    (
        lambda t: t["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex=r"\s+"),
        "divided in a way that llama.cpp has no name for",
    ),
    (lambda t: t.update(pre_tokenizer={"type": "Whitespace"}), "llama.cpp has no name for"),
    (
        lambda t: t["post_processor"]["single"].append(
            {"SpecialToken": {"id": SPECIAL[0], "type_id": 0}}
        ),
        "around a text, expected the begin and the end token at most",
    ),
]


@pytest.mark.parametrize(("change", "line"), TOKENIZERS, ids=lambda value: str(value)[:30])
def test_a_tokenizer_that_gguf_cannot_express(
    change: Callable[[dict[str, Any]], object], line: str, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    changed(folder, "tokenizer.json", change)
    with pytest.raises(InputError, match=line):
        write_gguf(ModelFolder(folder), "f16", "small", ["en"], True, tmp_path / "a.gguf")


def test_another_kind_of_tokenizer(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    made.save(str(folder / "tokenizer.json"))
    with pytest.raises(InputError, match="a tokenizer of the kind WordLevel, expected BPE"):
        write_gguf(ModelFolder(folder), "f16", "small", ["en"], True, tmp_path / "a.gguf")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "model.safetensors"])
def test_a_file_that_is_missing_or_cut(name: str, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=rf"{name}: (invalid JSON|not a whole safetensors file)"):
        ModelFolder(folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match=r"no |not a whole model folder"):
        ModelFolder(folder)


@pytest.mark.parametrize("form", ["f16", "onnx_fp32"])
def test_the_job_ends_in_one_line_and_leaves_nothing(
    form: str, model: Path, reference: Reference, tmp_path: Path
) -> None:
    folder, measure = tmp_path / "model", tmp_path / "reference"
    shutil.copytree(model, folder)
    changed(folder, "config.json", lambda content: content.update(model_type="gpt2"))
    changed(
        folder, "config.json", lambda content: content.update(architectures=["GPT2LMHeadModel"])
    )
    measure.mkdir()
    reference.save(measure)
    about: dict[str, Any] = {"name": "ita/40", "model": "ita", "checkpoint": "40"}
    write_manifest(folder / "manifest.json", kind="model", **about)
    about |= {"languages": ["eng"], "chat": True}
    write_manifest(measure / "manifest.json", kind="export_reference", **about)
    command = [sys.executable, "-P", "scripts/export.py", "--format", form]
    command += ["--model", str(folder / "manifest.json")]
    command += ["--reference", str(measure / "manifest.json")]
    command += ["--output", str(tmp_path / "exports" / form / "manifest.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "config.json: architecture GPT2LMHeadModel, expected LlamaForCausalLM" in done.stderr
    assert [path for path in (tmp_path / "exports").rglob("*") if path.is_file()] == []


def test_a_broken_gguf_file(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(InputError, match=r"a\.gguf: llama\.cpp cannot load this file \(.+\)"):
        Runtime(tmp_path / "a.gguf", 64)
    with pytest.raises(InputError, match=r"none\.gguf: no such file"):
        Runtime(tmp_path / "none.gguf", 64)


def test_the_files_of_a_reference_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"reference\.json: no such file, expected a reference"):
        Reference.load(tmp_path)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the list is of x86-64")
def test_a_processor_without_the_instructions(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags\t\t: fpu sse2 avx f16c\n")
    with pytest.raises(InputError, match=r"no avx2, fma, bmi2; llama\.cpp .* needs avx, avx2"):
        check_instructions(tmp_path / "cpuinfo")


def test_a_model_that_does_not_fit_memory(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable:   1000 kB\n")
    (tmp_path / "a.gguf").write_bytes(bytes(2_000_000))
    line = r"a\.gguf: needs 0\.3 GB of memory with a context of 64 tokens, 0\.0 GB are free"
    with pytest.raises(InputError, match=line):
        check_memory(tmp_path / "a.gguf", 64, tmp_path / "meminfo")


def test_onnxruntime_holds_a_file_several_times(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable:   2000000 kB\n")
    with (tmp_path / "a.onnx").open("wb") as file:
        file.truncate(1_000_000_000)  # a hole: no disk is used
    check_memory(tmp_path / "a.onnx", 64, tmp_path / "meminfo", tmp_path)
    with pytest.raises(InputError, match=r"a\.onnx: needs 4\.3 GB of memory .* 2\.0 GB are free"):
        check_memory(tmp_path / "a.onnx", 64, tmp_path / "meminfo", tmp_path, copies=COPIES)


def test_a_model_that_does_not_fit_the_limit_of_a_job(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable:   90000000 kB\n")
    (tmp_path / "a.gguf").write_bytes(bytes(2_000_000))
    check_memory(tmp_path / "a.gguf", 64, tmp_path / "meminfo", tmp_path)
    (tmp_path / "memory.max").write_text("500000000\n")
    (tmp_path / "memory.current").write_text("400000000\n")
    with pytest.raises(InputError, match=r"needs 0\.3 GB of memory .* 0\.1 GB are free"):
        check_memory(tmp_path / "a.gguf", 64, tmp_path / "meminfo", tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    check_memory(tmp_path / "a.gguf", 64, tmp_path / "meminfo", tmp_path)


def test_a_port_in_use(model: Path, tmp_path: Path) -> None:
    write_gguf(ModelFolder(model), "f16", "small", ["en"], True, tmp_path / "a.gguf")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(InputError, match=rf"127\.0\.0\.1:{port}: cannot listen there"),
            serving(tmp_path / "a.gguf", context=64, threads=1, port=port),
        ):
            pass
    with pytest.raises(InputError, match="no-such-host.invalid:0: cannot listen there"):
        check_port("no-such-host.invalid", 0)
    with pytest.raises(InputError, match="127.0.0.1:99999: cannot listen there"):
        check_port("127.0.0.1", 99999)


def test_the_wrong_model_has_other_logits(
    model: Path, reference: Reference, tmp_path: Path
) -> None:
    path = tmp_path / "a.gguf"
    write_gguf(ModelFolder(model), "q4_0", "small", ["en"], True, path)
    with pytest.raises(InputError, match=r"a\.gguf: logits differ by"):
        job.pass_gguf(ModelFolder(model), reference, FORMATS["f16"], FORMATS["f16"].limits, path)


CONFIG: dict[str, Any] = {
    "models": {
        "ita": {"languages": ["eng", "ita"], "pretrain": {"checkpoints": [40, 120]}},
        "nesso": {"languages": ["ita"], "posttrain": [{"stage": "sft"}, {"stage": "dpo"}]},
        "deu": {"languages": ["deu"], "pretrain": {"checkpoints": [40]}},
    },
    "baselines": {"smol": {"languages": ["eng"]}},
    "evaluation_data": {
        "h_eng": {"kind": "heldout", "language": "eng"},
        "h_ita": {"kind": "heldout", "language": "ita"},
        "c_deu": {"kind": "choice", "language": "deu"},
    },
}


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ({"models": ["itta"]}, "no model is called 'itta', expected one of ita, nesso, deu, smol"),
        ({"models": ["ita/41"]}, "'ita' has no checkpoint '41', expected one of 40, 120"),
        ({"models": ["nesso/120"]}, "'nesso' has no checkpoint '120', expected one of sft, dpo"),
        ({"models": ["deu"]}, "deu speaks deu, expected evaluation_data of the kind heldout"),
        ({"models": [], "limits": {"q4_0": {}}}, "exports.limits: 'q4_0' is not among"),
    ],
)
def test_a_configuration_that_asks_for_what_is_not_there(
    section: dict[str, Any], line: str
) -> None:
    config = CONFIG | {"exports": {"formats": ["f16"]} | section}
    with pytest.raises(InputError, match=line):
        check_exports(config, last_checkpoints(config))


def test_the_last_checkpoint_is_meant_where_none_is_named() -> None:
    section = {"formats": ["f16", "q8_0"], "models": ["ita/40", "nesso", "smol"]}
    config = CONFIG | {"exports": section}
    check_exports(config, last_checkpoints(config))
    assert exported(config, last_checkpoints(config))[::2] == [
        ("ita", "40", "f16"),
        ("nesso", "dpo", "f16"),
        ("smol", "release", "f16"),
    ]
    assert exported(CONFIG, last_checkpoints(CONFIG)) == []


def test_limits_and_formats() -> None:
    assert limits_of("q8_0", {"greedy": 0.5}).greedy == 0.5
    assert limits_of("q8_0", {"greedy": 0.5}).logits == FORMATS["q8_0"].limits.logits
    with pytest.raises(InputError, match="format 'q9': expected one of f16, q8_0, q4_0, q4_k_m"):
        format_of("q9")

"""GGUF files in llama.cpp itself: what is equal, and which faults the gate catches."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
import numpy
import pytest
import safetensors.numpy
from tiny_llama import make_reference, make_weights, write_model

from zagreus.errors import InputError
from zagreus.export import gguf_file, job
from zagreus.export.formats import FORMATS, Limits
from zagreus.export.gguf_file import write_gguf
from zagreus.export.model_folder import ModelFolder
from zagreus.export.quantize import Kind, tensor_type
from zagreus.export.reference import Reference

# The model is random and two layers deep: it loses more to 4 bits than a trained one.
LIMITS = {
    "f16": Limits(0.005, 0.005, 0.97),
    "q8_0": Limits(0.1, 0.05, 0.8),
    "q4_0": Limits(0.8, 1.0, 0.2),
    "q4_k_m": Limits(0.8, 1.0, 0.2),
}


def gate(folder: Path, reference: Reference, path: Path, form: str = "f16") -> None:
    job.pass_gguf(ModelFolder(folder), reference, FORMATS[form], LIMITS[form], path)


@pytest.mark.parametrize("form", ["f16", "q8_0", "q4_0", "q4_k_m"])
def test_every_format_passes_the_gate_and_comes_out_the_same_again(
    form: str, model: Path, reference: Reference, tmp_path: Path
) -> None:
    files = [tmp_path / "one.gguf", tmp_path / "two.gguf"]
    for path in files:
        counts = write_gguf(ModelFolder(model), form, "small", ["en", "it"], True, path)
    gate(model, reference, files[0], form)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert counts["F32"] == 5  # norms keep their numbers
    field = gguf.GGUFReader(files[0]).get_field("general.languages")
    assert field is not None and field.contents() == ["en", "it"]


def test_a_head_of_its_own_goes_along(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", tied=False)
    path = tmp_path / "a.gguf"
    write_gguf(ModelFolder(folder), "f16", "small", ["en"], True, path)
    gate(folder, make_reference(folder, tied=False), path)


def wrong_theta(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        gguf.GGUFWriter,
        "add_rope_freq_base",
        lambda self, value: self.add_float32("llama.rope.freq_base", 10000.0),
    )


def no_permutation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_file, "rotated_rows", lambda weight, heads: weight)


def queries_and_keys_swapped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = gguf_file.rotated_rows
    monkeypatch.setattr(
        gguf_file, "rotated_rows", lambda weight, heads: right(weight, heads)[::-1].copy()
    )


def lost_special_token(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = gguf.GGUFWriter.add_token_types
    monkeypatch.setattr(
        gguf.GGUFWriter,
        "add_token_types",
        lambda self, types: add(self, [1 if index == 2 else t for index, t in enumerate(types)]),
    )


def another_pre_tokenizer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = gguf.GGUFWriter.add_tokenizer_pre
    monkeypatch.setattr(gguf.GGUFWriter, "add_tokenizer_pre", lambda self, _: add(self, "gpt-2"))


def no_begin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = gguf.GGUFWriter.add_add_bos_token
    monkeypatch.setattr(gguf.GGUFWriter, "add_add_bos_token", lambda self, _: add(self, False))


def another_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = gguf.GGUFWriter.add_eos_token_id
    monkeypatch.setattr(gguf.GGUFWriter, "add_eos_token_id", lambda self, _: add(self, 1))


def no_template(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf.GGUFWriter, "add_chat_template", lambda self, _: None)


def another_template(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = gguf.GGUFWriter.add_chat_template
    monkeypatch.setattr(
        gguf.GGUFWriter,
        "add_chat_template",
        lambda self, text: add(self, text.replace("'\\n' + message", "message")),
    )


def other_eps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = gguf.GGUFWriter.add_layer_norm_rms_eps
    monkeypatch.setattr(gguf.GGUFWriter, "add_layer_norm_rms_eps", lambda self, _: add(self, 1e-2))


@pytest.mark.parametrize(
    ("plant", "line"),
    [
        (wrong_theta, "logits differ by"),
        (no_permutation, "logits differ by"),
        (queries_and_keys_swapped, "logits differ by"),
        (other_eps, "logits differ by"),
        (lost_special_token, "other tokens than the tokenizer's"),
        (another_pre_tokenizer, "other tokens than the tokenizer's"),
        (no_begin, "other tokens than the tokenizer's"),
        (another_end, "the eos token is 1, expected 3"),
        (no_template, "the chat template did not go along"),
        (another_template, "the chat template did not go along"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_gate_catches_a_fault(
    plant: Callable[[Path, pytest.MonkeyPatch], None],
    line: str,
    model: Path,
    reference: Reference,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(model, monkeypatch)
    path = tmp_path / "a.gguf"
    write_gguf(ModelFolder(model), "f16", "small", ["en"], True, path)
    with pytest.raises(InputError, match=line):
        gate(model, reference, path)


def test_the_gate_catches_a_head_that_was_taken_for_tied(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", tied=False)
    path = tmp_path / "a.gguf"
    wrong = ModelFolder(folder)
    wrong.shape = replace(wrong.shape, tied=True)
    write_gguf(wrong, "f16", "small", ["en"], True, path)
    with pytest.raises(InputError, match="logits differ by"):
        gate(folder, make_reference(folder, tied=False), path)


def test_a_head_that_is_missing_is_one_line(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", tied=True)
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"no weight 'lm_head\.weight'"):
        write_gguf(ModelFolder(folder), "f16", "small", ["en"], True, tmp_path / "a.gguf")


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        (Limits(1e-9, 1.0, 0.0), "logits differ by .* expected at most 1e-09"),
        (Limits(1.0, -1.0, 0.0), "bits per byte of eng, .* expected at most -1"),
        (Limits(1.0, 1.0, 1.01), "of the greedy tokens are the fp32 model's, expected at least"),
    ],
)
def test_every_limit_holds_an_export_back(
    limits: Limits, line: str, model: Path, reference: Reference, tmp_path: Path
) -> None:
    path = tmp_path / "a.gguf"
    write_gguf(ModelFolder(model), "f16", "small", ["en"], True, path)
    with pytest.raises(InputError, match=line):
        job.pass_gguf(ModelFolder(model), reference, FORMATS["f16"], limits, path)


def test_weights_that_are_not_numbers_are_held_back(
    model: Path, reference: Reference, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    weights = make_weights(tied=True)
    weights["model.norm.weight"][3] = numpy.nan
    safetensors.numpy.save_file(weights, folder / "model.safetensors")
    path = tmp_path / "a.gguf"
    write_gguf(ModelFolder(folder), "f16", "small", ["en"], True, path)
    with pytest.raises(InputError, match="logits differ by nan"):
        gate(folder, reference, path)


@pytest.mark.parametrize(
    ("form", "name", "width", "kind"),
    [
        ("f16", "output_norm.weight", 256, Kind.F32),
        ("q8_0", "token_embd.weight", 256, Kind.Q8_0),
        ("q4_0", "token_embd.weight", 256, Kind.Q6_K),
        ("q4_0", "token_embd.weight", 288, Kind.Q8_0),
        ("q4_0", "token_embd.weight", 100, Kind.F16),
        ("q4_0", "blk.0.attn_q.weight", 256, Kind.Q4_0),
        ("q4_k_m", "blk.0.attn_q.weight", 256, Kind.Q4_K),
        ("q4_k_m", "blk.0.attn_q.weight", 288, Kind.Q5_0),
        ("q4_k_m", "blk.0.attn_v.weight", 256, Kind.Q6_K),
        ("q4_k_m", "blk.2.attn_v.weight", 256, Kind.Q4_K),
        ("q4_k_m", "blk.4.ffn_down.weight", 256, Kind.Q6_K),
        ("q4_k_m", "blk.15.ffn_down.weight", 256, Kind.Q6_K),
        ("q4_k_m", "blk.15.ffn_up.weight", 256, Kind.Q4_K),
    ],
)
def test_types_of_tensors_are_llama_cpps(form: str, name: str, width: int, kind: Kind) -> None:
    assert tensor_type(form, name, width, layers=16, tied=True) == kind


def test_an_untied_embedding_takes_the_formats_own_type() -> None:
    assert tensor_type("q4_k_m", "token_embd.weight", 256, 16, tied=False) == Kind.Q4_K
    assert tensor_type("q4_k_m", "output.weight", 256, 16, tied=False) == Kind.Q6_K

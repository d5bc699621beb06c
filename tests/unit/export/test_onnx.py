"""ONNX files in onnxruntime itself: what is equal, and which faults the gate catches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from tiny_llama import make_reference, write_model

from zagreus.errors import InputError
from zagreus.export import job, onnx_file
from zagreus.export.formats import FORMATS, Limits, file_name
from zagreus.export.model_folder import ModelFolder
from zagreus.export.onnx_runtime import OnnxRuntime
from zagreus.export.reference import Reference

FP32, INT8 = FORMATS["onnx_fp32"], FORMATS["onnx_int8"]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("form", [FP32, INT8], ids=["fp32", "int8"])
def test_a_file_passes_the_gate_and_comes_out_the_same_again(
    form: job.Format, tied: bool, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", tied)
    reference = make_reference(folder, tied)
    files = [tmp_path / "one.onnx", tmp_path / "two.onnx"]
    for path in files:
        job.write_onnx_form(ModelFolder(folder), form, path)
    # The model is random: it loses more to 8 bits than a trained one.
    limits = form.limits if form is FP32 else Limits(0.3, 0.1, 0.6)
    quality, texts = job.pass_onnx(ModelFolder(folder), reference, limits, files[0])
    assert files[0].read_bytes() == files[1].read_bytes()
    assert texts == len(reference.texts) and quality.positions == len(reference.greedy)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "one.onnx", "two.onnx"]
    whole = 4 * sum(int(numpy.prod(ModelFolder(folder).tensor(n).shape)) for n in names(folder))
    size = files[0].stat().st_size
    assert size > whole if form is FP32 else size < (0.6 if tied else 0.4) * whole


def names(folder: Path) -> list[str]:
    return ModelFolder(folder).names


def wrong_theta(model: ModelFolder) -> None:
    model.shape = replace(model.shape, rope_theta=10000.0)


def taken_for_tied(model: ModelFolder) -> None:
    model.shape = replace(model.shape, tied=True)


def other_eps(model: ModelFolder) -> None:
    model.shape = replace(model.shape, eps=1e-2)


@pytest.mark.parametrize("plant", [wrong_theta, taken_for_tied, other_eps])
def test_the_gate_catches_a_fault(plant: Callable[[ModelFolder], None], tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", tied=False)
    wrong = ModelFolder(folder)
    plant(wrong)
    onnx_file.write_onnx(wrong, tmp_path / "a.onnx")
    with pytest.raises(InputError, match=r"a\.onnx: logits differ by"):
        job.pass_onnx(
            ModelFolder(folder), make_reference(folder, False), FP32.limits, tmp_path / "a.onnx"
        )


def test_the_gate_catches_a_cache_that_is_forgotten(
    model: Path, reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_file.write_onnx(ModelFolder(model), tmp_path / "a.onnx")
    right = OnnxRuntime.decode

    def forgets(self: OnnxRuntime, ids: list[int], start: int = 0) -> numpy.ndarray:
        self.clear()
        return right(self, ids, start)

    monkeypatch.setattr(OnnxRuntime, "decode", forgets)
    with pytest.raises(InputError, match="logits after a text that was read before differ"):
        job.pass_onnx(ModelFolder(model), reference, FP32.limits, tmp_path / "a.onnx")


def test_a_tokenizer_that_gives_other_tokens(
    model: Path, reference: Reference, tmp_path: Path
) -> None:
    onnx_file.write_onnx(ModelFolder(model), tmp_path / "a.onnx")
    text, ids = reference.texts[0]
    wrong = replace(reference, texts=[(text, [*ids, 5])])
    with pytest.raises(InputError, match=r"a\.onnx: other tokens than the tokenizer's"):
        job.pass_onnx(ModelFolder(model), wrong, FP32.limits, tmp_path / "a.onnx")


def test_files_that_cannot_be(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"not a graph")
    with pytest.raises(InputError, match=r"a\.onnx: onnxruntime cannot load it"):
        OnnxRuntime(tmp_path / "a.onnx", 64)
    with pytest.raises(InputError, match=r"none\.onnx: no such file, expected an ONNX file"):
        OnnxRuntime(tmp_path / "none.onnx", 64)
    large = ModelFolder(model)
    large.shape = replace(large.shape, layers=10_000)
    with pytest.raises(InputError, match=r"GB in fp32, but one ONNX file holds at most 2\.1 GB"):
        onnx_file.write_onnx(large, tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def test_names_of_files() -> None:
    names = [file_name("nesso", "dpo", form) for form in FORMATS.values()]
    assert names[1] == "nesso-dpo-Q8_0.gguf" and names[3] == "nesso-dpo-Q4_K_M.gguf"
    assert names[4:] == ["model.onnx", "model_int8.onnx"]

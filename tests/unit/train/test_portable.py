"""The portable mode: the same weights under every instruction set that this machine can choose."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from small import Training, environment

from zagreus.launch.variables import PORTABLE
from zagreus.processor import WIDE, processor

STEPS = 2
MODE = {variable.name: variable.value for variable in PORTABLE}
# What a processor without AVX-512 lacks, hidden from the C library's choice of functions too.
WITHOUT_AVX512 = {
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-AVX512CD"
}

pytestmark = pytest.mark.skipif(
    not processor().startswith(WIDE), reason="the portable mode needs a processor with AVX2"
)


def trained(root: Path, *before: str, optimizer: str = "adamW", **variables: str) -> Training:
    """Train a few steps of a model that is wide enough for blocked products."""
    training = Training(root)
    training.write_recipe(
        tokens={"sequence_length": 64}, model=WIDER, optimizer=OPTIMIZERS[optimizer]
    )
    done = subprocess.run(
        [*before, *training.command(STEPS)],
        env=environment() | variables,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return training


WIDER = {
    "model_config": {
        **{"bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "initializer_range": 0.02},
        **{"hidden_size": 128, "intermediate_size": 256, "is_llama_config": True},
        **{"max_position_embeddings": 64, "num_attention_heads": 4, "num_hidden_layers": 2},
        **{"num_key_value_heads": 4, "pad_token_id": None, "pretraining_tp": 1},
        **{"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": True},
        **{"use_cache": True, "vocab_size": 200, "rope_interleaved": False, "rope_scaling": None},
    }
}


ADAM = {"adam_eps": 1e-8, "adam_beta1": 0.9, "adam_beta2": 0.95, "torch_adam_is_fused": True}
OPTIMIZERS = {name: {"optimizer_factory": {**ADAM, "name": name}} for name in ("adamW", "muon")}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weights_are_the_same_with_and_without_avx512(tmp_path: Path, optimizer: str) -> None:
    """Muon's products of matrices (Newton-Schulz) are sums in a fixed order too."""
    portable = trained(tmp_path / "a", optimizer=optimizer, **MODE)
    narrow = trained(tmp_path / "b", optimizer=optimizer, **MODE, **WITHOUT_AVX512)
    assert portable.weights(STEPS) == narrow.weights(STEPS)
    native = trained(tmp_path / "c", optimizer=optimizer)
    if "x86-64-v4" in processor():
        # Otherwise this test could not fail: the mode decides over the bytes here.
        assert native.weights(STEPS) != portable.weights(STEPS)
    losses = [training.log(STEPS)[-1]["loss"] for training in (portable, native)]
    assert abs(losses[0] - losses[1]) < 1e-4


def test_a_save_of_the_other_mode_is_not_gone_on_from(tmp_path: Path) -> None:
    training = trained(tmp_path)
    done = subprocess.run(
        training.command(STEPS + 4, previous=STEPS),
        env=environment() | MODE,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "of other data" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("cpu", ["Haswell", "EPYC"])
def test_weights_are_the_same_on_an_emulated_processor(
    tmp_path: Path, cpu: str, optimizer: str
) -> None:
    """Neither of the two has AVX-512, and one is not Intel's; minutes each."""
    if shutil.which("qemu-x86_64") is None:
        pytest.skip("no qemu-x86_64 (Debian's package qemu-user)")
    here = trained(tmp_path / "here", optimizer=optimizer, **MODE)
    emulated = ("qemu-x86_64", "-cpu", cpu)
    there = trained(tmp_path / "there", *emulated, optimizer=optimizer, **MODE)
    assert here.weights(STEPS) == there.weights(STEPS), os.uname().machine

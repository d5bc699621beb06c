"""What a step of the published shape costs a GPU, counted on meta tensors: a bound for each count.

16,384 tokens. The bounds are a few per cent above what is counted; the loss in eager passes, which
was there once, breaks its bound six times over.
"""

import pytest
import torch
from traces import Trace, install, trace_step

from zagreus.recipe.cost import flops_per_token
from zagreus.recipe.read import read_recipe
from zagreus.training.loss import _adds_in_fp32

RECIPE = read_recipe("recipes/pretrain/zagreus.yaml")
TOKENS = 4 * 4096


@pytest.fixture(scope="module")
def traces() -> dict[str, Trace]:
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        return {
            "all": trace_step(RECIPE, 4),
            "eager loss": trace_step(RECIPE, 4, layers=1, fused_loss=False),
            "one layer": trace_step(RECIPE, 4, layers=1),
            "two layers": trace_step(RECIPE, 4, layers=2),
            "recompute": trace_step(RECIPE, 4, recompute=True),
            "recompute, two layers": trace_step(RECIPE, 4, layers=2, recompute=True),
        }


def test_products_are_those_of_the_formula(traces: dict[str, Trace]) -> None:
    """2.626 GFLOP a token; nanotron's formula has the attention besides, in full."""
    config = RECIPE.model.model_config
    attention = 12.0 * config.num_hidden_layers * config.hidden_size * 4096
    assert traces["all"].flops == pytest.approx(
        TOKENS * (flops_per_token(config, 128_256, 4096) - attention), rel=1e-6
    )
    assert traces["all"].flops == pytest.approx(43.03e12, rel=1e-3)


# torch 2.10 (the CUDA 12 build) cannot add a product to an fp32 matrix in one kernel, as 2.13 can:
# the head's gradient is then added in four kernels and 4.6 GB more.
LOSS_GIGABYTES, LOSS_KERNELS = (
    (9.5, 42) if _adds_in_fp32(torch.device("meta"), torch.bfloat16) else (14.2, 46)
)


@pytest.mark.parametrize(
    ("phase", "gigabytes"),
    [("forward", 60), ("loss", LOSS_GIGABYTES), ("backward", 103), ("optimizer", 20)],
)
def test_element_wise_bytes_of_a_step(
    phase: str, gigabytes: float, traces: dict[str, Trace]
) -> None:
    """Layers one operator at a time; a compiler takes 58 GB for both their passes."""
    assert 0.9 * gigabytes < traces["all"].bytes[phase] / 1e9 < gigabytes


def test_the_loss_in_passes_would_fail(traces: dict[str, Trace]) -> None:
    """60 GB and more: what a run without a compiler has.

    It was 68 when the head's gradient was summed in passes of its own.
    """
    assert traces["eager loss"].bytes["loss"] > 6 * 9.5e9
    assert traces["one layer"].bytes["loss"] == traces["all"].bytes["loss"]


def test_kernels_of_a_layer(traces: dict[str, Trace]) -> None:
    one, two = traces["one layer"].kernels, traces["two layers"].kernels
    assert two["forward"] - one["forward"] <= 29
    assert two["backward"] - one["backward"] <= 46
    assert two["loss"] == one["loss"] <= LOSS_KERNELS
    assert (
        two["optimizer"] == one["optimizer"] <= 7
    )  # norm, scale, update, rounding: however many parameters


def test_what_is_kept_for_backward(traces: dict[str, Trace]) -> None:
    assert 18e9 < traces["all"].saved < 20e9
    assert traces["recompute"].saved < 1.3e9  # a layer's input: 31.5 MB


def test_recomputation_is_one_more_forward_of_the_layers(traces: dict[str, Trace]) -> None:
    plain, recomputed = traces["two layers"], traces["recompute, two layers"]
    layers = traces["two layers"].flops - traces["one layer"].flops
    # Without down_proj, a quarter of it: nothing in the backward pass needs its result.
    assert recomputed.flops - plain.flops == pytest.approx(0.75 * 2 * layers / 3, rel=0.01)
    assert recomputed.bytes["loss"] == plain.bytes["loss"]

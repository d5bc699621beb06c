"""Configurations that transformers 4 and 5 read alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers
from test_baseline import SPECIAL, TEXT, small_tokenizer

from zagreus.model.hf import hf_config
from zagreus.model.versions import for_both_versions, rewrite_config, rewrite_tokenizer_config
from zagreus.recipe.schema import LlamaConfig

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


@pytest.mark.parametrize(
    ("config", "theta", "scaling"),
    [
        ({"rope_parameters": {"rope_theta": 20000.0, "rope_type": "default"}}, 20000.0, None),
        ({"rope_theta": 20000.0}, 20000.0, None),
        (
            {
                "rope_theta": 10000.0,
                "rope_parameters": {"rope_theta": 20000.0, "rope_type": "default"},
            },
            20000.0,
            None,
        ),
        ({"rope_parameters": {"rope_theta": 5e5, **LLAMA3}}, 5e5, LLAMA3),
        ({"rope_theta": 5e5, "rope_scaling": LLAMA3}, 5e5, LLAMA3),
    ],
)
def test_rotary_embeddings(
    tmp_path: Path, config: dict, theta: float, scaling: dict | None
) -> None:
    """The keys of version 4 are the ones that its LlamaConfig reads, and this version reads those
    of 5.
    """
    config_json = for_both_versions({"model_type": "llama", **config})
    assert (config_json["rope_theta"], config_json["rope_scaling"]) == (theta, scaling)
    (tmp_path / "config.json").write_text(json.dumps(config_json))
    read = transformers.AutoConfig.from_pretrained(tmp_path).rope_parameters
    assert read == {"rope_theta": theta, **(scaling or {"rope_type": "default"})}
    assert for_both_versions(config_json) == config_json


def test_embeddings_by_kind_of_layer_stay_as_they_are() -> None:
    config = {
        "rope_parameters": {
            "full_attention": {"rope_theta": 1e6},
            "sliding_attention": {"rope_theta": 1e4},
        }
    }
    assert for_both_versions(config) == config


def test_the_types_of_weights() -> None:
    for config in (
        {"dtype": "bfloat16"},
        {"torch_dtype": "bfloat16"},
        {"dtype": "bfloat16", "torch_dtype": "float32"},
    ):
        assert for_both_versions(config) == {"dtype": "bfloat16", "torch_dtype": "bfloat16"}
    assert for_both_versions({}) == {}


def test_a_converted_model_has_the_theta_of_its_recipe() -> None:
    shape = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "vocab_size": 400,
    }
    content = hf_config(
        LlamaConfig(**shape, bos_token_id=1, eos_token_id=2, rope_theta=20000.0),
        400,
        64,
        "bfloat16",
    )
    assert content["rope_theta"] == content["rope_parameters"]["rope_theta"] == 20000.0
    assert content["dtype"] == content["torch_dtype"] == "bfloat16"


def test_a_saved_tokenizer(tmp_path: Path) -> None:
    """Version 4 has no class TokenizersBackend, and takes `extra_special_tokens` for a mapping."""
    own = transformers.PreTrainedTokenizerFast(
        tokenizer_object=small_tokenizer(),
        eos_token=SPECIAL[2],
        additional_special_tokens=[SPECIAL[1]],
    )
    own.save_pretrained(tmp_path)
    transformers.LlamaConfig(vocab_size=400).save_pretrained(tmp_path)
    rewrite_tokenizer_config(tmp_path)
    rewrite_config(tmp_path)
    written = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert written["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert not isinstance(written.get("extra_special_tokens"), list)
    read = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert read.eos_token == own.eos_token and read.all_special_tokens == own.all_special_tokens
    assert read(TEXT).input_ids == own(TEXT).input_ids

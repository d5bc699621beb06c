"""The memory of a conversion, at the published vocabulary and length.

What it takes, and what its job asks for.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small import environment
from test_convert import TEXTS, tokenizer_folder

from zagreus.recipe.cost import conversion_megabytes
from zagreus.recipe.read import read_recipe

PUBLISHED = Path("recipes/pretrain/zagreus.yaml")
VOCABULARY, LENGTH = 128256, 4096
# Two narrow layers: their weights are 17 MB, so that the logits, 2.1 GB a text, are what can be
# seen.
PROGRAM = """
import resource, sys
from dataclasses import replace
from pathlib import Path
import torch
torch.set_num_threads(1)
from transformers import AutoTokenizer
from zagreus.model.convert import logit_difference, write_hf
from zagreus.model.llama import Llama, initialize
from zagreus.recipe.read import read_recipe

recipe = read_recipe(Path(sys.argv[1]))
shape = {"hidden_size": 32, "intermediate_size": 32}
shape |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
config = replace(recipe.model.model_config, vocab_size=int(sys.argv[4]), **shape)
recipe = replace(recipe, model=replace(recipe.model, model_config=config))
assert recipe.tokens.sequence_length == int(sys.argv[5])
model = Llama(config, config.vocab_size)
initialize(model, recipe.model.init_method, 0)
weights = {name: parameter.detach().bfloat16() for name, parameter in model.named_parameters()}
folder, tokenizer = Path(sys.argv[2]), Path(sys.argv[3])
write_hf(recipe, weights, "bfloat16", tokenizer, folder)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
texts = ["the first " * int(sys.argv[5]), "a short one"]
difference, largest = logit_difference(recipe, weights, folder, texts)
assert 0 < difference < 1e-4 * largest, (difference, largest)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000)
"""


def test_logits_are_never_whole(tmp_path: Path) -> None:
    (tmp_path / "tokenizer").mkdir()
    tokenizer_folder(tmp_path / "tokenizer")
    (tmp_path / "model").mkdir()
    command = [
        sys.executable,
        "-P",
        "-c",
        PROGRAM,
        str(PUBLISHED),
        str(tmp_path / "model"),
        str(tmp_path / "tokenizer"),
    ]
    command += [str(VOCABULARY), str(LENGTH)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert TEXTS and int(done.stdout.splitlines()[-1]) < 900, f"{done.stdout} MB"


@pytest.mark.parametrize(("file", "low", "high"), [("zagreus", 5000, 6000), ("demo", 1000, 1600)])
def test_a_job_asks_for_what_it_needs(file: str, low: int, high: int) -> None:
    """Measured at 0.4B and 4,096 tokens: 4.5 GB; it asked for 3 GB."""
    recipe = read_recipe(Path(f"recipes/pretrain/{file}.yaml"))
    size = VOCABULARY if file == "zagreus" else 16384
    assert low < conversion_megabytes(recipe, size) < high

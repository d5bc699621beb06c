"""A training small enough for a test, as the workflow would start it.

Token shards with manifests, a recipe, the script in a process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from zagreus.manifest import write_manifest
from zagreus.recipe.read import read_recipe, write_recipe

VOCABULARY = 200


def shard(folder: Path, task: str, tokens: np.ndarray) -> Path:
    """Write a token shard as datatrove does, documents of 50 tokens, and its manifest.

    Return the manifest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{task}_unshuffled.ds"
    tokens.astype("<u4").tofile(file)
    np.arange(50, len(tokens) + 1, 50).astype("<u8").tofile(folder / f"{file.name}.index")
    (folder / f"{file.name}.metadata").write_text(f"tokenizer|4\n{len(tokens)}\n{len(tokens)} T")
    write_manifest(
        folder / f"{task}.json",
        kind="tokens",
        name=f"{folder.name}/{task}",
        tokens=len(tokens),
        outputs=[file],
    )
    return folder / f"{task}.json"


def text(seed: int, count: int) -> np.ndarray:
    """Tokens that can be learned: a walk in which each token has few successors."""
    generator = np.random.default_rng(seed)
    steps = generator.integers(1, 4, count)
    return (np.cumsum(steps) * 7 % (VOCABULARY - 10)) + 10


class Training:
    """One model's folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tokens = [
            shard(root / "tokens" / "a", "00000", text(1, 6000)),
            shard(root / "tokens" / "a", "00001", text(2, 3000)),
        ]
        self.tokens.append(shard(root / "tokens" / "b", "00000", text(3, 5000)))
        self.recipe = root / "recipe.yaml"
        self.write_recipe()

    def write_recipe(self, **sections: dict[str, Any]) -> None:
        """Write the recipe, with changed values: `optimizer={"clip_grad": 2.0}`."""
        value = yaml.safe_load(Path("recipes/pretrain/demo.yaml").read_text())
        value["model"]["model_config"] |= {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "vocab_size": VOCABULARY,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
        value["checkpoints"] |= {
            "checkpoints_path": str(self.root / "checkpoints"),
            "checkpoint_interval": 4,
        }
        value["tokens"] |= {
            "sequence_length": 16,
            "micro_batch_size": 2,
            "batch_accumulation_per_replica": 2,
            "train_steps": 60,
        }
        value["optimizer"]["learning_rate_scheduler"] |= {
            "lr_warmup_steps": 5,
            "lr_decay_starting_step": 15,
            "lr_decay_steps": 25,
        }
        value["data_stages"][0]["data"]["dataset"] |= {
            "dataset_folder": [str(self.root / "tokens" / "a"), str(self.root / "tokens" / "b")],
            "dataset_weights": [0.6, 0.4],
        }
        for section, changes in sections.items():
            value.setdefault(section, {}).update(changes)
        self.recipe.write_text(yaml.safe_dump(value))
        write_recipe(read_recipe(self.recipe), self.recipe)

    def command(self, step: int, previous: int | None = None, ranks: int = 1) -> list[str]:
        """The command line of a segment."""
        options = ["--previous", str(self.root / f"{previous}.json")] if previous else []
        return [
            *(
                sys.executable,
                "-P",
                "scripts/pretrain.py",
                "--recipe",
                str(self.recipe),
                "--model",
                "m",
                "--step",
                str(step),
            ),
            *(
                "--ranks",
                str(ranks),
                "--output",
                str(self.root / f"{step}.json"),
                "--tokens",
                *map(str, self.tokens),
                *options,
            ),
        ]

    def train(
        self, step: int, previous: int | None = None, ranks: int = 1
    ) -> subprocess.CompletedProcess[str]:
        """Run a segment to its end."""
        return subprocess.run(
            self.command(step, previous, ranks),
            capture_output=True,
            text=True,
            env=environment(),
            timeout=120,
        )

    def weights(self, step: int) -> str:
        """The hash of the weights that a manifest names."""
        return json.loads((self.root / f"{step}.json").read_text())["weights_sha256"]

    def log(self, step: int) -> list[dict[str, Any]]:
        """The log of a segment."""
        return [json.loads(line) for line in (self.root / f"{step}.jsonl").read_text().splitlines()]


def environment() -> dict[str, str]:
    """This process's environment, with one thread and the repository's library."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}

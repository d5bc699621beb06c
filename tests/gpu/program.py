"""scripts/pretrain.py on real shards that are made on the spot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from engine import RECIPE


class Pretraining:
    """One training in a folder of its own."""

    def __init__(self, setting: Any, name: str, damage: bool = False) -> None:
        """Write shards and recipe.

        `damage` puts a token beyond the vocabulary into every window.
        """
        shape, self.root = setting.shape, setting.out / "program" / name
        self.steps, self.device = (6 if setting.tiny else 12), setting.device
        rows, length = 4, shape.sequence + 1
        generator = np.random.default_rng(0)
        tokens = generator.integers(
            3, shape.vocabulary, rows * self.steps * length + length, dtype=np.uint32
        )
        if damage:
            tokens[::length] = shape.vocabulary
        folder = self.root / "tokens"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "00000_unshuffled.ds"
        tokens.tofile(file)
        np.array([len(tokens)], dtype="<u8").tofile(folder / f"{file.name}.index")
        (folder / f"{file.name}.metadata").write_text(
            f"tokenizer|4\n{len(tokens)}\n{len(tokens)} T"
        )
        value = yaml.safe_load(Path(RECIPE).read_text())
        sizes = asdict(shape)
        value["model"]["model_config"] |= {
            "hidden_size": sizes["hidden"],
            "num_hidden_layers": sizes["layers"],
            "num_attention_heads": sizes["heads"],
            "num_key_value_heads": sizes["pairs"],
            "intermediate_size": sizes["inner"],
            "vocab_size": sizes["vocabulary"],
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
        value["model"]["dtype"] = "bfloat16"
        value["checkpoints"] |= {
            "checkpoint_interval": self.steps // 2,
            "checkpoints_path": str(self.root / "checkpoints"),
        }
        value["tokens"] |= {
            "sequence_length": shape.sequence,
            "micro_batch_size": rows,
            "batch_accumulation_per_replica": 1,
        }
        value["tokens"] |= {"train_steps": self.steps}
        value["parallelism"]["dp"] = 1
        value["optimizer"]["learning_rate_scheduler"] |= {
            "lr_warmup_steps": 2,
            "lr_decay_starting_step": 4,
            "lr_decay_steps": 2,
        }
        value["data_stages"][0]["data"]["dataset"] |= {
            "dataset_folder": [str(folder)],
            "dataset_weights": [1.0],
        }
        self.recipe = self.root / "recipe.yaml"
        self.recipe.write_text(yaml.safe_dump(value))

    def command(self) -> list[str]:
        """Return the command line."""
        made = [
            sys.executable,
            "-P",
            "scripts/pretrain.py",
            "--recipe",
            str(self.recipe),
            "--model",
            "first",
        ]
        return [
            *made,
            "--step",
            str(self.steps),
            "--device",
            self.device,
            "--output",
            str(self.root / f"{self.steps}.json"),
        ]

    def run(self, expect: int = 0) -> tuple[float, str]:
        """Train to the end; return the seconds and what was said on stderr."""
        started = time.perf_counter()
        done = subprocess.run(
            self.command(),
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": os.getcwd()},
        )
        if done.returncode != expect:
            raise SystemExit(
                f"{self.root.name}: status {done.returncode}, expected {expect}: "
                f"{done.stderr[-1500:]}"
            )
        return time.perf_counter() - started, done.stderr

    def stop_at(self, step: int, number: signal.Signals) -> bool:
        """Train, and send a signal once the checkpoint of a step is there.

        Return whether it came in time.
        """
        process = subprocess.Popen(
            self.command(), stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": os.getcwd()}
        )
        while process.poll() is None and not (self.root / "checkpoints" / str(step)).exists():
            time.sleep(0.002)
        process.send_signal(number)
        return process.wait() != 0

    def losses(self) -> list[float]:
        """Return the losses of the log."""
        lines = [
            json.loads(line)
            for line in (self.root / f"{self.steps}.jsonl").read_text().splitlines()
        ]
        return [line["loss"] for line in lines if "loss" in line]

"""Training against its rivals on a CPU.

`make bench BENCH=bench_pretrain_NAME`, for the NAMEs of `SETTINGS`.

Every trainer is a process of its own (tests/benchmarks/engines.py). They make steps in turn, the
order turned round in every second round, so that a drift of the machine's speed meets all alike.
Start, compilation and the first steps are not counted. Two environments are made first with this
machine's pip: the locked one of the `train` image with accelerate, and litgpt's, which does not go
with our transformers. Without a C++ compiler on the machine the compiled rivals are left out, and
the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROUNDS, STEPS, WARM = 7, 2, 3
FIVE = {
    "hidden": 256,
    "inner": 688,
    "layers": 4,
    "heads": 4,
    "pairs": 2,
    "vocabulary": 4096,
    "tied": False,
    "sequence": 512,
    "batch": 8,
}
DEMO = {
    "hidden": 128,
    "inner": 352,
    "layers": 4,
    "heads": 4,
    "pairs": 2,
    "vocabulary": 16384,
    "tied": True,
    "sequence": 256,
    "batch": 16,
}


@dataclass(frozen=True)
class Setting:
    """A model and its batch, the type it trains in, and the cores that a trainer has.

    Ours as ranks, its rivals as threads.
    """

    shape: dict
    dtype: str
    cores: int


SETTINGS = {
    "one_core": Setting(FIVE, "float32", 1),
    "two_cores": Setting(FIVE, "float32", 2),
    "bfloat16": Setting(FIVE, "bfloat16", 1),
    "demo": Setting(DEMO, "float32", 2),
}
ENGINES = {
    "plain": "train",
    "compiled": "train",
    "hf_trainer": "train",
    "litgpt": "litgpt",
    "ours": "train",
    "ours_compiled": "train",
}
COMPILED = ("compiled", "litgpt", "ours_compiled")


def environments(folder: Path) -> None:
    """Make the two environments, or leave those that are there."""
    lock = Path("envs/train.cpu.lock")
    torch = next(
        line.split()[0] for line in lock.read_text().splitlines() if line.startswith("torch==")
    )
    selected = {
        "train": [
            ["--require-hashes", "--no-deps", "-r", str(lock)],
            ["accelerate==1.13.0", "-c", "envs/constraints.txt"],
        ],
        "litgpt": [["litgpt==0.5.13", torch]],
    }
    for name, installs in selected.items():
        environment = folder / name
        if (environment / "complete").exists():
            continue
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
        for arguments in installs:
            subprocess.run(
                [str(environment / "bin/python"), "-m", "pip", "install", "--quiet", *arguments],
                check=True,
            )
        (environment / "complete").touch()


def write_inputs(folder: Path, setting: Setting) -> None:
    """Write the shard, the recipes, and the first weights for transformers.

    Runs in the `train` environment.
    """
    import numpy as np
    import yaml
    from safetensors.torch import save_file

    from zagreus.model.hf import hf_weights
    from zagreus.model.llama import Llama, initialize
    from zagreus.recipe.read import read_recipe

    shape, batch = setting.shape, setting.shape["batch"]
    (folder / "shape.json").write_text(json.dumps(shape))
    (folder / "tokens").mkdir(exist_ok=True)
    # Zipf's law: something can be learned, so that a trainer that does not train would show.
    ranks = np.random.default_rng(1).zipf(1.3, 64 * batch * (shape["sequence"] + 1))
    tokens = (ranks % shape["vocabulary"]).astype("<u2")
    tokens.tofile(folder / "tokens/0.ds")
    (folder / "tokens/0.ds.metadata").write_text(f"none|2\n{len(tokens)}\n")
    value = yaml.safe_load(Path("recipes/pretrain/demo.yaml").read_text())
    value["model"] |= {"dtype": setting.dtype, "init_method": {"std": 0.02}}
    value["model"]["model_config"] |= {
        "hidden_size": shape["hidden"],
        "intermediate_size": shape["inner"],
        "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["heads"],
        "num_key_value_heads": shape["pairs"],
        "vocab_size": shape["vocabulary"],
        "tie_word_embeddings": shape["tied"],
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    value["checkpoints"]["checkpoints_path"] = str(folder / "checkpoints")
    value["parallelism"]["dp"] = setting.cores
    value["tokens"] |= {
        "sequence_length": shape["sequence"],
        "micro_batch_size": batch // setting.cores,
        "train_steps": 10**6,
    }
    value["optimizer"]["learning_rate_scheduler"] |= {
        "learning_rate": 1e-4,
        "lr_warmup_steps": 0,
        "lr_warmup_style": "constant",
        "lr_decay_starting_step": 10**6,
    }
    value["data_stages"][0]["data"]["dataset"] = {
        "dataset_folder": [str(folder / "tokens")],
        "return_positions": False,
    }
    value["zagreus"] = {"end_of_data": "epochs"}
    for name, compiled in (("ours", False), ("ours_compiled", True)):
        value["zagreus"]["compile"] = compiled
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(value))
    recipe = read_recipe(folder / "ours.yaml")
    model = Llama(recipe.model.model_config)
    initialize(model, recipe.model.init_method, recipe.general.seed)
    save_file(
        hf_weights(dict(model.state_dict()), recipe.model.model_config),
        folder / "first.safetensors",
    )


class Engine:
    """A trainer that runs."""

    def __init__(self, name: str, python: Path, folder: Path, setting: Setting) -> None:
        threads = 1 if name.startswith("ours") else setting.cores
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": str(Path.cwd()),
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "compiled" / name),
            "HF_HUB_OFFLINE": "1",
        }
        program = [
            str(python),
            "-P",
            "tests/benchmarks/engines.py",
            "--engine",
            name,
            "--folder",
            str(folder),
        ]
        program += ["--threads", str(setting.cores), "--dtype", setting.dtype]
        with open(folder / f"{name}.log", "w") as log:
            self.process = subprocess.Popen(
                program,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        self.name, self.folder = name, folder

    def steps(self, count: int) -> dict[str, float]:
        """Have so many steps made; return CPU and wall seconds, and the loss."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(
            f"{self.name} ended: {(self.folder / f'{self.name}.log').read_text()[-3000:]}"
        )


def measure(folder: Path, pythons: dict[str, Path], setting: Setting, chosen: list[str]) -> None:
    """Run the trainers in turn and print the table."""
    engines, tokens = [], setting.shape["batch"] * setting.shape["sequence"]
    for name in chosen:
        engine = Engine(name, pythons[ENGINES[name]], folder, setting)
        warm = engine.steps(WARM)
        engines.append(engine)
        print(
            f"{name}: start and {WARM} steps took {warm['wall']:.1f} s, loss {warm['loss']}",
            flush=True,
        )
    taken: dict[str, list[dict[str, float]]] = {engine.name: [] for engine in engines}
    for number in range(ROUNDS):
        for engine in engines if number % 2 == 0 else reversed(engines):
            taken[engine.name].append(engine.steps(STEPS))
    for engine in engines:
        assert engine.process.stdin is not None
        engine.process.stdin.close()
        engine.process.wait()
    print(
        f"\n{setting.shape}, {setting.dtype}, {setting.cores} "
        f"core{'s' if setting.cores > 1 else ''}; {ROUNDS} rounds of {STEPS} steps"
    )
    print(
        "| trainer | tokens a CPU second | times plain (lowest to highest) | tokens a second | "
        "times plain | loss |"
    )
    print("|---|---|---|---|---|---|")
    for name, runs in taken.items():
        cells = []
        for field in ("cpu", "wall"):
            pairs = [
                base[field] / run[field] for base, run in zip(taken["plain"], runs, strict=True)
            ]
            cells += [
                f"{STEPS * tokens / median(run[field] for run in runs):,.0f}",
                f"{median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})",
            ]
        loss = runs[-1]["loss"]
        print(
            f"| {name} | {' | '.join(cells)} | {'' if loss is None else format(loss, '.4f')} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--setting", choices=list(SETTINGS), required=True)
    parser.add_argument(
        "--environments",
        type=Path,
        default=Path("results/bench/environments"),
        help="where the two environments lie",
    )
    parser.add_argument(
        "--engines",
        nargs="*",
        choices=list(ENGINES),
        help="these only; `plain` is what the others are compared with",
    )
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    setting = SETTINGS[options.setting]
    if options.folder:
        write_inputs(options.folder, setting)
        return
    environments(options.environments)
    pythons = {name: options.environments / name / "bin/python" for name in set(ENGINES.values())}
    folder = Path("results/bench/pretrain") / options.setting
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    inputs = [
        str(pythons["train"]),
        "-P",
        __file__,
        "--setting",
        options.setting,
        "--folder",
        str(folder),
    ]
    subprocess.run(inputs, check=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    chosen = options.engines or list(ENGINES)
    if not shutil.which("g++"):
        print(f"no g++ on this machine: without {', '.join(COMPILED)}")
        chosen = [name for name in chosen if name not in COMPILED]
    measure(folder, pythons, setting, chosen)


if __name__ == "__main__":
    main()

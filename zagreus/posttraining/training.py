"""One run of Axolotl.

In this process, or in several under torchrun, on one node or on each of many.

    python -P -m zagreus.posttraining.training CONFIG

is one of the several.
"""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from zagreus.errors import InputError, run
from zagreus.launch.ranks import ALONE, Geometry, hand_on, torchrun
from zagreus.launch.variables import FLIGHT_RECORDER
from zagreus.posttraining.stop import SIGNALS, STATUS, STOP

# What the log keeps of the trainer's: all of it the same in two identical runs. No times, no
# memory, and no count of tokens, which Axolotl gets wrong in a run that was resumed.
KEPT = {
    "epoch": "epoch",
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "eval_loss": "eval_loss",
    "rewards/accuracies": "reward_accuracy",
    "rewards/margins": "reward_margin",
    "completions/mean_length": "answer_tokens",
}


def train(
    config: Path,
    ranks: int,
    geometry: Geometry = ALONE,
    sharded: bool = False,
    module: str = "zagreus.posttraining.training",
    alone: Callable[[Path], None] | None = None,
) -> None:
    """Run `axolotl train` on a rendered recipe, offline, and resume from its last checkpoint where
    there is one. Or another program of a training, which does the same.

    Args:
        config: the rendered recipe.
        ranks: how many processes train on this node; where there is one in all, it is this process.
        geometry: the nodes.
        sharded: the recipe is one of FSDP's: one process too starts under torchrun, since FSDP
            needs a process group. Without FSDP, Axolotl would train bf16 weights without masters.
        module: the program that each of several processes runs on `config`.
        alone: the same in this process; None for Axolotl.

    Raises:
        SystemExit: a signal asked to stop, and a checkpoint to go on from is saved.
    """
    if ranks * geometry.nodes == 1 and not sharded:
        (alone or run_axolotl)(config)
        return
    heard = []

    def remember(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        hand_on(number, frame)

    program = ["-m", module, str(config)]
    # It stays, empty as a rule: the ranks of another node may still write into it.
    dumps = config.parent / FLIGHT_RECORDER
    dumps.mkdir(exist_ok=True)
    command, environment = torchrun("posttrain", ranks, program, geometry, dumps)
    for number in SIGNALS:
        signal.signal(number, remember)
    status = subprocess.run(command, env=environment).returncode
    if status and heard:
        sys.exit(STATUS)
    if status:
        raise InputError(f"the ranks ended with status {status}; what ended each stands above")


def run_axolotl(config: Path) -> None:
    """Train as `axolotl train` does, in this process.

    SystemExit after a signal, once a checkpoint is saved.
    """
    from axolotl.cli.args import TrainerCliArgs
    from axolotl.cli.config import load_cfg
    from axolotl.cli.train import do_train

    # Axolotl collects garbage each time it packs rows, some eight times a stage: a second each
    # where a million objects of imported modules are looked at, nothing where they are left out.
    gc.freeze()
    do_train(load_cfg(str(config)), TrainerCliArgs())


def read_report(checkpoints: Path, processes: int) -> dict[str, Any]:
    """Return what the run reported at its end: `steps`, `epochs`, `processes`, `log_history`.

    `tokens` and `seconds` of its first process.

    Raises:
        InputError: another number of processes took part than were started: each trained alone.
    """
    report = json.loads((checkpoints / "run.json").read_text(encoding="utf-8"))
    if report["processes"] != processes:
        raise InputError(
            f"{checkpoints}: {report['processes']} processes trained together, {processes} were "
            "started"
        )
    return report


def log_lines(report: dict[str, Any], plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the training log.

    A line with the plan, then one for each entry of the trainer's history that has a loss.
    """
    lines = [{"event": "start", **plan}]
    for entry in report["log_history"]:
        kept = {name: entry[key] for key, name in KEPT.items() if key in entry}
        if "loss" in kept or "eval_loss" in kept:
            lines.append({"step": entry["step"], **kept})
    return lines


if __name__ == "__main__":
    STOP.listen()
    run(lambda: run_axolotl(Path(sys.argv[1])))

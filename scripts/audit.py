"""Make an artifact of a finished run again on this machine, and compare the bytes.

    bin/zagreus audit ita 160 --configfile config/demo.yaml      one segment of a training
    bin/zagreus audit --sample 5 --configfile config/demo.yaml   shards, segments, models, scores

The run itself is not written to. Where a training comes out as other bytes on another kind of
processor, the losses are compared step by step. Exit status 0 if all holds, 1 otherwise.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from zagreus.config.long_form import read_config
from zagreus.errors import InputError, run
from zagreus.proof.audit import LOSS_TOLERANCE, Audited, audit, checkpoint_of, choose
from zagreus.proof.run_folder import RunFolder


def main() -> None:
    """Parse the arguments, make the artifacts again, and print what came out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", help="name of a model")
    parser.add_argument("checkpoint", nargs="?", help="a step of its training, or a stage")
    parser.add_argument("--sample", type=int, metavar="N", help="N artifacts at random")
    parser.add_argument("--seed", type=int, help="of the sample; without it another each time")
    parser.add_argument("--configfile", type=Path, default=Path("config.yaml"))
    arguments, others = parser.parse_known_args()
    if (arguments.sample is None) == (arguments.checkpoint is None):
        raise InputError("audit: give a model and a checkpoint, or --sample N")
    config = read_config(arguments.configfile)
    folder = RunFolder(Path(config["pathvars"]["results"]))
    if arguments.sample is None:
        chosen = [checkpoint_of(folder, arguments.model, arguments.checkpoint)]
    else:
        seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
        chosen = choose(folder, arguments.sample, seed)
        print(f"seed {seed}: {', '.join(artifact.title for artifact in chosen)}", file=sys.stderr)
    options = [f"--configfile={arguments.configfile}", *others]
    results = [audit(Path.cwd(), folder, artifact, options) for artifact in chosen]
    for result in results:
        print(_line(result))
    sys.exit(0 if all(result.holds for result in results) else 1)


def _line(result: Audited) -> str:
    if not result.differing:
        return f"{result.title}: all {result.files} files equal"
    before, now = result.processors
    hardware = (
        f"the same processor, {now}" if before == now else f"made on {before}, audited on {now}"
    )
    text = f"{result.title}: {len(result.differing)} of {result.files} files differ ({hardware})"
    if result.largest_loss_difference is None:
        return text
    side = "within" if result.largest_loss_difference <= LOSS_TOLERANCE else "over"
    return (
        f"{text}; losses differ by at most {result.largest_loss_difference:.2g}, {side} the "
        f"tolerance of {LOSS_TOLERANCE:g}"
    )


if __name__ == "__main__":
    run(main)

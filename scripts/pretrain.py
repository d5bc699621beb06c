r"""Train a base model up to one checkpoint: a segment of its recipe.

The program goes on from the previous checkpoint, or from the newest save of a stopped run. With
--ranks above 1 it starts itself under torchrun. On several nodes zagreus/cluster/launch.py starts
the program on each node.

    python scripts/pretrain.py --recipe results/demo/pretrain/ita/40.yaml --model ita --step 40 \
        --ranks 2 --tokens results/demo/tokens/eng_wiki/00000.json \
        --output results/demo/pretrain/ita/40.json
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from pathlib import Path

from zagreus.errors import run
from zagreus.launch.ranks import Geometry, add_geometry, torchrun
from zagreus.launch.variables import FLIGHT_RECORDER


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--recipe", type=Path, required=True, help="rendered recipe (nanotron's schema)"
    )
    parser.add_argument("--model", required=True, help="name of the model")
    parser.add_argument("--step", type=int, required=True, help="step to train up to")
    parser.add_argument(
        "--previous",
        type=Path,
        help="manifest of the checkpoint to go on from; without it the model starts anew",
    )
    parser.add_argument(
        "--from",
        dest="origin",
        type=Path,
        help=(
            "start from another model's weights: manifest of a checkpoint, folder of a "
            "nanotron checkpoint or of a transformers Llama"
        ),
    )
    parser.add_argument(
        "--tokens",
        type=Path,
        nargs="*",
        default=[],
        help="manifests of the token shards in the recipe's folders",
    )
    parser.add_argument(
        "--ranks",
        type=int,
        default=1,
        help="processes that train together on this node (default 1)",
    )
    parser.add_argument(
        "--device",
        choices=["cpu", "cuda"],
        default="cpu",
        help="where to train; cuda takes one GPU a rank",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="manifest of the checkpoint, STEP.json; the log goes beside it, STEP.jsonl",
    )
    add_geometry(parser)
    arguments = parser.parse_args()
    # A rank of torchrun has its place in the environment, and its node's arguments too.
    geometry = Geometry.of(arguments)

    from zagreus.recipe.memory import require_memory
    from zagreus.recipe.read import read_recipe, recipe_slice
    from zagreus.training.segment import TOLD, plan_segment, told_segment

    recipe = read_recipe(arguments.recipe)
    ranks = int(os.environ.get("WORLD_SIZE", arguments.ranks * geometry.nodes))
    if arguments.device == "cpu":
        require_memory(recipe, str(arguments.recipe), arguments.ranks, ranks)
    if "RANK" in os.environ and TOLD in os.environ:
        segment = told_segment(recipe, arguments.step, ranks, os.environ[TOLD])
    else:
        segment = plan_segment(
            recipe, arguments.step, arguments.previous, arguments.tokens, ranks, arguments.origin
        )
    if "RANK" not in os.environ:
        from zagreus.launch.gpus import claim_gpus
        from zagreus.training.lock import lock

        if geometry.node == 0:
            lock(segment.folder)
        if arguments.device == "cuda":
            claim_gpus(arguments.ranks)
        if ranks > 1:
            os.environ[TOLD] = segment.told()
            start_ranks(arguments.ranks, geometry, segment.folder)
    else:
        # A rank must not outlive its launcher: a second run would find it still writing
        # checkpoints.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

    import torch.distributed

    from zagreus.manifest import write_manifest
    from zagreus.training.loop import Interrupted, join_ranks, run_segment

    process = join_ranks(arguments.device)
    if process.device.type == "cuda":
        memory = torch.cuda.get_device_properties(process.device).total_memory
        require_memory(recipe, str(arguments.recipe), 1, ranks, memory, "a GPU")
    try:
        state, how = run_segment(segment, process, arguments.output.with_suffix(".jsonl"))
    except Interrupted as interruption:
        if process.rank == 0:
            print(interruption, file=sys.stderr)
            if "ZAGREUS_STOPPED" in os.environ:
                Path(os.environ["ZAGREUS_STOPPED"]).touch()
        sys.exit(128 + signal.SIGTERM)
    if process.rank == 0:
        folder = segment.folder / str(segment.step)
        write_manifest(
            arguments.output,
            kind="checkpoint",
            name=f"{arguments.model}/{segment.step}",
            inputs=[
                *arguments.tokens,
                *(
                    item
                    for item in (arguments.previous, arguments.origin)
                    if item and item.suffix == ".json"
                ),
            ],
            outputs=[folder / name for name in state.sha256],
            packages=["torch", "numpy", "safetensors"],
            circumstances=how,
            model=arguments.model,
            step=segment.step,
            seed=recipe.general.seed,
            tokens_seen=state.tokens,
            recipe_fingerprint=state.recipe,
            data_fingerprint=state.data,
            weights_sha256=state.sha256["weights.safetensors"],
            recipe=recipe_slice(recipe, segment.step, segment.origin_sha256),
            origin_sha256=segment.origin_sha256,
            stage_weights=[
                recipe.zagreus.absent_weights
                if stage.data.dataset.dataset_weights is None
                else "given"
                for stage in recipe.data_stages
            ],
        )
    if process.count > 1:
        torch.distributed.destroy_process_group()


def start_ranks(count: int, geometry: Geometry, folder: Path) -> None:
    """Become torchrun, which starts this program `count` times on this node.

    Args:
        folder: the checkpoints'; dumps of a hung collective go to `flight-recorder` beside it.
    """
    dumps = folder.parent / FLIGHT_RECORDER
    dumps.mkdir(parents=True, exist_ok=True)
    command, environment = torchrun("pretrain", count, sys.argv, geometry, dumps)
    sys.stderr.flush()
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    run(main)

"""A segment of a training: what it starts from, where it ends, and whether it can run at all.

No torch here: it is asked first.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zagreus.errors import InputError
from zagreus.manifest import read_manifest, sha256_file
from zagreus.processor import is_portable
from zagreus.recipe.read import fingerprint, recipe_slice
from zagreus.recipe.schema import Recipe
from zagreus.training.nanoset import TokenFolder, open_folders, stage_weights

# The variable by which a launcher tells its ranks what it has checked. 64 ranks that each look at
# 576 shards would ask a shared file system for a million entries.
TOLD = "ZAGREUS_SEGMENT"


@dataclass
class Segment:
    """The steps after `previous` (0: none) up to `step`."""

    recipe: Recipe
    step: int
    previous: int
    data: str  # fingerprint of the token shards
    origin: Path | None = None  # the other model whose weights are the first ones
    origin_sha256: str | None = None  # of those weights

    @property
    def folder(self) -> Path:
        """Where checkpoints lie."""
        return Path(self.recipe.checkpoints.checkpoints_path)

    def told(self) -> str:
        """Return what a launcher says to its ranks of the segment, for the variable `TOLD`."""
        origin = None if self.origin is None else str(self.origin)
        return json.dumps(
            {
                "previous": self.previous,
                "data": self.data,
                "origin": origin,
                "origin_sha256": self.origin_sha256,
            }
        )

    def recipe_fingerprint(self, step: int) -> str:
        """Return the fingerprint of what the recipe says up to a step."""
        return fingerprint(recipe_slice(self.recipe, step, self.origin_sha256))


def plan_segment(
    recipe: Recipe,
    step: int,
    previous: Path | None,
    manifests: list[Path],
    ranks: int,
    origin: Path | None = None,
) -> Segment:
    """Check what can be checked before any device is asked for.

    Args:
        previous: manifest of the checkpoint to go on from; None starts from the first weights.
        manifests: manifests of the token shards, or of all of a source's; none where the folders
            were not made by this workflow.
        ranks: processes that will train together.
        origin: the model whose weights are the first ones, where there is no previous checkpoint:
            manifest of a checkpoint, or folder of a nanotron or transformers model.

    Raises:
        InputError: ranks that cannot share a batch, a step beyond the recipe, a previous checkpoint
            of another recipe, too few tokens, shards that do not fit their manifests.
    """
    if step > recipe.tokens.train_steps:
        raise InputError(
            f"step {step} is beyond the recipe's tokens.train_steps ({recipe.tokens.train_steps})"
        )
    recipe = shared_among(recipe, ranks)
    stages = [open_folders(recipe, stage) for stage in recipe.data_stages]
    folders = list({folder.path: folder for stage in stages for folder in stage}.values())
    data = fingerprint(
        [
            [folder.identity() for folder in folders],
            [sha256_file(manifest) for manifest in manifests],
            # A save of the other mode must not be gone on from; without the mode nothing changes.
            *([["portable"]] if is_portable() else []),
        ]
    )
    _check_shards(folders, manifests)
    need_windows(recipe, stages, step)
    segment = Segment(recipe, step, 0, data)
    if origin is not None and previous is None:
        segment.origin, segment.origin_sha256 = origin, origin_sha256(origin)
    if previous is not None:
        manifest = read_manifest(previous, "checkpoint")
        segment.previous = manifest["step"]
        segment.origin_sha256 = manifest["origin_sha256"]
        if segment.previous >= step:
            raise InputError(
                f"{previous}: a checkpoint of step {segment.previous}, expected one before step "
                f"{step}"
            )
        if manifest["recipe_fingerprint"] != segment.recipe_fingerprint(segment.previous):
            raise InputError(
                f"{previous}: a checkpoint of another recipe; the step it belongs to must be "
                "trained again first"
            )
        if manifest["data_fingerprint"] not in (
            None,
            data,
        ):  # None: adopted, its data were another's
            raise InputError(
                f"{previous}: a checkpoint of other data; the step it belongs to must be trained "
                "again first"
            )
    return segment


def told_segment(recipe: Recipe, step: int, ranks: int, told: str) -> Segment:
    """Return the segment that a launcher planned and checked (`Segment.told`)."""
    fields = json.loads(told)
    origin = fields.pop("origin")
    return Segment(
        shared_among(recipe, ranks), step, origin=None if origin is None else Path(origin), **fields
    )


def shared_among(recipe: Recipe, ranks: int) -> Recipe:
    """Return the recipe with a micro batch that `ranks` can share evenly.

    Its own, or the largest part of it. The global batch stays.

    Raises:
        InputError: the sequences of a step cannot be shared evenly; the message lists the numbers
            of ranks that can.
    """
    whole, micro = recipe.global_batch_size, recipe.tokens.micro_batch_size
    if ranks < 1 or whole % ranks:
        possible = ", ".join(str(number) for number in range(1, whole + 1) if whole % number == 0)
        raise InputError(
            f"{ranks} ranks cannot share the {whole} sequences of a step evenly; these numbers of "
            f"ranks can: {possible}"
        )
    part = next(
        size for size in range(micro, 0, -1) if micro % size == 0 and whole % (size * ranks) == 0
    )
    accumulation = recipe.tokens.batch_accumulation_per_replica * micro // part
    return replace(
        recipe,
        tokens=replace(
            recipe.tokens, micro_batch_size=part, batch_accumulation_per_replica=accumulation
        ),
    )


def origin_sha256(origin: Path) -> str:
    """Return the hash that stands for another model's weights.

    Raise `InputError` where there is none, or not the one of the manifest.
    """
    if origin.suffix == ".json":
        manifest = read_manifest(origin, "checkpoint")
        weights = Path(
            next(
                item["path"]
                for item in manifest["outputs"]
                if item["path"].endswith("weights.safetensors")
            )
        )
        if not weights.exists() or sha256_file(weights) != manifest["weights_sha256"]:
            raise InputError(f"{weights}: missing or not the weights that {origin} names")
        return str(manifest["weights_sha256"])
    latest = origin / "latest.txt"
    folder = origin / latest.read_text(encoding="utf-8").strip() if latest.exists() else origin
    files = sorted(
        item
        for pattern in ("*.safetensors", "*.pt")
        for item in folder.rglob(pattern)
        if item.is_file()
    )
    if not files:
        raise InputError(f"{origin}: no model to start from (no *.safetensors in it)")
    return fingerprint([[str(file.relative_to(folder)), sha256_file(file)] for file in files])


def need_windows(recipe: Recipe, stages: list[list[TokenFolder]], steps: int) -> None:
    """Raise `InputError` where a folder has fewer windows than its share of `steps` steps, unless
    the recipe wants epochs.

    The blending never draws more than the weight times the samples, rounded up: see
    `zagreus.training.blend.drawn_at`.
    """
    if recipe.zagreus.end_of_data == "epochs":
        return
    width, need, shares, have = (
        recipe.tokens.sequence_length + 1,
        dict[str, int](),
        dict[str, list[str]](),
        dict[str, int](),
    )
    starts = [stage.start_training_step - 1 for stage in recipe.data_stages]
    for stage, folders, start, end in zip(
        recipe.data_stages, stages, starts, [*starts[1:], steps], strict=True
    ):
        samples = max(0, min(end, steps) - start) * recipe.global_batch_size
        for folder, weight in zip(folders, stage_weights(recipe, stage, folders), strict=True):
            need[folder.path] = need.get(folder.path, 0) - int(-weight * samples // 1)
            shares.setdefault(folder.path, []).append(f"{weight:g}")
            have[folder.path] = len(folder)
    for path, count in need.items():
        if count > have[path]:
            raise InputError(
                f"{path}: too few tokens for {steps} steps: weight {' and '.join(shares[path])} "
                f"needs {count * width:,} tokens ({count:,} windows of {width}), "
                f"{(count - have[path]) * width:,} are missing; "
                "zagreus.end_of_data: epochs reads them again"
            )


def shard_manifests(manifests: list[Path]) -> list[Path]:
    """Return the manifests of single token shards, those that an index of a source stands for in
    its place.
    """
    shards: list[Path] = []
    for manifest in manifests:
        read = read_manifest(manifest)
        shards += (
            [Path(item["path"]) for item in read["inputs"]]
            if read["kind"] == "token_index"
            else [manifest]
        )
    return shards


def _check_shards(folders: list[TokenFolder], manifests: list[Path]) -> None:
    """Raise `InputError` where the shards in the folders are not exactly those of the manifests."""
    if not manifests:
        return
    expected: dict[Path, Any] = {}
    for manifest in shard_manifests(manifests):
        for output in read_manifest(manifest, "tokens")["outputs"]:
            if output["path"].endswith(".ds"):
                expected[Path(output["path"]).resolve()] = (output["bytes"], manifest)
    for folder in folders:
        for file in folder.files:
            size, manifest = expected.pop(file.resolve(), (None, None))
            if size is None:
                raise InputError(
                    f"{file}: a token shard that no manifest names; remove it, or the tasks that "
                    "made it belong to the config"
                )
            if size != file.stat().st_size:
                raise InputError(
                    f"{file}: {file.stat().st_size} bytes, expected {size} ({manifest})"
                )
    for path, (_, manifest) in expected.items():
        raise InputError(f"{path}: missing from the recipe's folders, expected by {manifest}")

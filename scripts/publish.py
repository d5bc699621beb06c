"""Push models of a run to a model hub, with their cards completed by the run's scores.

Without a token, or with --dry-run, it says what it would push.

    bin/zagreus publish results/demo/models/ita/120 owner/name
    bin/zagreus publish results/demo/models/ita/120 owner/name --revision step-120
    bin/zagreus publish --configfile config/demo.yaml --dry-run     all that its `publish` names

Only what the folders' manifests vouch for is pushed, and only where its bytes are still those of
the manifest; a revision holds exactly the files of the printed list. HF_ENDPOINT names another hub.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The images keep everything off the network; this program is for the network.
os.environ |= {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}
if not sys.stderr.isatty():
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # a log has lines

from huggingface_hub import constants

from zagreus.atomic import atomic_file
from zagreus.config.long_form import read_config
from zagreus.config.publication import published
from zagreus.credentials import mask, read_token
from zagreus.data.hub import check_repository
from zagreus.data.push import Upload, push_revision
from zagreus.errors import InputError, run
from zagreus.manifest import read_manifest, sha256_file
from zagreus.reporting.lineage import Lineage
from zagreus.reporting.model_card import complete_card
from zagreus.reporting.tables import read_tables


@dataclass(frozen=True)
class Target:
    """A model folder, and the revision of a repository that it becomes."""

    folder: Path
    repository: str
    revision: str


def main() -> None:
    """Print what is pushed, and push it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", type=Path, nargs="?", help="a model folder: RESULTS/models/MODEL/CHECKPOINT"
    )
    parser.add_argument(
        "repository", nargs="?", help="owner/name on the hub; it is made where there is none"
    )
    parser.add_argument(
        "--revision", action="append", help="branch of the repository (main); several are allowed"
    )
    parser.add_argument(
        "--configfile", type=Path, help="publish all checkpoints that its `publish` names"
    )
    parser.add_argument(
        "--public",
        action="store_true",
        help="make a new repository public; it is private otherwise",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be pushed")
    parser.add_argument("--receipt", type=Path, help="file that says what was pushed")
    arguments = parser.parse_args()
    if (arguments.configfile is None) == (arguments.repository is None):
        raise InputError("publish: give a model folder and owner/name, or --configfile FILE")

    public = arguments.public
    if arguments.configfile:
        config = read_config(arguments.configfile)
        targets = list(configured(config, arguments.configfile))
        public |= config["publish"].get("public", False)
    else:
        revisions = arguments.revision or ["main"]
        targets = [
            Target(arguments.model, arguments.repository, revision) for revision in revisions
        ]
    for target in targets:
        check_repository(target.repository, owner=True)
    token = None if arguments.dry_run else read_token()
    receipts = [publish(target, token is not None, public) for target in targets]
    if arguments.receipt and token is not None:
        with atomic_file(arguments.receipt) as partial:
            partial.write_text(json.dumps(receipts, indent=1) + "\n", encoding="utf-8")
    if token is None:
        print(f"nothing was pushed: {'--dry-run' if arguments.dry_run else NO_TOKEN}")
        if arguments.receipt:
            raise InputError(f"{arguments.receipt}: nothing was pushed: {NO_TOKEN}")


NO_TOKEN = "no HF_TOKEN in the environment"


def configured(config: dict[str, Any], file: Path) -> Iterator[Target]:
    """Yield the checkpoints that a configuration publishes and that are made; name the others."""
    results = Path(config["pathvars"]["results"])
    try:
        for target in published(config):
            folder = results / "models" / target.model / target.checkpoint
            if (folder / "manifest.json").is_file():
                yield Target(folder, target.repository, target.revision)
            else:
                print(f"not made yet: {folder}")
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def publish(target: Target, push: bool, public: bool) -> dict[str, Any] | None:
    """Print what a revision holds, and push it where asked; return what was pushed."""
    files = [Upload(name, path) for name, path in checked_files(target.folder).items()]
    card = finished_card(target.folder)
    files.append(Upload("README.md", card.encode()))
    at = "" if target.revision == "main" else f" at {target.revision}"
    where = f"{constants.ENDPOINT}/{target.repository}{at}"
    print(mask(f"{'push' if push else 'would push'} {target.folder} to {where}:"))
    for upload in files:
        note = ", with the run's scores" if upload.name == "README.md" else ""
        print(f"  {upload.name:32} {upload.bytes:>15,} bytes{note}")
    if not push:
        return None
    title = f"{target.folder.parent.name} {target.folder.name}"
    done = push_revision(target.repository, target.revision, files, title, not public)
    told = f"{len(done.sent)} of {len(files)} files sent" if done.sent else "was there already"
    removed = f", {len(done.removed)} others removed" if done.removed else ""
    print(mask(f"pushed: {where} ({told}{removed}), commit {done.commit}"))
    names = [upload.name for upload in files]
    return {"repository": target.repository, "revision": target.revision, "files": names}


def checked_files(folder: Path) -> dict[str, Path]:
    """Return the files of a model by their names in the repository: weights, manifest, exports.

    The card comes later. Raise `InputError` where a file is missing or has changed since.
    """
    files = vouched_files(folder, "model")
    return files | {"manifest.json": folder / "manifest.json"} | exported_files(folder)


def vouched_files(folder: Path, kind: str) -> dict[str, Path]:
    """Return the files that an artifact's manifest names, by their names, but for a model's card.

    Raises:
        InputError: a file is missing, or has another sha256 than the manifest says.
    """
    manifest = read_manifest(folder / "manifest.json", kind)
    files: dict[str, Path] = {}
    for item in manifest["outputs"]:
        path = folder / Path(item["path"]).name
        if Path(item["path"]).parent.parts[-3:] != folder.resolve().parts[-3:]:
            continue  # the log of a training, which lies elsewhere
        if not path.is_file():
            raise InputError(f"{path}: no such file, {folder / 'manifest.json'} names it")
        if sha256_file(path) != item["sha256"]:
            raise InputError(
                f"{path}: not the file that {folder / 'manifest.json'} names, its sha256 is another"
            )
        if path.name != "README.md":
            files[path.name] = path
    return files


def exported_files(folder: Path) -> dict[str, Path]:
    """Return the exports of a model by their names on the hub.

    GGUF files lie in the repository's root and ONNX files in `onnx/`: programs look for them there.

    Raises:
        InputError: a file is missing, has changed since, or was made from another model.
    """
    model, checkpoint = folder.resolve().parts[-2:]
    exports = folder.parents[2] / "exports" / model / checkpoint
    files: dict[str, Path] = {}
    for path in sorted(exports.glob("*/manifest.json")):
        manifest = read_manifest(path)
        if manifest["kind"] != "export":
            continue  # what the exports are compared with
        made_from = {Path(item["path"]).name: item["sha256"] for item in manifest["inputs"][:1]}
        if made_from != {"manifest.json": sha256_file(folder / "manifest.json")}:
            raise InputError(
                f"{path}: an export of other weights than {folder}'s; export the model again"
            )
        for name, file in vouched_files(path.parent, "export").items():
            files[f"onnx/{name}" if file.suffix == ".onnx" else name] = file
    return files


def finished_card(folder: Path) -> str:
    """Return the model's card with the scores of the run that it lies in, where there are some."""
    manifest = folder / "manifest.json"
    tables = folder.parents[2] / "tables"
    card = folder / "README.md"
    if not card.is_file():
        raise InputError(f"{card}: no such file, expected the card that was written with the model")
    if not (tables / "scores.csv").is_file():
        return card.read_text(encoding="utf-8")  # published before the run has ended
    lineage = Lineage([manifest])
    return complete_card(
        card.read_text(encoding="utf-8"),
        lineage,
        lineage.nodes[str(manifest)],
        read_tables(tables, ("scores", "contamination", "exports", "export_speeds")),
    )


if __name__ == "__main__":
    run(main)
